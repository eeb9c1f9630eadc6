//! The scan of runs, specs and errors.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryViewBuilder, DictionaryArray};
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::datatypes::{Field, SchemaRef, UInt32Type};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, internal_err};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExprRef, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::{ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::sort_pushdown::SortOrderPushdownResult;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, StatisticsArgs};
use futures::{StreamExt, TryStreamExt, stream};

use super::ids;
use super::properties::{of_scan, part_of};
use super::stored_filter;
use crate::ingest::RUN_ID_BYTES;
use crate::memory::query::consume_budget;
use crate::memory::schema::{RUN_STATES, id_strings, id_views, messages, states};
use crate::memory::storage::{
    CHUNK_ROWS, Chunk, JobId, LocatedRows, Records, RunColumnIndex, RunId, Tables, first_row, locate,
};

/// A table other than `job`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordTable {
    Runs,
    Specs,
    Errors,
}

impl RecordTable {
    /// The columns with an index.
    pub(super) const fn ids(self) -> &'static [&'static str] {
        match self {
            Self::Runs => &["run_id", "job_id"],
            Self::Specs | Self::Errors => &["job_id"],
        }
    }
}

/// Scans a table other than `job`, with a projection and an optional limit. Each batch is a chunk, unless the rows are
/// looked up by their ids.
#[derive(Debug, Clone)]
pub(super) struct RecordScanExec {
    chunks: RecordChunks,
    /// The rows that an index has found, ascending.
    rows: Option<Arc<[u32]>>,
    /// The filters of joins on a column with an index, and of top-k operators.
    filters: Vec<PhysicalExprRef>,
    /// Whether the last chunk is read first.
    reverse: bool,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RecordScanExec {
    pub(super) fn new(tables: Arc<Tables>, table: RecordTable, schema: SchemaRef) -> Self {
        let chunks = RecordChunks { tables, table };
        let properties = Arc::new(of_scan(schema, 1, None));
        Self {
            chunks,
            rows: None,
            filters: Vec::new(),
            reverse: false,
            limit: None,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// A scan of the rows whose column is one of some ids.
    pub(super) fn with_ids(self, column: &str, ids: &[String]) -> Self {
        Self { rows: Some(self.chunks.with_ids(column, ids).into()), ..self }
    }

    pub(super) fn rows(&self) -> usize {
        match &self.rows {
            Some(rows) => rows.len(),
            None => (0..self.chunks.len()).map(|chunk| self.chunks.rows(chunk)).sum(),
        }
    }

    pub(super) fn with_partitions(self, partitions: usize) -> Self {
        Self { properties: Arc::new(of_scan(self.schema(), partitions, None)), ..self }
    }

    /// Adds a limit. A scan with a limit has one partition.
    pub(super) fn with_limit(&self, limit: Option<usize>) -> Self {
        let limit = limit.into_iter().chain(self.limit).min();
        let properties = limit.map(|_| Arc::new(of_scan(self.schema(), 1, None)));
        Self {
            limit,
            properties: properties.unwrap_or_else(|| Arc::clone(&self.properties)),
            metrics: ExecutionPlanMetricsSet::new(),
            ..self.clone()
        }
    }

    fn partitions(&self) -> usize {
        self.properties.output_partitioning().partition_count()
    }

    /// The parts of a partition, up to the limit.
    fn parts(&self, partition: usize) -> EngineResult<Vec<Part>> {
        let mut left = self.limit.unwrap_or(usize::MAX);
        if let Some(rows) = self.selected()? {
            // A partition has the same rows whether it is scanned or looked up, because a filter of a join may become
            // known to some partitions only.
            let is_here = |row: &u32| self.chunks.chunk_of(*row) % self.partitions() == partition;
            let rows: Vec<u32> = rows.iter().copied().filter(is_here).take(left).collect();
            return Ok(rows.chunks(CHUNK_ROWS).map(|rows| Part::Rows(rows.into())).collect());
        }
        let first = |chunk: usize| {
            // Rows beyond the limit are not converted.
            let rows = self.chunks.rows(chunk).min(left);
            left -= rows;
            Part::First(chunk, rows)
        };
        let parts = part_of(self.chunks.len(), partition, self.partitions()).map(first);
        let mut parts: Vec<Part> = parts.take_while(|part| part.len() > 0).collect();
        if self.reverse {
            parts.reverse();
        }
        Ok(parts)
    }

    /// The rows of a part for which the filters may be true, at the time of the call.
    fn kept(&self, part: Part) -> EngineResult<Part> {
        let Part::First(chunk, rows) = part else { return Ok(part) };
        let schema = self.schema();
        let values = |at: usize| self.chunks.column(schema.field(at), &part);
        Ok(match stored_filter::kept(&self.filters, &schema, rows, values)? {
            Some(kept) if kept.count_set_bits() < rows => {
                Part::Rows(kept.set_indices().map(|at| first_row(chunk) + at as u32).collect())
            }
            _ => part,
        })
    }

    /// The batch of a part; `None` if its filters keep no row.
    fn batch(&self, part: Part, metrics: &BaselineMetrics) -> EngineResult<Option<RecordBatch>> {
        let _timer = metrics.elapsed_compute().timer();
        let part = self.kept(part)?;
        if part.len() == 0 {
            return Ok(None);
        }
        let batch = self.chunks.batch(&self.schema(), &part)?;
        Ok(Some(batch.record_output(metrics)))
    }

    /// The rows that an index finds, if there is a condition that it answers.
    fn selected(&self) -> EngineResult<Option<Arc<[u32]>>> {
        if self.rows.is_some() {
            return Ok(self.rows.clone());
        }
        for filter in &self.filters {
            for column in self.chunks.table.ids() {
                if let Some(ids) = ids::of_filter(filter, &|of| of.name() == *column)? {
                    return Ok(Some(self.chunks.with_ids(column, &ids).into()));
                }
            }
        }
        Ok(None)
    }
}

/// A part of a partition, for a batch.
enum Part {
    /// The first rows of a chunk.
    First(usize, usize),
    /// Rows of any chunks.
    Rows(Box<[u32]>),
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::First(_, rows) => *rows,
            Self::Rows(rows) => rows.len(),
        }
    }
}

impl DisplayAs for RecordScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "{}: columns=[{}]", self.name(), names.join(", "))?;
        if let Some(rows) = &self.rows {
            write!(f, ", index=[{}], candidates={}", self.chunks.table.ids().join(" or "), rows.len())?;
        }
        for filter in &self.filters {
            write!(f, ", filter=[{filter}]")?;
        }
        if self.reverse {
            write!(f, ", reverse")?;
        }
        self.limit.map_or(Ok(()), |limit| write!(f, ", limit={limit}"))
    }
}

