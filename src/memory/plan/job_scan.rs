//! The scan of jobs.

use std::fmt;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics, internal_err};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalExprRef, PhysicalSortExpr, ScalarFunctionExpr};
use datafusion::physical_plan::filter_pushdown::{ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sort_pushdown::SortOrderPushdownResult;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, StatisticsArgs};
use futures::{StreamExt, TryStreamExt, stream};

use super::ids;
use super::properties::{of_scan, part_of};
use super::sql_order::{Ordered, ScanOrder, select};
use super::stored_filter;
use crate::memory::cost::GATHER_SHARE;
use crate::memory::query::{PageRange, RowSelection, consume_budget};
use crate::memory::schema::{JOB_SCHEMA, JobIndices, annotation_column, job_column};
use crate::memory::storage::{CHUNK_ROWS, JobId, LocatedRows, Tables, first_row};
use crate::query::{Predicate, TextField};

/// Scans the selected jobs of a snapshot, with a projection and an optional order and limit.
///
/// Indexed predicates are looked up in bitmaps, zone maps prune chunks and blocks, and the residual predicate is
/// evaluated on the candidates only. Without order and limit, each batch is a chunk, which shares the stored arrays if
/// all of its rows are selected.
#[derive(Debug, Clone)]
pub(super) struct JobScanExec {
    tables: Arc<Tables>,
    selected: Arc<RowSelection>,
    order: Option<ScanOrder>,
    page: PageRange,
    /// The pushed-down predicates of SQL that select the jobs.
    predicates: Arc<[Predicate]>,
    columns: Arc<[JobColumn]>,
    schema: SchemaRef,
    /// The filters of joins on the job id, and of top-k operators.
    filters: Vec<PhysicalExprRef>,
    /// Whether the page is extended by the rows whose keys equal that of its last row.
    with_ties: bool,
    /// The number of partitions of a scan without order and limit.
    partitions: usize,
    /// The output ordering, if a sort was pushed down.
    ordering: Option<LexOrdering>,
    properties: OnceLock<Arc<PlanProperties>>,
    metrics: ExecutionPlanMetricsSet,
}

/// An output column of the scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JobColumn {
    /// The row of the job.
    Row,
    /// A column of the SQL table, by its index.
    Sql(usize),
    /// The values of an annotation key; `None` for a key that no job has.
    Annotation(Option<u32>),
}

impl JobColumn {
    fn values(&self, tables: &Tables, rows: JobIndices<'_>) -> EngineResult<ArrayRef> {
        match self {
            Self::Row => Ok(rows.rows()),
            Self::Sql(column) => job_column(tables, JOB_SCHEMA.field(*column).name(), rows),
            Self::Annotation(key) => annotation_column(tables, *key, rows),
        }
    }
}

