//! Plans of SQL statements.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::utils::datafusion_strsim;
use datafusion::common::{Column, SchemaError};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::context::{SQLOptions, SessionState};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use parking_lot::Mutex;

use super::plan::TABLES;
use super::sql_names::logical_plan;
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};

/// The maximum nesting of expressions and subqueries, counted as operators, keywords and nested parentheses. Planning
/// time is quadratic in the depth, and takes seconds at this limit.
pub(super) const MAX_LEVELS: usize = 2000;
/// The maximum distance between a name and a similar one, in characters.
const MAX_TYPOS: usize = 2;
/// The number of statements whose optimised plans are kept.
const MAX_PLANS: usize = 64;
/// The optimised plans of longer statements are not kept, because a kept plan is dropped on the caller's stack: the
/// bound of the length is one of the depth.
const MAX_PLAN_BYTES: usize = 512;
/// The maximum size of a constant of a kept plan, in bytes.
const MAX_CONSTANT_BYTES: usize = 64 << 10;

/// Plans the statements of a session.
///
/// The tables of a session do not change, so the optimised logical plan of a statement is kept: parsing and optimising
/// take longer than the execution of a query that an index answers. A physical plan holds the state of one execution,
/// so it is created for each.
pub(super) struct SqlPlanner {
    context: SessionContext,
    /// The states that no statement uses. A new one copies the maps of functions.
    states: Mutex<Vec<SessionState>>,
    /// The most recently used statement is the last.
    plans: Mutex<Vec<(Box<str>, Arc<LogicalPlan>)>>,
}

impl std::fmt::Debug for SqlPlanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlPlanner").field("session_id", &self.context.session_id()).finish_non_exhaustive()
    }
}

impl SqlPlanner {
    pub(super) fn new(context: SessionContext) -> Self {
        Self { context, states: Mutex::default(), plans: Mutex::default() }
    }

    /// The physical plan of a statement.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a statement that does not parse, names an unknown table or column, or is not a query.
    pub(super) async fn plan(&self, statement: &str) -> Result<Arc<dyn ExecutionPlan>> {
        let mut state = self.states.lock().pop().unwrap_or_else(|| self.context.state());
        // Sets the time of `now()`.
        state.mark_start_execution();
        let plan = self.plan_in(&state, statement).await;
        self.states.lock().push(state);
        plan
    }

    async fn plan_in(&self, state: &SessionState, statement: &str) -> Result<Arc<dyn ExecutionPlan>> {
        // Blanks only move the positions in errors.
        let key = statement.trim();
        if let Some(optimised) = self.kept(key) {
            return state.query_planner().create_physical_plan(&optimised, state).await.map_err(refused);
        }
        let plan = logical_plan(state, statement).await.map_err(refused)?;
        let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        read_only.verify_plan(&plan).map_err(refused)?;
        let optimised = Arc::new(state.optimize(&plan).map_err(refused)?);
        let is_repeatable = is_repeatable(&plan).map_err(refused)? && is_repeatable(&optimised).map_err(refused)?;
        let physical = state.query_planner().create_physical_plan(&optimised, state).await.map_err(refused)?;
        if is_repeatable && key.len() <= MAX_PLAN_BYTES {
            self.keep(key, optimised);
        }
        Ok(physical)
    }

    fn kept(&self, statement: &str) -> Option<Arc<LogicalPlan>> {
        let mut plans = self.plans.lock();
        let at = plans.iter().rposition(|(of, _)| **of == *statement)?;
        let used = plans.remove(at);
        let plan = Arc::clone(&used.1);
        plans.push(used);
        Some(plan)
    }

    fn keep(&self, statement: &str, plan: Arc<LogicalPlan>) {
        let mut plans = self.plans.lock();
        if plans.iter().any(|(of, _)| **of == *statement) {
            return;
        }
        let evicted = (plans.len() == MAX_PLANS).then(|| plans.remove(0));
        plans.push((statement.into(), plan));
        drop(plans);
        // Deallocation is slow, so it follows the release of the lock.
        drop(evicted);
    }
}

