//! Results with several columns of the same name, which DataFusion's projections refuse.

use std::sync::Arc;

use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::logical_plan::Projection;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Ident, SelectItem, SetExpr};

use super::sql_syntax::regroup;

/// Separates a name from the position of its column, while the statement is planned.
const MARK: char = '\u{1}';

/// The plan of a statement.
pub(super) async fn logical_plan(state: &SessionState, statement: &str) -> EngineResult<LogicalPlan> {
    let mut parsed = state.sql_to_statement(statement, &state.config_options().sql_parser.dialect)?;
    regroup(&mut parsed);
    match state.statement_to_plan(parsed.clone()).await {
        Err(error) if is_of_names(&error) => {
            if let Statement::Statement(statement) = &mut parsed
                && let ast::Statement::Query(query) = &mut **statement
            {
                mark(&mut query.body);
            }
            // Names that are still repeated are those of a subquery.
            let plan = state.statement_to_plan(parsed).await.map_err(|_| error)?;
            unmark(plan)
        }
        planned => planned,
    }
}

fn is_of_names(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::Plan(message) if message.contains("unique expression names"))
}

/// Adds the positions of the columns to their names.
fn mark(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            for (at, item) in select.projection.iter_mut().enumerate() {
                let (expr, name) = match item {
                    SelectItem::UnnamedExpr(expr) => (expr.clone(), name(expr)),
                    SelectItem::ExprWithAlias { expr, alias } => (expr.clone(), alias.value.clone()),
                    _ => continue,
                };
                *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', format!("{name}{MARK}{at}")) };
            }
        }
        SetExpr::Query(query) => mark(&mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            mark(left);
            mark(right);
        }
        _ => {}
    }
}

fn name(expr: &ast::Expr) -> String {
    match expr {
        ast::Expr::Identifier(name) => name.value.clone(),
        ast::Expr::CompoundIdentifier(names) => names.last().map(|name| name.value.clone()).unwrap_or_default(),
        other => other.to_string(),
    }
}

/// Removes the positions. A qualifier, which results do not show, distinguishes the columns.
fn unmark(plan: LogicalPlan) -> EngineResult<LogicalPlan> {
    let columns = plan.schema().columns().into_iter().map(|column| match column.name.clone().split_once(MARK) {
        Some((name, at)) => Expr::Column(column).alias_qualified(Some(at), name),
        None => Expr::Column(column),
    });
    Ok(LogicalPlan::Projection(Projection::try_new(columns.collect(), Arc::new(plan))?))
}