impl JobScanExec {
    /// A scan of all selected jobs. `schema` has a field per column.
    pub(super) fn new(
        tables: Arc<Tables>,
        selected: Arc<RowSelection>,
        columns: Arc<[JobColumn]>,
        schema: SchemaRef,
    ) -> Self {
        Self {
            tables,
            selected,
            order: None,
            page: PageRange::default(),
            predicates: Arc::default(),
            filters: Vec::new(),
            with_ties: false,
            columns,
            schema,
            partitions: 1,
            ordering: None,
            properties: OnceLock::new(),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    pub(super) fn with_order(self, order: Option<ScanOrder>, page: PageRange) -> Self {
        Self { order, page, ..self }
    }

    pub(super) fn with_predicates(self, predicates: Vec<Predicate>) -> Self {
        Self { predicates: predicates.into(), ..self }
    }

    /// Sets the number of partitions. A scan with an order or a limit has one partition.
    pub(super) fn with_partitions(self, partitions: usize) -> Self {
        Self { partitions, ..self }
    }

    /// A modified copy with new metrics.
    fn changed(&self, change: impl FnOnce(&mut Self)) -> Arc<dyn ExecutionPlan> {
        let mut changed = Self { properties: OnceLock::new(), metrics: ExecutionPlanMetricsSet::new(), ..self.clone() };
        change(&mut changed);
        Arc::new(changed)
    }

    /// Whether the scan emits all selected rows, in any order.
    fn is_whole(&self) -> bool {
        self.order.is_none() && self.page == PageRange::default()
    }

    fn partitions(&self) -> usize {
        if self.is_whole() { self.partitions } else { 1 }
    }

    /// The batches of a partition of a scan of all selected rows, a batch per chunk.
    fn whole(self: Arc<Self>, partition: usize, metrics: BaselineMetrics) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        // A join polls its probe side when the filter is known.
        let batches = stream::once(async move {
            let chunks: Vec<usize> = part_of(self.tables.jobs.chunks().len(), partition, self.partitions).collect();
            let state = Arc::new((self.narrowed().await?, metrics));
            Ok::<_, DataFusionError>(stream::iter(chunks).filter_map(move |chunk| {
                let state = Arc::clone(&state);
                async move {
                    consume_budget().await;
                    state.0.chunk(chunk, &state.1).transpose()
                }
            }))
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, batches.try_flatten()))
    }

    /// The scan of the jobs whose ids the filter of a join requires.
    async fn narrowed(self: Arc<Self>) -> EngineResult<Arc<Self>> {
        for filter in &self.filters {
            if let Some(ids) = ids::of_filter(filter, &|column| self.is_id(column))? {
                let predicates = self.predicates.iter().cloned().chain([TextField::JobId.any_of(ids)]);
                let selected = Arc::new(select(&self.tables, predicates).await?);
                return Ok(Arc::new(Self { selected, ..Self::clone(&self) }));
            }
        }
        Ok(self)
    }

    /// A scan of at least the first `limit` rows of a sort by several keys: those of the first key, with all rows whose
    /// keys equal that of the last. `None` if the scan has no such order.
    pub(super) fn first_by(&self, key: &PhysicalSortExpr, limit: usize) -> Option<Arc<dyn ExecutionPlan>> {
        let order = self.order_by(key).filter(|_| self.is_whole())?;
        Some(self.changed(|scan| {
            (scan.order, scan.page.limit, scan.with_ties) = (Some(order), Some(limit), true);
            scan.filters.clear();
        }))
    }

    /// The batches of a scan with an order or a limit.
    fn page(self: Arc<Self>, metrics: BaselineMetrics, pool: &Arc<dyn MemoryPool>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        // The size is limited by the share of an operator that spills, so that such operators can have the whole pool.
        let reservation = MemoryConsumer::new(self.name()).with_can_spill(true).register(pool);
        let batches = stream::once(async move {
            let ordered = Ordered {
                tables: &self.tables,
                selected: &self.selected,
                predicates: &self.predicates,
                page: self.page,
            };
            let timer = metrics.elapsed_compute().timer();
            reservation.try_grow(self.page_bytes())?;
            let mut rows = ordered.rows(self.order).await?;
            if let Some(order) = self.order.filter(|_| self.with_ties) {
                ordered.add_ties(order, &mut rows).await?;
            }
            drop(timer);
            reservation.try_resize(size_of_val(&rows[..]))?;
            let parts: Vec<usize> = (0..rows.len()).step_by(CHUNK_ROWS).collect();
            Ok::<_, DataFusionError>(stream::iter(parts).then(move |first| {
                let batch = self.rows(&rows[first..rows.len().min(first + CHUNK_ROWS)], &metrics);
                let _reserved = &reservation;
                async move {
                    consume_budget().await;
                    batch
                }
            }))
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, batches.try_flatten()))
    }

    /// The size of the rows and sort keys of the page, in bytes, if the keys of all of its candidates are gathered.
    fn page_bytes(&self) -> usize {
        let bytes =
            if self.order.is_some() { size_of::<(JobId, u32)>() + 2 * size_of::<u32>() } else { size_of::<u32>() };
        let candidates =
            self.selected.upper_bound(&self.tables).min((self.page.end() as u64).saturating_mul(GATHER_SHARE));
        candidates as usize * bytes
    }

    /// The selected rows of a chunk; `None` if there are none.
    fn chunk(&self, chunk: usize, metrics: &BaselineMetrics) -> EngineResult<Option<RecordBatch>> {
        let _timer = metrics.elapsed_compute().timer();
        let mut rows = self.selected.chunk(&self.tables, chunk);
        if rows.count_set_bits() == 0 {
            return Ok(None);
        }
        let first = first_row(chunk);
        let whole = JobIndices::Chunk(&self.tables.jobs.chunks()[chunk], first);
        let values = |at: usize| self.columns[at].values(&self.tables, whole);
        if let Some(kept) = stored_filter::kept(&self.filters, &self.schema, rows.len(), values)? {
            rows = &rows & &kept;
        }
        let count = rows.count_set_bits();
        if count == 0 {
            return Ok(None);
        }
        if count == rows.len() {
            return self.batch(whole, metrics).map(Some);
        }
        let rows: Vec<u32> = rows.set_indices().map(|at| first + at as u32).collect();
        let rows = LocatedRows::new(self.tables.jobs.chunks(), &rows);
        self.batch(JobIndices::Rows(&rows), metrics).map(Some)
    }

    fn rows(&self, rows: &[u32], metrics: &BaselineMetrics) -> EngineResult<RecordBatch> {
        let _timer = metrics.elapsed_compute().timer();
        self.batch(JobIndices::Rows(&LocatedRows::new(self.tables.jobs.chunks(), rows)), metrics)
    }

    fn batch(&self, rows: JobIndices<'_>, metrics: &BaselineMetrics) -> EngineResult<RecordBatch> {
        let columns = self.columns.iter().map(|column| column.values(&self.tables, rows));
        let columns = columns.collect::<EngineResult<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?.record_output(metrics))
    }

