//! The sort of groups.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, TimestampSecondArray, UInt32Array};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{
    DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType, UInt32Type, UInt64Type,
};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, internal_err};
use datafusion::error::Result as EngineResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildStats, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, StatisticsArgs,
};
use futures::{TryStreamExt, stream};

use super::aggregate;
use super::properties::of_blocking;
use crate::memory::query::{GroupKey, rounded};
use crate::model::StateSet;
use crate::query::{Aggregates, Direction, GroupOrder, GroupOrderKey, TimeAggregate};

/// The column of transition times.
const LAST_TRANSITION_TIME: &str = "last_transition_time";

/// Sorts groups, with an optional limit, and divides sums to averages.
///
/// Averages are compared before they are rounded, and names by their dictionary values, without a string column.
/// DataFusion's `SortExec` would need additional columns for both.
#[derive(Debug, Clone)]
pub(super) struct GroupSortExec {
    input: Arc<dyn ExecutionPlan>,
    key: GroupKey,
    aggregates: Aggregates,
    order: Option<GroupOrder>,
    fetch: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// The columns of [`aggregate::schema`], with the transition time in whole seconds.
pub(super) fn schema(aggregates: Aggregates) -> SchemaRef {
    let fields = aggregate::schema(aggregates);
    let kept = fields.fields().len() - usize::from(aggregates.last_transition_time().is_some());
    let mut fields: Vec<Field> = fields.fields().iter().take(kept).map(|field| field.as_ref().clone()).collect();
    if aggregates.last_transition_time().is_some() {
        fields.push(Field::new(LAST_TRANSITION_TIME, DataType::Timestamp(TimeUnit::Second, None), false));
    }
    Arc::new(Schema::new(fields))
}

impl GroupSortExec {
    pub(super) fn new(
        input: Arc<dyn ExecutionPlan>,
        key: GroupKey,
        aggregates: Aggregates,
        order: Option<GroupOrder>,
        fetch: Option<usize>,
    ) -> Self {
        let properties = Arc::new(of_blocking(schema(aggregates)));
        Self { input, key, aggregates, order, fetch, properties, metrics: ExecutionPlanMetricsSet::new() }
    }

    async fn sort(self, input: SendableRecordBatchStream, metrics: BaselineMetrics) -> EngineResult<RecordBatch> {
        let schema = input.schema();
        let batches: Vec<RecordBatch> = input.try_collect().await?;
        let _timer = metrics.elapsed_compute().timer();
        let groups = match batches.as_slice() {
            [only] => only.clone(),
            batches => concat_batches(&schema, batches)?,
        };
        let sorted = take_record_batch(&groups, &self.sorted(&Columns::new(&groups, self.aggregates)))?;
        let mut columns = sorted.columns().to_vec();
        if let Some(aggregate) = self.aggregates.last_transition_time()
            && let Some(last) = columns.pop()
        {
            columns.push(transition_times(last.as_primitive(), &sorted, aggregate));
        }
        Ok(RecordBatch::try_new(self.schema(), columns)?.record_output(&metrics))
    }

    /// The indices of the groups of the page, in order.
    fn sorted(&self, columns: &Columns<'_>) -> UInt32Array {
        let mut places: Vec<u32> = (0..columns.groups.len() as u32).collect();
        let limit = self.fetch.unwrap_or(usize::MAX);
        if let Some(GroupOrder { key, direction }) = self.order {
            let compare = |&a: &u32, &b: &u32| {
                let ascending = columns.compare(&self.key, key, self.aggregates, a as usize, b as usize);
                let ordered = if direction == Direction::Ascending { ascending } else { ascending.reverse() };
                // The contract orders ties by name.
                ordered.then_with(|| self.key.compare_names(columns.groups[a as usize], columns.groups[b as usize]))
            };
            if limit < places.len() {
                places.select_nth_unstable_by(limit, compare);
                places.truncate(limit);
            }
            places.sort_unstable_by(compare);
        }
        places.truncate(limit);
        places.into()
    }
}

/// The sort keys of groups.
struct Columns<'a> {
    groups: &'a [u32],
    counts: &'a [u64],
    submitted: &'a [i64],
    transitions: &'a [i64],
}