/// Whether the optimised plan can be reused. It cannot for `EXPLAIN`, which records the optimiser's steps, nor for
/// `now()` and the like, which the optimiser evaluates. The arguments of a table function have been evaluated already.
/// The optimiser also evaluates functions such as `repeat`, whose results are not kept if they are large.
fn is_repeatable(plan: &LogicalPlan) -> EngineResult<bool> {
    let is_of_one_execution = |expr: &Expr| match expr {
        Expr::ScalarFunction(call) => Ok(call.func.signature().volatility == Volatility::Stable),
        Expr::Literal(value, _) => Ok(value.size() > MAX_CONSTANT_BYTES),
        _ => Ok(false),
    };
    let mut repeatable = true;
    plan.apply_with_subqueries(|node| {
        repeatable &= match node {
            LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => false,
            LogicalPlan::TableScan(scan) => TABLES.contains(&scan.table_name.table()),
            _ => true,
        };
        node.apply_expressions(|expr| {
            repeatable &= !expr.exists(is_of_one_execution)?;
            Ok::<_, DataFusionError>(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(repeatable)
}

/// Refuses a statement that is nested too deeply.
pub(super) fn check_depth(statement: &str) -> Result<()> {
    // Each level has a token.
    if statement.len() <= MAX_LEVELS {
        return Ok(());
    }
    let refuse = |error| sql_error(ErrorKind::InvalidArgument, "the statement is not valid SQL", error);
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, statement).tokenize().map_err(refuse)?;
    let (mut nesting, mut open, mut max_open) = (0, 0_usize, 0);
    for token in &tokens {
        match token {
            Token::LParen => {
                open += 1;
                max_open = max_open.max(open);
            }
            Token::RParen => open = open.saturating_sub(1),
            Token::Word(word) if word.keyword == Keyword::NoKeyword => {}
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Comma | Token::Period | Token::Whitespace(_) => {}
            _ => nesting += 1,
        }
    }
    if nesting + max_open > MAX_LEVELS {
        let message = format!("the statement has more than {MAX_LEVELS} operators, keywords and nested parentheses");
        return Err(Error::new(ErrorKind::InvalidArgument, Operation::Sql, message).with_backend(BackendKind::Memory));
    }
    Ok(())
}

pub(super) fn refused(error: DataFusionError) -> Error {
    let kind = match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => ErrorKind::Backend,
        _ => ErrorKind::InvalidArgument,
    };
    sql_error(kind, "the statement cannot be planned", Cause::of(&error))
}

/// The cause of an error, without the steps of planning that passed it on.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Cause(String);

impl Cause {
    pub(super) fn of(error: &DataFusionError) -> Self {
        let root = error.find_root();
        let mut message = match root {
            DataFusionError::SQL(parsing, _) => match parsing.as_ref() {
                ParserError::TokenizerError(message) | ParserError::ParserError(message) => message.clone(),
                ParserError::RecursionLimitExceeded => parsing.to_string(),
            },
            DataFusionError::SchemaError(error, _) => of_schema(error),
            DataFusionError::NotImplemented(feature) => format!("not supported: {feature}"),
            DataFusionError::ArrowError(error, _) => of_arrow(error),
            // Without the name of the variant.
            other => other.message().into_owned(),
        };
        // A request to report the error to the authors of DataFusion.
        message.truncate(message.find(".\nThis issue was likely caused by a bug").unwrap_or(message.len()));
        // In the form of the parser, whose messages have it already.
        if let Some(start) = error.diagnostic().and_then(|found| found.span).map(|span| span.start) {
            let end = message.find('\n').unwrap_or(message.len());
            let end = message[..end].trim_end_matches('.').len();
            message.insert_str(end, &format!(" at Line: {}, Column: {}", start.line, start.column));
        }
        Self(message)
    }
}

fn of_schema(error: &SchemaError) -> String {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let distance = |known: &&Column| datafusion_strsim::levenshtein(&known.name, &field.name);
            let nearest = valid_fields.iter().min_by_key(distance).filter(|known| distance(known) <= MAX_TYPOS);
            let hint = match nearest {
                Some(nearest) => format!(".\nDid you mean {nearest}?"),
                None if valid_fields.is_empty() => String::new(),
                None => {
                    let known = valid_fields.iter().map(Column::to_string).collect::<BTreeSet<_>>();
                    format!(".\nThe columns are {}", Vec::from_iter(known).join(", "))
                }
            };
            format!("there is no column {field}{hint}")
        }
        SchemaError::AmbiguousReference { field } => format!("several tables have the column {}", field.name),
        SchemaError::DuplicateQualifiedField { qualifier, name } => {
            format!("several columns are named {qualifier}.{name}")
        }
        SchemaError::DuplicateUnqualifiedField { name } => format!("several columns are named {name}"),
    }
}

fn of_arrow(error: &ArrowError) -> String {
    match error {
        ArrowError::CastError(message)
        | ArrowError::ParseError(message)
        | ArrowError::ComputeError(message)
        | ArrowError::InvalidArgumentError(message) => message.clone(),
        other => other.to_string(),
    }
}

pub(super) fn sql_error(
    kind: ErrorKind,
    message: &str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::new(kind, Operation::Sql, message).with_backend(BackendKind::Memory).with_source(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plans_with_large_constants_are_not_kept() {
        let planner = SqlPlanner::new(SessionContext::new());
        for (statement, is_kept) in [
            ("SELECT repeat('x', 1000000)", false),
            ("SELECT unnest(range(0, 100000))", false),
            ("SELECT length(repeat('x', 1000000))", true),
        ] {
            planner.plan(&format!("\n {statement} ")).await.unwrap();
            assert_eq!(planner.kept(statement).is_some(), is_kept, "{statement}");
        }
    }
}
