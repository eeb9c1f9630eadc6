//! Cancellation of statements whose results are dropped.
//!
//! A cancelled task ends when its future yields, but a join can compute for minutes within one poll, and the tasks that
//! an operator spawns do not see that the reader has gone. So the output of each operator, and each evaluation of a
//! join's filter, is an error once the reader is dropped.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Weak};

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{ColumnarValue, Operator, Volatility, create_udf};
use datafusion::physical_expr::expressions::BinaryExpr;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::WindowAggExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use futures::StreamExt;

/// The reader of a result, who holds the strong reference.
pub(super) type Reader = Weak<()>;

/// The plan of a statement that stops when its reader is dropped.
pub(super) fn cancellable(plan: Arc<dyn ExecutionPlan>, reader: &Reader) -> EngineResult<Arc<dyn ExecutionPlan>> {
    let wrap = |plan| Ok(Transformed::yes(Arc::new(CancellableExec::new(plan, reader)?) as Arc<dyn ExecutionPlan>));
    plan.transform_up(wrap).data()
}

fn check(reader: &Reader) -> EngineResult<()> {
    if reader.strong_count() == 0 {
        return Err(DataFusionError::Execution("the statement was stopped".to_owned()));
    }
    Ok(())
}

/// An operator whose output is an error after the reader is dropped. In plans it appears as the operator itself.
#[derive(Debug)]
struct CancellableExec {
    /// The operator as planned.
    planned: Arc<dyn ExecutionPlan>,
    /// The operator to execute.
    executed: Arc<dyn ExecutionPlan>,
    reader: Reader,
    /// Reserves memory for the output, which an operator keeps without a reservation of its own.
    is_kept: bool,
}

impl CancellableExec {
    fn new(planned: Arc<dyn ExecutionPlan>, reader: &Reader) -> EngineResult<Self> {
        let executed = executed(&planned, reader)?.unwrap_or_else(|| Arc::clone(&planned));
        Ok(Self { planned, executed, reader: Reader::clone(reader), is_kept: false })
    }

    fn of(&self, plan: Arc<dyn ExecutionPlan>) -> EngineResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(plan, &self.reader)?))
    }
}

/// A modification of an operator that does not check for the reader, or reserve memory, by itself.
fn executed(plan: &Arc<dyn ExecutionPlan>, reader: &Reader) -> EngineResult<Option<Arc<dyn ExecutionPlan>>> {
    // A join emits nothing while its filter passes nothing.
    if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = join.filter()
    {
        let builder = NestedLoopJoinExecBuilder::from(join);
        return Ok(Some(Arc::new(builder.with_filter(Some(checked(filter, reader))).build()?)));
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>()
        && let Some(filter) = join.filter()
    {
        return join.builder().with_filter(Some(checked(filter, reader))).build_exec().map(Some);
    }
    if keeps_input(plan) {
        let kept = |input: &Arc<dyn ExecutionPlan>| {
            let input = CancellableExec { is_kept: true, ..CancellableExec::new(Arc::clone(input), reader)? };
            Ok(Arc::new(input) as Arc<dyn ExecutionPlan>)
        };
        let children = plan.children().into_iter().map(kept).collect::<EngineResult<_>>()?;
        return replace_children_if_necessary(Arc::clone(plan), children).map(Some);
    }
    Ok(None)
}

/// Whether an operator keeps its input without a reservation. That of aggregates counts views without their texts.
fn keeps_input(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let collects = |aggregates: &AggregateExec| {
        aggregates.aggr_expr().iter().any(|of| ["array_agg", "string_agg"].contains(&of.fun().name()))
    };
    plan.is::<WindowAggExec>() || plan.downcast_ref::<AggregateExec>().is_some_and(collects)
}

/// The filter `check() AND filter`.
fn checked(filter: &JoinFilter, reader: &Reader) -> JoinFilter {
    let reader = Reader::clone(reader);
    let function = move |_: &[ColumnarValue]| check(&reader).map(|()| ColumnarValue::Scalar(true.into()));
    let function = create_udf("check", Vec::new(), DataType::Boolean, Volatility::Volatile, Arc::new(function));
    let field = Arc::new(Field::new("check", DataType::Boolean, false));
    let options = Arc::new(ConfigOptions::default());
    let check = Arc::new(ScalarFunctionExpr::new("check", Arc::new(function), Vec::new(), field, options));
    let both = BinaryExpr::new(check, Operator::And, Arc::clone(filter.expression()));
    JoinFilter::new(Arc::new(both), filter.column_indices().to_vec(), Arc::clone(filter.schema()))
}

impl DisplayAs for CancellableExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.planned.fmt_as(format, f)
    }
}

impl ExecutionPlan for CancellableExec {
    fn name(&self) -> &str {
        self.planned.name()
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.planned.as_ref())
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.planned.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        self.planned.maintains_input_order()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.planned.children()
    }

    fn apply_expressions(
        &self,
        apply: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> EngineResult<TreeNodeRecursion>,
    ) -> EngineResult<TreeNodeRecursion> {
        self.planned.apply_expressions(apply)
    }

    fn dynamic_expressions_produced(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        self.planned.dynamic_expressions_produced()
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        self.of(Arc::clone(&self.planned).replace_children(children, options)?)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn reset_state(self: Arc<Self>) -> EngineResult<Arc<dyn ExecutionPlan>> {
        self.of(Arc::clone(&self.planned).reset_state()?)
    }

    fn with_new_state(&self, state: Arc<dyn Any + Send + Sync>) -> Option<Arc<dyn ExecutionPlan>> {
        self.of(self.planned.with_new_state(state)?).ok()
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> EngineResult<SendableRecordBatchStream> {
        check(&self.reader)?;
        let pool = Arc::clone(context.memory_pool());
        let batches = self.executed.execute(partition, context)?;
        let (schema, reader) = (batches.schema(), Reader::clone(&self.reader));
        let kept = self.is_kept.then(|| MemoryConsumer::new(self.name()).register(&pool));
        let checked = batches.map(move |batch| {
            check(&reader)?;
            let batch = batch?;
            if let Some(kept) = &kept {
                // The operator also concatenates the batches.
                kept.try_grow(2 * batch.get_array_memory_size())?;
            }
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, checked)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.executed.metrics()
    }
}