impl<'a> Columns<'a> {
    fn new(batch: &'a RecordBatch, aggregates: Aggregates) -> Self {
        let states = aggregates.states().map_or(0, StateSet::len);
        let submitted = aggregates.submitted().then(|| batch.column(2 + states));
        let transitions = aggregates.last_transition_time().and_then(|_| batch.columns().last());
        Self {
            groups: batch.column(0).as_primitive::<UInt32Type>().values(),
            counts: batch.column(1).as_primitive::<UInt64Type>().values(),
            submitted: submitted.map_or(&[], |times| times.as_primitive::<TimestampMicrosecondType>().values()),
            transitions: transitions.map_or(&[], |times| times.as_primitive::<Int64Type>().values()),
        }
    }

    fn compare(&self, names: &GroupKey, key: GroupOrderKey, aggregates: Aggregates, a: usize, b: usize) -> Ordering {
        match key {
            GroupOrderKey::Count => self.counts[a].cmp(&self.counts[b]),
            GroupOrderKey::Name => names.compare_names(self.groups[a], self.groups[b]),
            GroupOrderKey::Submitted => self.submitted[a].cmp(&self.submitted[b]),
            GroupOrderKey::LastTransitionTime => {
                let [left, right] = [a, b].map(|at| i128::from(self.transitions[at]));
                match aggregates.last_transition_time() {
                    Some(TimeAggregate::Average) => {
                        (left * i128::from(self.counts[b])).cmp(&(right * i128::from(self.counts[a])))
                    }
                    _ => left.cmp(&right),
                }
            }
        }
    }
}

fn transition_times(values: &Int64Array, groups: &RecordBatch, aggregate: TimeAggregate) -> ArrayRef {
    let counts = groups.column(1).as_primitive::<UInt64Type>().values();
    let seconds = values.values().iter().zip(counts).map(|(&value, &count)| match aggregate {
        TimeAggregate::Average => rounded(value, count as i64),
        TimeAggregate::Earliest | TimeAggregate::Latest => value,
    });
    Arc::new(TimestampSecondArray::from_iter_values(seconds))
}

impl DisplayAs for GroupSortExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupSortExec:")?;
        if let Some(limit) = self.fetch {
            write!(f, " TopK(fetch={limit}),")?;
        }
        match self.order {
            None => f.write_str(" expr=[]"),
            Some(GroupOrder { key, direction }) => {
                let key = match key {
                    GroupOrderKey::Count => "count",
                    GroupOrderKey::Name => "name",
                    GroupOrderKey::Submitted => "submitted",
                    GroupOrderKey::LastTransitionTime => LAST_TRANSITION_TIME,
                };
                let direction = if direction == Direction::Ascending { "ASC" } else { "DESC" };
                write!(f, " expr=[{key} {direction}]")
            }
        }
    }
}

impl ExecutionPlan for GroupSortExec {
    fn name(&self) -> &'static str {
        "GroupSortExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> EngineResult<TreeNodeRecursion>,
    ) -> EngineResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => {
                Ok(Arc::new(Self { input, metrics: ExecutionPlanMetricsSet::new(), ..Self::clone(&self) }))
            }
            _ => internal_err!("a sort has one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> EngineResult<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let batch = stream::once(self.clone().sort(input, metrics));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batch)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> EngineResult<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        let limit = self.fetch.unwrap_or(usize::MAX);
        if let [input] = inputs {
            statistics.num_rows = match input.num_rows {
                Precision::Exact(rows) => Precision::Exact(rows.min(limit)),
                Precision::Inexact(rows) => Precision::Inexact(rows.min(limit)),
                Precision::Absent => Precision::Absent,
            };
        }
        Ok(Arc::new(statistics))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }
}