    /// Whether an output column is the job id. A projection may have given its name to another column.
    fn is_id(&self, column: &Column) -> bool {
        let source = self.columns.get(column.index());
        matches!(source, Some(JobColumn::Sql(column)) if JOB_SCHEMA.field(*column).name() == "job_id")
    }

    /// The output column that an expression refers to: a column, or an annotation of the map.
    fn column_of(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<JobColumn> {
        if let Some(column) = expr.downcast_ref::<Column>() {
            return self.columns.get(column.index()).cloned();
        }
        let function = expr.downcast_ref::<ScalarFunctionExpr>().filter(|function| function.name() == "get_field")?;
        let [map, key] = function.args() else { return None };
        let key = key.downcast_ref::<Literal>()?.value().try_as_str().flatten()?;
        let JobColumn::Sql(column) = self.column_of(map)? else { return None };
        let is_annotations = JOB_SCHEMA.field(column).name() == "annotations";
        is_annotations.then(|| JobColumn::Annotation(self.tables.dictionaries.annotations.keys.code(key)))
    }

    /// The scan order that satisfies an SQL sort, if there is one.
    fn order_by(&self, sort: &PhysicalSortExpr) -> Option<ScanOrder> {
        let JobColumn::Sql(column) = self.column_of(&sort.expr)? else { return None };
        let order = ScanOrder::by(JOB_SCHEMA.field(column).name(), sort.options.descending)?;
        // The rows of one known state after another would be without those of unknown states.
        let is_complete = !matches!(order, ScanOrder::StateName(_)) || !self.tables.has_unknown_states();
        is_complete.then_some(order)
    }

    /// Column statistics from the schema and zone maps.
    fn column_statistics(&self, column: &JobColumn) -> ColumnStatistics {
        let mut statistics = ColumnStatistics::new_unknown();
        let JobColumn::Sql(column) = column else { return statistics };
        let field = JOB_SCHEMA.field(*column);
        if !field.is_nullable() {
            statistics.null_count = Precision::Exact(0);
        }
        let is_all = !self.selected.is_narrowed() && !self.selected.has_residual() && self.is_whole();
        let zones = &self.tables.indexes.zones.submitted;
        let zone = zones.root().and_then(|root| zones.zone(root));
        if let Some(zone) = zone.filter(|_| is_all && field.name() == "submitted") {
            let time = |micros| Precision::Exact(ScalarValue::TimestampMicrosecond(Some(micros), None));
            (statistics.min_value, statistics.max_value) = (time(zone.min), time(zone.max));
        }
        statistics
    }
}

impl DisplayAs for JobScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "JobScanExec: columns=[{}], {}", names.join(", "), self.selected)?;
        if let Some(candidates) = self.selected.candidates(&self.tables) {
            write!(f, ", candidates={candidates}")?;
        }
        if let Some(order) = self.order {
            let method = order.method(&self.tables, &self.selected, self.page);
            write!(f, ", order=[{order} by {method}]")?;
        }
        if self.page.offset > 0 {
            write!(f, ", skip={}", self.page.offset)?;
        }
        if let Some(limit) = self.page.limit {
            write!(f, ", limit={limit}{}", if self.with_ties { " with ties" } else { "" })?;
        }
        self.filters.iter().try_for_each(|filter| write!(f, ", filter=[{filter}]"))
    }
}

