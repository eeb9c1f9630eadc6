//! Times in SQL: literals and types of times have microsecond precision, like the columns.
//!
//! DataFusion's `TIMESTAMP` is in nanoseconds, which overflow in 2262; stored times extend to 2299.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, cast};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::sqlparser::ast;

pub(super) const TIME: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// Plans the SQL types `TIMESTAMP` and `TIMESTAMPTZ`.
#[derive(Debug)]
pub(super) struct TimeTypes;

impl TypePlanner for TimeTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> EngineResult<Option<FieldRef>> {
        // An explicit precision is not changed.
        let is_time = matches!(sql_type, ast::DataType::Timestamp(None, _) | ast::DataType::Datetime(None));
        Ok(is_time.then(|| Arc::new(Field::new("", TIME, true))))
    }
}

/// Casts string literals that are compared with a time to the type of time columns. It runs before DataFusion's type
/// coercion, which would cast both sides to nanoseconds.
#[derive(Debug)]
pub(super) struct TimeLiterals;

impl AnalyzerRule for TimeLiterals {
    fn name(&self) -> &str {
        "time_literals"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> EngineResult<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(rewrite_plan)?.data)
    }
}

fn rewrite_plan(plan: LogicalPlan) -> EngineResult<Transformed<LogicalPlan>> {
    if !has_text(&plan)? {
        return Ok(Transformed::no(plan));
    }
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
    }
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let rewritten = expr.transform_up(|expr| Ok(rewrite(expr, &schema)))?;
        Ok(rewritten.update_data(|expr| name.restore(expr)))
    })
}

fn rewrite(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    // The type is computed only next to a string literal, because it requires a traversal of the expression.
    let is_time = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Timestamp(TimeUnit::Microsecond, _)));
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) => {
            let (left, right, changed) = match (is_text(&left), is_text(&right)) {
                (true, false) if is_time(&right) => (Box::new(cast(*left, TIME)), right, true),
                (false, true) if is_time(&left) => (left, Box::new(cast(*right, TIME)), true),
                _ => (left, right, false),
            };
            Transformed::new_transformed(Expr::BinaryExpr(BinaryExpr { left, op, right }), changed)
        }
        Expr::Between(Between { expr, negated, low, high }) if (is_text(&low) || is_text(&high)) && is_time(&expr) => {
            let (low, high) = (Box::new(as_time(*low)), Box::new(as_time(*high)));
            Transformed::yes(Expr::Between(Between { expr, negated, low, high }))
        }
        Expr::InList(InList { expr, list, negated }) if list.iter().any(is_text) && is_time(&expr) => {
            let list = list.into_iter().map(as_time).collect();
            Transformed::yes(Expr::InList(InList { expr, list, negated }))
        }
        other => Transformed::no(other),
    }
}

/// Whether the expressions of a node contain a string literal. Nodes without one are skipped, because merging the
/// schemas of the inputs takes longer than this test.
fn has_text(plan: &LogicalPlan) -> EngineResult<bool> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        found = expr.exists(|expr| Ok(is_text(expr)))?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn is_comparison(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn is_text(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Literal(ScalarValue::Utf8(Some(_)) | ScalarValue::LargeUtf8(Some(_)) | ScalarValue::Utf8View(Some(_)), _)
    )
}

fn as_time(expr: Expr) -> Expr {
    if is_text(&expr) { cast(expr, TIME) } else { expr }
}
