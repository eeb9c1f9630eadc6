//! Conditions that require a column to equal one of some texts, which scans look up in the indexes of ids.

use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{self as logical, Expr, Operator};
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, DynamicFilterPhysicalExpr, InListExpr, Literal};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter_pushdown::{ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation};

/// The column and the texts of a condition.
pub(super) fn of_condition(condition: &Expr) -> Option<(&str, Vec<String>)> {
    match condition {
        // DataFusion converts a short IN list to a disjunction.
        Expr::BinaryExpr(logical::BinaryExpr { left, op: Operator::Or, right }) => {
            let ((column, mut texts), (other, more)) = (of_condition(left)?, of_condition(right)?);
            texts.extend(more);
            (column == other).then_some((column, texts))
        }
        Expr::BinaryExpr(logical::BinaryExpr { left, op: Operator::Eq, right }) => match (&**left, &**right) {
            (Expr::Column(column), value) | (value, Expr::Column(column)) => Some((&column.name, vec![text(value)?])),
            _ => None,
        },
        Expr::InList(InList { expr, list, negated: false }) => {
            let Expr::Column(column) = &**expr else { return None };
            Some((&column.name, list.iter().map(text).collect::<Option<_>>()?))
        }
        _ => None,
    }
}

fn text(expr: &Expr) -> Option<String> {
    expr.as_literal()?.try_as_str()?.map(str::to_owned)
}

/// The answer of a scan to the filters that the optimiser offers. `with_filters` is the scan with those of joins and
/// top-k operators that refer to a column of ids, or to one that is stored as it is.
pub(super) fn accept(
    phase: FilterPushdownPhase,
    offered: ChildPushdownResult,
    accepts: impl Fn(&Column) -> bool,
    with_filters: impl FnOnce(Vec<PhysicalExprRef>) -> Arc<dyn ExecutionPlan>,
) -> FilterPushdownPropagation<Arc<dyn ExecutionPlan>> {
    let of_column = |filter: &PhysicalExprRef| {
        filter.downcast_ref::<DynamicFilterPhysicalExpr>().is_some() && collect_columns(filter).iter().any(&accepts)
    };
    let filters = offered.parent_filters.iter().map(|offered| &offered.filter);
    let filters = filters.filter(|filter| phase == FilterPushdownPhase::Post && of_column(filter));
    let filters: Vec<_> = filters.cloned().collect();
    // The operator tests the rows again.
    let answer = FilterPushdownPropagation::all_unsupported(offered);
    if filters.is_empty() { answer } else { answer.with_updated_node(with_filters(filters)) }
}

/// Visits the filters that a scan holds: a join evaluates a filter only if a scan holds it.
pub(super) fn visit(
    filters: &[PhysicalExprRef],
    visit: &mut dyn FnMut(&PhysicalExprRef) -> EngineResult<TreeNodeRecursion>,
) -> EngineResult<TreeNodeRecursion> {
    filters.iter().try_fold(TreeNodeRecursion::Continue, |next, filter| next.visit_sibling(|| visit(filter)))
}

/// The texts of a filter on a column of ids, at the time of the call.
pub(super) fn of_filter(
    filter: &PhysicalExprRef,
    is_id: &impl Fn(&Column) -> bool,
) -> EngineResult<Option<Vec<String>>> {
    if let Some(filter) = filter.downcast_ref::<DynamicFilterPhysicalExpr>() {
        return of_filter(&filter.current()?, is_id);
    }
    if let Some(both) = filter.downcast_ref::<BinaryExpr>().filter(|both| *both.op() == Operator::And) {
        let left = of_filter(both.left(), is_id)?;
        return if left.is_some() { Ok(left) } else { of_filter(both.right(), is_id) };
    }
    let is_of_id = |list: &&InListExpr| list.expr().downcast_ref::<Column>().is_some_and(is_id);
    let list = filter.downcast_ref::<InListExpr>().filter(|list| !list.negated() && is_of_id(list));
    let Some(list) = list else { return Ok(None) };
    let mut texts = Vec::new();
    for item in list.list() {
        match item.downcast_ref::<Literal>().and_then(|literal| literal.value().try_as_str()) {
            Some(text) => texts.extend(text.map(str::to_owned)),
            None => return Ok(None),
        }
    }
    Ok(Some(texts))
}
