//! The filters of joins and top-k operators, on columns that are stored as they are.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, NullArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, IsNotNullExpr, IsNullExpr, Literal, lit};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExprRef, conjunction};
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;

/// Whether a column shares the stored array: a number or a time. Ids and texts are converted.
pub(super) fn is_stored(schema: &Schema, column: &Column) -> bool {
    schema.fields().get(column.index()).is_some_and(|field| field.data_type().is_primitive())
}

/// The rows of a chunk for which some filters may be true, at the time of the call; `None` if the filters have no
/// condition on stored columns. The other columns need to be converted for these rows only.
pub(super) fn kept(
    filters: &[PhysicalExprRef],
    schema: &SchemaRef,
    rows: usize,
    values: impl Fn(usize) -> EngineResult<ArrayRef>,
) -> EngineResult<Option<BooleanBuffer>> {
    let conditions = filters.iter().map(|filter| weakened(filter, schema)).collect::<EngineResult<Vec<_>>>()?;
    let condition = conjunction(conditions);
    let used = collect_columns(&condition);
    if used.is_empty() {
        return Ok(None);
    }
    // Columns that are not used are replaced by nulls, so that the indices remain.
    let column = |(at, field): (usize, &Arc<Field>)| -> EngineResult<(Arc<Field>, ArrayRef)> {
        Ok(if used.iter().any(|column| column.index() == at) {
            (Arc::clone(field), values(at)?)
        } else {
            (Arc::new(Field::new(field.name(), DataType::Null, true)), Arc::new(NullArray::new(rows)))
        })
    };
    let columns = schema.fields().iter().enumerate().map(column).collect::<EngineResult<Vec<_>>>()?;
    let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let kept = condition.evaluate(&batch)?.into_array(rows)?;
    let kept = kept.as_boolean();
    Ok(Some(match kept.nulls() {
        Some(nulls) => kept.values() & nulls.inner(),
        None => kept.values().clone(),
    }))
}

/// A condition on stored columns that is true where the filter is true: other conditions are replaced by true. Only
/// columns and literals are compared, because other operands can fail for rows that an operator above removes.
fn weakened(filter: &PhysicalExprRef, schema: &Schema) -> EngineResult<PhysicalExprRef> {
    let is_operand = |operand: &&PhysicalExprRef| match operand.downcast_ref::<Column>() {
        Some(column) => is_stored(schema, column),
        None => operand.downcast_ref::<Literal>().is_some(),
    };
    let weaken = |expr: PhysicalExprRef| {
        let binary = expr.downcast_ref::<BinaryExpr>();
        if binary.is_some_and(|binary| matches!(binary.op(), Operator::And | Operator::Or)) {
            return Ok(Transformed::no(expr));
        }
        let is_test = expr.downcast_ref::<IsNullExpr>().is_some() || expr.downcast_ref::<IsNotNullExpr>().is_some();
        let is_kept = expr.downcast_ref::<Literal>().is_some()
            || ((binary.is_some() || is_test) && expr.children().iter().all(is_operand));
        Ok(Transformed::new(if is_kept { expr } else { lit(true) }, !is_kept, TreeNodeRecursion::Jump))
    };
    snapshot_physical_expr(Arc::clone(filter))?.transform_down(weaken).data()
}
