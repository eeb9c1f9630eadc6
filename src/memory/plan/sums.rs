//! Sums of integers, which wrap in DataFusion: an overflow is an error here.

use std::mem::{size_of_val, take};
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue, exec_err};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::logical_plan::{Aggregate, Projection, Window};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, Expr, ExprSchemable, LogicalPlan, Volatility, cast, create_udaf,
};

/// The type in which integers are added: the sum of 10¹⁹ of them does not overflow.
const INTEGER: DataType = DataType::Decimal128(19, 0);
/// The type of sums.
const SUM: DataType = DataType::Decimal128(38, 0);

/// The sum without GROUP BY. It is named like DataFusion's, because the columns of the plan have its name.
static EXACT_SUM: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| {
    let accumulator = |_: AccumulatorArgs<'_>| EngineResult::<Box<dyn Accumulator>>::Ok(Box::new(ExactSum(None)));
    let (input, output) = (vec![DataType::Int64], Arc::new(DataType::Int64));
    Arc::new(create_udaf("sum", input, output, Volatility::Immutable, Arc::new(accumulator), Arc::new(vec![SUM])))
});

pub(super) fn of_aggregate(
    Aggregate { input, group_expr, aggr_expr, schema, .. }: Aggregate,
) -> EngineResult<Transformed<LogicalPlan>> {
    let (aggr_expr, changed) = exact(aggr_expr, input.schema(), group_expr.is_empty())?;
    let plan = LogicalPlan::Aggregate(Aggregate::try_new(input, group_expr, aggr_expr)?);
    as_integers(plan, &schema, changed)
}

pub(super) fn of_window(Window { input, window_expr, schema, .. }: Window) -> EngineResult<Transformed<LogicalPlan>> {
    let (window_expr, changed) = exact(window_expr, input.schema(), false)?;
    let plan = LogicalPlan::Window(Window::try_new(window_expr, input)?);
    as_integers(plan, &schema, changed)
}

/// Replaces the sums of integers by sums of decimals, or by [`EXACT_SUM`], which is several times as fast but has no
/// groups. Returns whether there are any.
fn exact(exprs: Vec<Expr>, schema: &DFSchema, is_one_group: bool) -> EngineResult<(Vec<Expr>, bool)> {
    let mut changed = false;
    let is_integer = |args: &[Expr]| matches!(args, [arg] if arg.get_type(schema).is_ok_and(|data_type| data_type.is_signed_integer()));
    let mut rewrite = |mut expr: Expr| {
        let args = match &mut expr {
            Expr::AggregateFunction(call) if call.func.name() == "sum" && is_integer(&call.params.args) => {
                if is_one_group && !call.params.distinct {
                    call.func = Arc::clone(&EXACT_SUM);
                    changed = true;
                    return Ok(Transformed::new(expr, true, TreeNodeRecursion::Jump));
                }
                &mut call.params.args
            }
            Expr::WindowFunction(call) if call.fun.name() == "sum" && is_integer(&call.params.args) => {
                &mut call.params.args
            }
            _ => return Ok(Transformed::no(expr)),
        };
        args.iter_mut().for_each(|arg| *arg = cast(take(arg), INTEGER));
        changed = true;
        Ok(Transformed::new(expr, true, TreeNodeRecursion::Jump))
    };
    let exprs = exprs.into_iter().map(|expr| expr.transform_down(&mut rewrite).map(|expr| expr.data));
    let exprs = exprs.collect::<EngineResult<_>>()?;
    Ok((exprs, changed))
}

/// Casts the decimal columns of a plan to the types of `schema`.
fn as_integers(plan: LogicalPlan, schema: &DFSchema, changed: bool) -> EngineResult<Transformed<LogicalPlan>> {
    if !changed {
        return Ok(Transformed::no(plan));
    }
    let columns = plan.schema().columns().into_iter().zip(schema.iter());
    let columns = columns.map(|(column, (qualifier, field))| {
        let expr = Expr::Column(column);
        match expr.get_type(plan.schema())? {
            data_type if data_type == *field.data_type() => Ok(expr),
            _ => Ok(cast(expr, field.data_type().clone()).alias_qualified(qualifier.cloned(), field.name())),
        }
    });
    let columns = columns.collect::<EngineResult<_>>()?;
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?)))
}

/// The sum of integers; `None` without a value.
#[derive(Debug)]
struct ExactSum(Option<i128>);

impl ExactSum {
    fn add(&mut self, sum: Option<i128>) {
        self.0 = self.0.into_iter().chain(sum).reduce(|left, right| left + right);
    }
}

impl Accumulator for ExactSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> EngineResult<()> {
        self.add(sum(values[0].as_primitive()));
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> EngineResult<()> {
        self.add(datafusion::arrow::compute::sum(states[0].as_primitive::<Decimal128Type>()));
        Ok(())
    }

    fn state(&mut self) -> EngineResult<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Decimal128(self.0, 38, 0)])
    }

    fn evaluate(&mut self) -> EngineResult<ScalarValue> {
        match self.0.map(i64::try_from) {
            None => Ok(ScalarValue::Int64(None)),
            Some(Ok(sum)) => Ok(ScalarValue::Int64(Some(sum))),
            Some(Err(_)) => exec_err!("the sum is out of range Int64"),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// Adds the upper and lower halves of the values separately, because additions of 64 bits are vectorised.
fn sum(values: &PrimitiveArray<Int64Type>) -> Option<i128> {
    if values.null_count() == values.len() {
        return None;
    }
    let halves =
        |(upper, lower): (i64, u64), value: i64| (upper + (value >> 32), lower + (value as u64 & u64::from(u32::MAX)));
    let (upper, lower) = match values.nulls() {
        None => values.values().iter().copied().fold((0, 0), halves),
        Some(_) => values.iter().flatten().fold((0, 0), halves),
    };
    Some((i128::from(upper) << 32) + i128::from(lower))
}