impl ExecutionPlan for JobScanExec {
    fn name(&self) -> &'static str {
        "JobScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.properties
            .get_or_init(|| Arc::new(of_scan(Arc::clone(&self.schema), self.partitions(), self.ordering.clone())))
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&PhysicalExprRef) -> EngineResult<TreeNodeRecursion>,
    ) -> EngineResult<TreeNodeRecursion> {
        ids::visit(&self.filters, visit)
    }

    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        offered: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> EngineResult<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        // A limit applies to the rows before the operator.
        let accepts =
            |column: &Column| self.is_whole() && (self.is_id(column) || stored_filter::is_stored(&self.schema, column));
        Ok(ids::accept(phase, offered, accepts, |filters| self.changed(|scan| scan.filters = filters)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a scan has no children") }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> EngineResult<SendableRecordBatchStream> {
        if partition >= self.partitions() {
            return internal_err!("the scan has no partition {partition}");
        }
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let scan = Arc::new(self.clone());
        Ok(if scan.is_whole() { scan.whole(partition, metrics) } else { scan.page(metrics, context.memory_pool()) })
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> EngineResult<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        let is_part = args.partition().is_some() && self.partitions() > 1;
        if is_part {
            return Ok(Arc::new(statistics));
        }
        let all = self.selected.candidates(&self.tables).unwrap_or(self.tables.jobs.len());
        let rows = self.page.of_count(all);
        statistics.column_statistics = self.columns.iter().map(|column| self.column_statistics(column)).collect();
        statistics.num_rows = if self.selected.has_residual() || self.with_ties {
            Precision::Inexact(rows)
        } else {
            Precision::Exact(rows)
        };
        Ok(Arc::new(statistics))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let limit = limit?;
        let take = Some(self.page.limit.map_or(limit, |before| before.min(limit)));
        Some(self.changed(|scan| scan.page.limit = take))
    }

    fn fetch(&self) -> Option<usize> {
        self.page.limit
    }

    fn try_swapping_with_projection(
        &self,
        projection: &ProjectionExec,
    ) -> EngineResult<Option<Arc<dyn ExecutionPlan>>> {
        let columns = projection.expr().iter().map(|projected| self.column_of(&projected.expr));
        let Some(columns) = columns.collect::<Option<Vec<_>>>().filter(|_| self.ordering.is_none()) else {
            return Ok(None);
        };
        Ok(Some(self.changed(|scan| {
            scan.columns = columns.into();
            scan.schema = projection.schema();
        })))
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> EngineResult<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        let ordered = || {
            // A limit applies to the rows before the sort, so the sort cannot be pushed below it.
            let ([by], None) = (order, self.page.limit) else { return None };
            let (order, ordering) = (self.order_by(by)?, LexOrdering::new([by.clone()])?);
            Some(self.changed(|scan| {
                scan.order = Some(order);
                scan.ordering = Some(ordering);
            }))
        };
        Ok(match ordered() {
            Some(inner) => SortOrderPushdownResult::Exact { inner },
            None => SortOrderPushdownResult::Unsupported,
        })
    }
}
