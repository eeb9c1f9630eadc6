//! The aggregate of jobs by dictionary codes.

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
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, StatisticsArgs};
use futures::{StreamExt, stream};

use super::properties::of_blocking;
use crate::memory::query::GroupAccumulators;
use crate::memory::storage::{CachedGroups, GroupAccumulator, GroupTotals, PartialKey, Tables, TotalsUpdate};
use crate::model::StateSet;
use crate::query::{Aggregates, TimeAggregate};

/// Aggregates jobs by codes. The code is the index of the accumulator in an array, so no hash table is needed.
///
/// It replaces DataFusion's `AggregateExec`, which has no fast path for dictionary keys and takes several times as long
/// for a count per state.
#[derive(Debug, Clone)]
pub(super) struct DenseAggregateExec {
    input: Arc<dyn ExecutionPlan>,
    groups: usize,
    /// Whether rows with a null key form a group, which is group 0.
    groups_nulls: bool,
    aggregates: Aggregates,
    /// Whether most groups have no rows. There is no cache then.
    is_sparse: bool,
    cache: Option<Arc<GroupCache>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// The cached aggregates of a query.
#[derive(Debug)]
pub(super) struct GroupCache {
    pub(super) tables: Arc<Tables>,
    pub(super) key: PartialKey,
    /// The cached aggregates, of a version of the table.
    pub(super) totals: Option<Arc<GroupTotals>>,
    /// The chunks that the input scans, one batch each: those whose segment is not cached.
    pub(super) scanned: Arc<[usize]>,
}

/// The columns: group, count, a count per requested state, then the earliest submission and the transition time if
/// requested. For an average, the column contains the sum.
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
    /// Aggregates batches of the columns that [`GroupAccumulators::add`] takes. `groups` is the number of codes plus
    /// one.
    pub(super) fn new(
        input: Arc<dyn ExecutionPlan>,
        groups: usize,
        groups_nulls: bool,
        aggregates: Aggregates,
        cache: Option<Arc<GroupCache>>,
    ) -> Self {
        let properties = Arc::new(of_blocking(schema(aggregates)));
        let metrics = ExecutionPlanMetricsSet::new();
        Self { input, groups, groups_nulls, aggregates, is_sparse: false, cache, properties, metrics }
    }

    /// Allocates memory only for groups with rows, and uses no cache.
    pub(super) fn with_sparse_groups(self) -> Self {
        Self { is_sparse: true, cache: None, ..self }
    }

    async fn aggregate(self, input: SendableRecordBatchStream, metrics: BaselineMetrics) -> EngineResult<RecordBatch> {
        let batch = match &self.cache {
            Some(cache) => self.update(cache, input, &metrics).await?,
            None if self.is_sparse => self.all(input, GroupAccumulators::sparse(), &metrics).await?,
            None => self.all(input, GroupAccumulators::new(self.groups), &metrics).await?,
        };
        Ok(batch.record_output(&metrics))
    }

    /// Aggregates all batches of the input.
    async fn all(
        &self,
        mut input: SendableRecordBatchStream,
        mut accumulators: GroupAccumulators,
        metrics: &BaselineMetrics,
    ) -> EngineResult<RecordBatch> {
        while let Some(batch) = input.next().await {
            let batch = batch?;
            let _timer = metrics.elapsed_compute().timer();
            accumulators.add(&batch)?;
        }
        self.batch(accumulators.take().iter().map(|(group, of)| (*group, of.count(), of)))
    }

    /// Aggregates the batches of stale segments, and updates the cached aggregates.
    async fn update(
        &self,
        cache: &GroupCache,
        mut input: SendableRecordBatchStream,
        metrics: &BaselineMetrics,
    ) -> EngineResult<RecordBatch> {
        let cached = cache.totals.as_deref();
        if let Some(cached) = cached.filter(|_| cache.scanned.is_empty()) {
            return self.batch(cached.groups());
        }
        let partials = &cache.tables.indexes.partials;
        let jobs = cache.tables.jobs.len();
        let mut update = TotalsUpdate::new(cached, self.groups);
        let mut accumulators = GroupAccumulators::new(self.groups);
        let mut chunks = cache.scanned.iter().peekable();
        while let Some(chunk) = chunks.next() {
            let Some(batch) = input.next().await else {
                return internal_err!("the input has fewer batches than scanned chunks");
            };
            let batch = batch?;
            let timer = metrics.elapsed_compute().timer();
            accumulators.add(&batch)?;
            let Some(size) = update.chunks_per_segment(accumulators.touched()) else {
                drop(timer);
                partials.insert(&cache.key, CachedGroups::TooMany, jobs);
                return self.all(input, accumulators, metrics).await;
            };
            if chunks.peek().is_none_or(|&next| next / size != chunk / size) {
                update.replace(chunk / size, &accumulators.take());
            }
        }
        let _timer = metrics.elapsed_compute().timer();
        let totals = Arc::new(update.finish(cache.tables.jobs.chunks()));
        let batch = self.batch(totals.groups());
        partials.insert(&cache.key, CachedGroups::Totals(totals), jobs);
        batch
    }

    /// The output of groups, given as code, number of jobs and accumulator.
    fn batch<'a>(&self, groups: impl Iterator<Item = (u32, u32, &'a GroupAccumulator)>) -> EngineResult<RecordBatch> {
        let groups: Vec<_> = groups.filter(|&(group, ..)| self.groups_nulls || group > 0).collect();
        let of_groups = || groups.iter().map(|&(.., of)| of);
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(groups.iter().map(|&(group, ..)| group))),
            Arc::new(UInt64Array::from_iter_values(groups.iter().map(|&(_, count, _)| u64::from(count)))),
        ];
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
        write!(f, "DenseAggregateExec: gby=[{by}], aggr=[{}]", names.join(", "))?;
        match &self.cache {
            Some(cache) => {
                let chunks = cache.tables.jobs.chunks().len();
                write!(f, ", cached chunks={}", chunks - cache.scanned.len())
            }
            None if self.is_sparse => f.write_str(", sparse"),
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
            // Another input need not scan the chunks that the cache does not include.
            (Some(input), true) if self.cache.is_none() => {
                Ok(Arc::new(Self { input, metrics: ExecutionPlanMetricsSet::new(), ..Self::clone(&self) }))
            }
            (Some(_), true) => internal_err!("the input of an aggregate with a cache cannot be replaced"),
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
