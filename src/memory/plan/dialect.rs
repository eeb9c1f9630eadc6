//! Corrections of DataFusion's dialect: expressions and plans whose results would be wrong are rewritten, or refused with
//! the reason.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, NullEquality, ScalarValue, not_impl_err};
use datafusion::error::Result as EngineResult;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::functions::math::expr_fn::round;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::logical_plan::{Distinct, DistinctOn, Join, Window};
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawAggregateExpr, RawWindowExpr, RelationPlanner, RelationPlannerContext,
    RelationPlanning,
};
use datafusion::logical_expr::{
    Between, BinaryExpr, Cast, Expr, ExprFunctionExt, ExprSchemable, JoinType, LogicalPlan, LogicalPlanBuilder,
    Operator, ScalarUDF, TryCast, cast, lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::sqlparser::ast::TableFactor;

use super::functions::{self, CheckedArithmetic};
use super::sums;
use super::times::compared;

/// Adds the corrections to a session.
pub(super) fn apply(mut state: SessionState) -> EngineResult<SessionState> {
    functions::register(&mut state)?;
    let date_part = state.udf("date_part")?;
    state.register_function_rewrite(Arc::new(Expressions { date_part }))?;
    state.add_analyzer_rule(Arc::new(Plans));
    state.register_expr_planner(Arc::new(CastNames))?;
    Ok(state)
}

/// Rewrites expressions, before the type coercion.
#[derive(Debug)]
struct Expressions {
    /// `EXTRACT` calls DataFusion's function, not the registered one.
    date_part: Arc<ScalarUDF>,
}

impl FunctionRewrite for Expressions {
    fn name(&self) -> &str {
        "dialect"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> EngineResult<Transformed<Expr>> {
        // An expression without a type is refused by the type coercion.
        let type_of = |expr: &Expr| expr.get_type(schema).unwrap_or(DataType::Null);
        let compared = |operand: Expr, other: &DataType| {
            let data_type = type_of(&operand);
            compared(operand, &data_type, other)
        };
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) => {
                let types = (type_of(&left), type_of(&right));
                let (left, right) = (compared(*left, &types.1)?, compared(*right, &types.0)?);
                Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
            }
            Expr::Between(Between { expr, negated, low, high }) => {
                let types = (type_of(&expr), type_of(&low));
                let (low, high) = (compared(*low, &types.0)?, compared(*high, &types.0)?);
                let expr = compared(*expr, &types.1)?;
                Transformed::yes(Expr::Between(Between::new(Box::new(expr), negated, Box::new(low), Box::new(high))))
            }
            Expr::InList(InList { expr, list, negated }) => {
                let data_type = type_of(&expr);
                let (nulls, list): (Vec<_>, Vec<_>) = list.into_iter().partition(is_null);
                let list = list.into_iter().map(|item| compared(item, &data_type)).collect::<EngineResult<Vec<_>>>()?;
                let unknown = || lit(ScalarValue::Boolean(None));
                // DataFusion ignores a NULL if it merges the list with another one.
                Transformed::yes(match (list.is_empty(), nulls.is_empty(), negated) {
                    (true, false, _) => unknown(),
                    (_, true, _) => Expr::InList(InList::new(expr, list, negated)),
                    (_, false, true) => Expr::InList(InList::new(expr, list, true)).and(unknown()),
                    (_, false, false) => Expr::InList(InList::new(expr, list, false)).or(unknown()),
                })
            }
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: op @ (Operator::Plus | Operator::Minus | Operator::Multiply),
                right,
            }) if type_of(&left).is_integer() && type_of(&right).is_integer() => {
                let operands = [*left, *right].map(|operand| match type_of(&operand) {
                    DataType::Int64 => operand,
                    _ => cast(operand, DataType::Int64),
                });
                Transformed::yes(CheckedArithmetic::udf(op).call(operands.into()))
            }
            Expr::Cast(Cast { expr, field }) if field.data_type().is_integer() && is_fraction(&type_of(&expr)) => {
                Transformed::yes(Expr::Cast(Cast::new_from_field(rounded(*expr), field)))
            }
            Expr::TryCast(TryCast { expr, field })
                if field.data_type().is_integer() && is_fraction(&type_of(&expr)) =>
            {
                Transformed::yes(Expr::TryCast(TryCast::new_from_field(rounded(*expr), field)))
            }
            Expr::ScalarFunction(call) if call.name() == self.date_part.name() => {
                Transformed::yes(self.date_part.call(call.args))
            }
            Expr::AggregateFunction(mut call) if call.func.name() == "approx_distinct" => {
                let is_text = |arg: &Expr| matches!(type_of(arg), DataType::Dictionary(..));
                let plain = |arg: Expr| if is_text(&arg) { cast(arg, DataType::Utf8View) } else { arg };
                call.params.args = call.params.args.into_iter().map(plain).collect();
                Transformed::yes(Expr::AggregateFunction(call))
            }
            Expr::SimilarTo(_) => return not_impl_err!("SIMILAR TO, use ~ with a regular expression"),
            other => Transformed::no(other),
        })
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}

