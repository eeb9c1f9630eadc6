//! The aggregate of jobs by a dictionary's codes.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray, UInt32Array, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, internal_err};
use datafusion::error::Result as EngineResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, StatisticsArgs};
use futures::{StreamExt, stream};

use super::scan::properties;
use crate::memory::query::Totals;
use crate::memory::storage::{Partial, PartialKey, Tables};
use crate::model::StateSet;
use crate::query::{Aggregates, TimeAggregate};

/// Aggregates jobs by codes, which number the groups: an entry of an array each, found without a hash.
///
/// It stands where DataFusion's `AggregateExec` would, which has no fast path for dictionary keys
/// and takes several times as long for a count a state.
#[derive(Debug, Clone)]
pub(super) struct DenseAggregateExec {
    input: Arc<dyn ExecutionPlan>,
    groups: usize,
    /// Whether group 0, of the rows without a value, is one.
    groups_nulls: bool,
    aggregates: Aggregates,
    kept: Option<Arc<KeptPartials>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// Aggregates of chunks that need not be scanned.
#[derive(Debug)]
pub(super) struct KeptPartials {
    pub(super) tables: Arc<Tables>,
    pub(super) key: PartialKey,
    pub(super) partials: Vec<Partial>,
    /// The chunks that the input scans, a batch each.
    pub(super) scanned: Arc<[usize]>,
}

/// The columns: group, count, a count for each state asked for, then the earliest submission and
/// the transition time if asked for; an average as the sum, which the count divides.
pub(super) fn schema(aggregates: Aggregates) -> SchemaRef {
    let mut fields = vec![Field::new("group", DataType::UInt32, false), Field::new("count", DataType::UInt64, false)];
    let states = aggregates.states().into_iter().flat_map(StateSet::iter);
    fields.extend(states.map(|state| Field::new(state.name(), DataType::UInt64, false)));
    if aggregates.submitted() {
        fields.push(Field::new("submitted", DataType::Timestamp(TimeUnit::Microsecond, None), false));
    }
    if let Some(aggregate) = aggregates.last_transition_time() {
        fields.push(Field::new(transition_name(aggregate), DataType::Int64, false));
    }
    Arc::new(Schema::new(fields))
}

fn transition_name(aggregate: TimeAggregate) -> &'static str {
    match aggregate {
        TimeAggregate::Average => "last_transition_seconds_sum",
        TimeAggregate::Earliest => "last_transition_seconds_min",
        TimeAggregate::Latest => "last_transition_seconds_max",
    }
}

impl DenseAggregateExec {
    /// Aggregates batches of four columns: a code (or a state's ordinal), the state, the submission
    /// and the last transition time in whole seconds. `groups` is one more than the greatest code,
    /// and one for the rows without.
    pub(super) fn new(
        input: Arc<dyn ExecutionPlan>,
        groups: usize,
        groups_nulls: bool,
        aggregates: Aggregates,
        kept: Option<Arc<KeptPartials>>,
    ) -> Self {
        let properties = Arc::new(properties(schema(aggregates), None));
        Self { input, groups, groups_nulls, aggregates, kept, properties, metrics: ExecutionPlanMetricsSet::new() }
    }

    async fn aggregate(
        self,
        mut input: SendableRecordBatchStream,
        metrics: BaselineMetrics,
    ) -> EngineResult<RecordBatch> {
        let mut totals = Totals::new(self.groups);
        for partial in self.kept.iter().flat_map(|kept| &kept.partials) {
            totals.merge(partial);
        }
        let mut new = Vec::new();
        while let Some(batch) = input.next().await {
            let batch = batch?;
            let _timer = metrics.elapsed_compute().timer();
            let partial = totals.add(&batch)?;
            if self.kept.is_some() {
                new.push(partial);
            }
        }
        let _timer = metrics.elapsed_compute().timer();
        if let Some(kept) = &self.kept {
            let chunks = kept.tables.jobs.chunks();
            let new = kept.scanned.iter().zip(new).map(|(&at, partial)| (at, &chunks[at], partial)).collect();
            kept.tables.indexes.partials.keep(&kept.key, new, kept.tables.jobs.len());
        }
        let batch = self.batch(&totals)?;
        metrics.record_output(batch.num_rows());
        Ok(batch)
    }

    fn batch(&self, totals: &Totals) -> EngineResult<RecordBatch> {
        let first = u32::from(!self.groups_nulls);
        let groups: Vec<u32> = (first..self.groups as u32).filter(|&group| totals.group(group).count() > 0).collect();
        let of_groups = || groups.iter().map(|&group| totals.group(group));
        let counts = of_groups().map(|of| u64::from(of.count()));
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(UInt32Array::from(groups.clone())), Arc::new(UInt64Array::from_iter_values(counts))];
        for state in self.aggregates.states().into_iter().flat_map(StateSet::iter) {
            let counts = of_groups().map(|of| u64::from(of.states[usize::from(state.ordinal())]));
            columns.push(Arc::new(UInt64Array::from_iter_values(counts)));
        }
        if self.aggregates.submitted() {
            let times = of_groups().map(|of| of.submitted);
            columns.push(Arc::new(TimestampMicrosecondArray::from_iter_values(times)));
        }
        if let Some(aggregate) = self.aggregates.last_transition_time() {
            let times = of_groups().map(|of| match aggregate {
                TimeAggregate::Average => of.transition_sum,
                TimeAggregate::Earliest => of.earliest_transition,
                TimeAggregate::Latest => of.latest_transition,
            });
            columns.push(Arc::new(Int64Array::from_iter_values(times)));
        }
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }
}

impl DisplayAs for DenseAggregateExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.schema();
        let names: Vec<&str> = schema.fields().iter().skip(1).map(|field| field.name().as_str()).collect();
        let input = self.input.schema();
        let by = input.fields().first().map_or("", |field| field.name());
        write!(f, "DenseAggregateExec: by={by}, aggr=[{}]", names.join(", "))?;
        match &self.kept {
            Some(kept) => write!(f, ", chunks kept={}", kept.partials.len()),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for DenseAggregateExec {
    fn name(&self) -> &'static str {
        "DenseAggregateExec"
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
            _ => internal_err!("an aggregate has one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> EngineResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("an aggregate has one partition, not partition {partition}");
        }
        let input = self.input.execute(partition, context)?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let batch = stream::once(self.clone().aggregate(input, metrics));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batch)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> EngineResult<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        statistics.num_rows = datafusion::common::stats::Precision::Inexact(self.groups);
        Ok(Arc::new(statistics))
    }
}