impl ExecutionPlan for RecordScanExec {
    fn name(&self) -> &'static str {
        match self.chunks.table {
            RecordTable::Runs => "JobRunScanExec",
            RecordTable::Specs => "JobSpecScanExec",
            RecordTable::Errors => "JobErrorScanExec",
        }
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
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
        let accepts = |column: &Column| {
            let is_id = self.chunks.table.ids().contains(&column.name());
            self.limit.is_none() && (is_id || stored_filter::is_stored(&self.schema(), column))
        };
        Ok(ids::accept(phase, offered, accepts, |filters| Arc::new(Self { filters, ..self.clone() })))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a scan has no children") }
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> EngineResult<SendableRecordBatchStream> {
        if partition >= self.partitions() {
            return internal_err!("the scan has no partition {partition}");
        }
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let scan = self.clone();
        // A join polls its probe side when the filter is known.
        let batches = stream::once(async move {
            let parts = scan.parts(partition)?;
            Ok::<_, DataFusionError>(stream::iter(parts).filter_map(move |part| {
                let batch = scan.batch(part, &metrics).transpose();
                async move {
                    consume_budget().await;
                    batch
                }
            }))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches.try_flatten())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> EngineResult<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        let partitions = args.partition().map_or(0..self.partitions(), |partition| partition..partition + 1);
        let parts = partitions.map(|partition| self.parts(partition)).collect::<EngineResult<Vec<_>>>()?;
        statistics.num_rows = Precision::Exact(parts.iter().flatten().map(Part::len).sum());
        Ok(Arc::new(statistics))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(self.with_limit(Some(limit?))))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    /// Reads the last chunk first for a descending order, because runs are stored roughly in the order of their times.
    /// A top-k operator then finds its rows early, and its filter excludes most of the others.
    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> EngineResult<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        if self.reverse || !order.first().is_some_and(|by| by.options.descending) {
            return Ok(SortOrderPushdownResult::Unsupported);
        }
        Ok(SortOrderPushdownResult::Inexact { inner: Arc::new(Self { reverse: true, ..self.clone() }) })
    }
}

/// A column of the table `job_run`, for some rows.
pub(in crate::memory) fn run_column(tables: &Arc<Tables>, name: &str, rows: &[u32]) -> EngineResult<ArrayRef> {
    let chunks = RecordChunks { tables: Arc::clone(tables), table: RecordTable::Runs };
    chunks.run_column(name, &Part::Rows(rows.into()))
}

/// The chunks of a table, and their columns in SQL.
#[derive(Debug, Clone)]
struct RecordChunks {
    tables: Arc<Tables>,
    table: RecordTable,
}