fn is_comparison(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// The nearest integer, in an expression of the same name. A half is rounded away from zero.
fn rounded(expr: Expr) -> Box<Expr> {
    let name = expr.schema_name().to_string();
    Box::new(round(vec![expr]).alias(name))
}

fn is_fraction(data_type: &DataType) -> bool {
    data_type.is_floating() || data_type.is_decimal()
}

/// Names the arguments of aggregates with their casts, which DataFusion leaves out of names: it refuses aggregates of the
/// same name.
#[derive(Debug)]
struct CastNames;

impl ExprPlanner for CastNames {
    fn plan_aggregate(&self, mut call: RawAggregateExpr) -> EngineResult<PlannerResult<RawAggregateExpr>> {
        call.args = call.args.into_iter().map(named).collect::<EngineResult<_>>()?;
        Ok(PlannerResult::Original(call))
    }

    fn plan_window(&self, mut call: RawWindowExpr) -> EngineResult<PlannerResult<RawWindowExpr>> {
        call.args = call.args.into_iter().map(named).collect::<EngineResult<_>>()?;
        Ok(PlannerResult::Original(call))
    }
}

fn named(arg: Expr) -> EngineResult<Expr> {
    let has_cast = arg.exists(|expr| Ok(matches!(expr, Expr::Cast(_) | Expr::TryCast(_))))?;
    let name = arg.to_string();
    Ok(if has_cast { arg.alias(name) } else { arg })
}

/// Refuses samples, which DataFusion ignores.
#[derive(Debug)]
pub(super) struct Samples;

impl RelationPlanner for Samples {
    fn plan_relation(
        &self,
        relation: TableFactor,
        _: &mut dyn RelationPlannerContext,
    ) -> EngineResult<RelationPlanning> {
        match relation {
            TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => {
                not_impl_err!("TABLESAMPLE")
            }
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

/// Rewrites plans, after the type coercion.
#[derive(Debug)]
struct Plans;

impl AnalyzerRule for Plans {
    fn name(&self) -> &str {
        "dialect"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> EngineResult<LogicalPlan> {
        let rewrite = |plan| match plan {
            LogicalPlan::Join(join) => with_duplicates(join),
            LogicalPlan::Distinct(Distinct::On(distinct)) => first_of_each(distinct),
            LogicalPlan::Aggregate(aggregate) => {
                check_subqueries(&aggregate.group_expr)?;
                sums::of_aggregate(aggregate)
            }
            LogicalPlan::Projection(projection) => {
                check_subqueries(&projection.expr)?;
                Ok(Transformed::no(LogicalPlan::Projection(projection)))
            }
            LogicalPlan::Window(window) => {
                check_window(&window)?;
                sums::of_window(window)
            }
            other => Ok(Transformed::no(other)),
        };
        Ok(plan.transform_up_with_subqueries(rewrite)?.data)
    }
}

/// Refuses subqueries that DataFusion plans in filters only.
fn check_subqueries(exprs: &[Expr]) -> EngineResult<()> {
    for expr in exprs {
        if expr.exists(|expr| Ok(matches!(expr, Expr::InSubquery(_) | Expr::Exists(_))))? {
            return not_impl_err!("IN and EXISTS with a subquery outside of WHERE");
        }
    }
    Ok(())
}

/// Refuses lists in ordered windows: the lists of a batch are computed at once, and take memory and time in proportion to
/// the square of the rows.
fn check_window(window: &Window) -> EngineResult<()> {
    let is_list = |expr: &Expr| match expr {
        Expr::WindowFunction(call) => {
            Ok(["array_agg", "string_agg"].contains(&call.fun.name()) && !call.params.order_by.is_empty())
        }
        _ => Ok(false),
    };
    for expr in &window.window_expr {
        if expr.exists(is_list)? {
            return not_impl_err!("array_agg and string_agg over an ordered window");
        }
    }
    Ok(())
}

/// The name of the number of a row among its duplicates.
const DUPLICATE: &str = "\u{1}duplicate";

/// Plans `DISTINCT ON` by the numbers of the rows with equal keys, after a sort, which spills. DataFusion aggregates the
/// first value of each column, so that a group takes the sort keys once for each column, and reserves them too late.
fn first_of_each(distinct: DistinctOn) -> EngineResult<Transformed<LogicalPlan>> {
    let DistinctOn { on_expr, select_expr, sort_expr, input, schema } = distinct;
    let order = sort_expr.unwrap_or_default();
    let number = row_number().partition_by(on_expr).order_by(order.clone()).build()?.alias(DUPLICATE);
    let first = Expr::Column(Column::from_name(DUPLICATE)).eq(lit(1_u64));
    let named = select_expr.into_iter().zip(schema.iter());
    let columns = named.map(|(expr, (qualifier, field))| expr.alias_qualified(qualifier.cloned(), field.name()));
    let rows = LogicalPlanBuilder::from(input).window([number])?.filter(first)?;
    let rows = if order.is_empty() { rows } else { rows.sort(order)? };
    Ok(Transformed::yes(rows.project(columns)?.build()?))
}

/// Numbers the duplicates of `INTERSECT ALL` and `EXCEPT ALL`, so that each row matches one row of the other side.
/// DataFusion plans them as semi and anti joins of the rows.
fn with_duplicates(join: Join) -> EngineResult<Transformed<LogicalPlan>> {
    let is_set_operation = matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull;
    // Without ALL, the rows of the left side are distinct.
    if !is_set_operation || matches!(*join.left, LogicalPlan::Distinct(_)) {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    }
    let numbered = |rows: &Arc<LogicalPlan>| {
        let columns = rows.schema().columns().into_iter().map(Expr::Column).collect();
        let number = row_number().partition_by(columns).build()?.alias(DUPLICATE);
        LogicalPlanBuilder::from(Arc::clone(rows)).window([number])?.build().map(Arc::new)
    };
    let Join { left, right, mut on, filter, join_type, join_constraint, schema, null_equality, .. } = join;
    let number = || Expr::Column(Column::from_name(DUPLICATE));
    on.push((number(), number()));
    let (left, right) = (numbered(&left)?, numbered(&right)?);
    let join = Join::try_new(left, right, on, filter, join_type, join_constraint, null_equality, false)?;
    let rows = LogicalPlanBuilder::from(LogicalPlan::Join(join));
    Ok(Transformed::yes(rows.project(schema.columns().into_iter().map(Expr::Column))?.build()?))
}