impl RecordChunks {
    fn records(&self) -> &Records {
        if self.table == RecordTable::Specs { &self.tables.records.specs } else { &self.tables.records.errors }
    }

    fn len(&self) -> usize {
        match self.table {
            RecordTable::Runs => self.tables.runs.chunks().len(),
            RecordTable::Specs | RecordTable::Errors => self.records().blocks().len(),
        }
    }

    fn rows(&self, chunk: usize) -> usize {
        match self.table {
            RecordTable::Runs => self.tables.runs.chunks()[chunk].batch().num_rows(),
            RecordTable::Specs | RecordTable::Errors => self.records().blocks()[chunk].len(),
        }
    }

    /// The chunk of a row.
    fn chunk_of(&self, row: u32) -> usize {
        match self.table {
            RecordTable::Runs => locate(row).0,
            // All blocks but the last have the same length.
            RecordTable::Specs | RecordTable::Errors => {
                self.records().blocks().get(0).map_or(0, |block| row as usize / block.len())
            }
        }
    }

    /// The rows whose column is one of some ids, ascending.
    fn with_ids(&self, column: &str, ids: &[String]) -> Vec<u32> {
        let jobs = ids.iter().filter_map(|id| JobId::new(id));
        let mut rows: Vec<u32> = match (self.table, column) {
            (RecordTable::Runs, "run_id") => {
                ids.iter().filter_map(|id| self.tables.run_row(&RunId::new(id)?)).collect()
            }
            (RecordTable::Runs, _) => jobs.flat_map(|job| self.tables.runs_of(&job)).collect(),
            (RecordTable::Specs | RecordTable::Errors, _) => jobs.filter_map(|job| self.records().row(&job)).collect(),
        };
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    fn batch(&self, schema: &SchemaRef, part: &Part) -> EngineResult<RecordBatch> {
        let columns = schema.fields().iter().map(|field| self.column(field, part)).collect::<EngineResult<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(part.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
    }

    fn column(&self, field: &Field, part: &Part) -> EngineResult<ArrayRef> {
        match self.table {
            RecordTable::Runs => self.run_column(field.name(), part),
            RecordTable::Specs | RecordTable::Errors => self.record_column(field.name(), part),
        }
    }

    fn run_column(&self, name: &str, part: &Part) -> EngineResult<ArrayRef> {
        let stored = |name: &str| -> EngineResult<ArrayRef> {
            let Some(column) = RunColumnIndex::named(name) else {
                return internal_err!("the table of runs has no column {name:?}");
            };
            let chunks = self.tables.runs.chunks();
            Ok(match part {
                Part::First(chunk, rows) => chunks[*chunk].batch().column(column as usize).slice(0, *rows),
                Part::Rows(rows) => {
                    LocatedRows::new(chunks, rows).take(|chunk| chunk.batch().column(column as usize))?
                }
            })
        };
        Ok(match name {
            "run_id" => id_views::<RUN_ID_BYTES>(stored(name)?.as_fixed_size_binary(), part.len())?,
            "job_id" => {
                let jobs = stored("job")?;
                id_strings(jobs.as_primitive::<UInt32Type>().iter().map(|job| Some(self.tables.job_of_run(job?))))?
            }
            "state" => states(stored(name)?.as_primitive(), &RUN_STATES)?,
            "error" | "debug" => {
                let indices = stored(name)?;
                let message = |index: Option<u32>| Some(self.tables.records.run_messages.get(index?));
                messages(indices.as_primitive::<UInt32Type>().iter().map(message))?
            }
            _ => match (stored(name)?, self.tables.dictionaries.of(name)) {
                (codes, Some(texts)) => {
                    Arc::new(DictionaryArray::try_new(codes.as_primitive::<UInt32Type>().clone(), texts.values())?)
                }
                (values, None) => values,
            },
        })
    }

    fn record_column(&self, name: &str, part: &Part) -> EngineResult<ArrayRef> {
        let records: Vec<&(JobId, Bytes)> = match part {
            Part::First(chunk, rows) => self.records().blocks()[*chunk][..*rows].iter().collect(),
            Part::Rows(rows) => rows.iter().map(|&row| self.records().record(row)).collect(),
        };
        Ok(match name {
            "job_id" => id_strings(records.iter().map(|&(id, _)| Some(*id)))?,
            "spec" => {
                let mut specs = BinaryViewBuilder::with_capacity(records.len());
                for (_, spec) in records {
                    let block = specs.append_block(Buffer::from(spec.clone()));
                    specs.try_append_view(block, 0, spec.len() as u32)?;
                }
                Arc::new(specs.finish())
            }
            "error" => messages(records.iter().map(|(_, error)| Some(error)))?,
            other => return internal_err!("the table has no column {other:?}"),
        })
    }
}
