//! The scan of runs, specs and errors.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BinaryViewBuilder, DictionaryArray, UInt32Array};
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::datatypes::{Field, SchemaRef, UInt32Type};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, internal_err};
use datafusion::error::Result as EngineResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, StatisticsArgs};
use futures::{StreamExt, stream};

use super::properties::{of_scan, part_of};
use crate::ingest::RUN_ID_BYTES;
use crate::memory::query::consume_budget;
use crate::memory::schema::{RUN_STATES, id_strings, id_views, messages, states};
use crate::memory::storage::{Chunk, Records, RunChunk, Tables};

/// A table other than `job`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordTable {
    Runs,
    Specs,
    Errors,
}

/// Scans a table other than `job`, with a projection and an optional limit. Each batch is a chunk.
#[derive(Debug, Clone)]
pub(super) struct RecordScanExec {
    chunks: RecordChunks,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RecordScanExec {
    pub(super) fn new(tables: Arc<Tables>, table: RecordTable, schema: SchemaRef) -> Self {
        let chunks = RecordChunks { tables, table };
        let properties = Arc::new(of_scan(schema, 1, None));
        Self { chunks, limit: None, properties, metrics: ExecutionPlanMetricsSet::new() }
    }

    pub(super) fn rows(&self) -> usize {
        (0..self.chunks.len()).map(|chunk| self.chunks.rows(chunk)).sum()
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

    /// The chunks of a partition, each with the number of rows to scan.
    fn chunks(&self, partition: usize) -> Vec<(usize, usize)> {
        let mut left = self.limit.unwrap_or(usize::MAX);
        let rows = |chunk: usize| {
            // Rows beyond the limit are not converted.
            let rows = self.chunks.rows(chunk).min(left);
            left -= rows;
            (chunk, rows)
        };
        let chunks = part_of(self.chunks.len(), partition, self.partitions());
        chunks.map(rows).take_while(|&(_, rows)| rows > 0).collect()
    }
}

impl DisplayAs for RecordScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "{}: columns=[{}]", self.name(), names.join(", "))?;
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
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> EngineResult<TreeNodeRecursion>,
    ) -> EngineResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
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
        let (schema, records) = (self.schema(), self.chunks.clone());
        let batches = stream::iter(self.chunks(partition)).then(move |(chunk, rows)| {
            let _timer = metrics.elapsed_compute().timer();
            let batch = records.batch(&schema, chunk, rows).map(|batch| batch.record_output(&metrics));
            async move {
                consume_budget().await;
                batch
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> EngineResult<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        let partitions = args.partition().map_or(0..self.partitions(), |partition| partition..partition + 1);
        statistics.num_rows = Precision::Exact(partitions.flat_map(|at| self.chunks(at)).map(|(_, rows)| rows).sum());
        Ok(Arc::new(statistics))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(self.with_limit(Some(limit?))))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }
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

    fn batch(&self, schema: &SchemaRef, chunk: usize, rows: usize) -> EngineResult<RecordBatch> {
        let column = |field: &Arc<Field>| match self.table {
            RecordTable::Runs => self.run_column(field.name(), &self.tables.runs.chunks()[chunk], rows),
            RecordTable::Specs | RecordTable::Errors => self.record_column(field.name(), chunk, rows),
        };
        let columns = schema.fields().iter().map(column).collect::<EngineResult<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
    }

    fn run_column(&self, name: &str, chunk: &RunChunk, rows: usize) -> EngineResult<ArrayRef> {
        let message = |indices: &UInt32Array| -> EngineResult<ArrayRef> {
            let message = |index: Option<u32>| Some(self.tables.records.run_messages.get(index?));
            Ok(messages(indices.iter().take(rows).map(message))?)
        };
        Ok(match name {
            "run_id" => id_views::<RUN_ID_BYTES>(chunk.run_id(), rows)?,
            "job_id" => id_strings(chunk.job().iter().take(rows).map(|job| Some(self.tables.job_of_run(job?))))?,
            "state" => states(&chunk.state().slice(0, rows), &RUN_STATES)?,
            "error" => message(chunk.error())?,
            "debug" => message(chunk.debug())?,
            _ => {
                let Some(column) = chunk.batch().column_by_name(name) else {
                    return internal_err!("the table of runs has no column {name:?}");
                };
                let values = column.slice(0, rows);
                match self.tables.dictionaries.of(name) {
                    Some(texts) => {
                        Arc::new(DictionaryArray::try_new(values.as_primitive::<UInt32Type>().clone(), texts.values())?)
                    }
                    None => values,
                }
            }
        })
    }

    fn record_column(&self, name: &str, chunk: usize, rows: usize) -> EngineResult<ArrayRef> {
        let records = &self.records().blocks()[chunk][..rows];
        Ok(match name {
            "job_id" => id_strings(records.iter().map(|&(id, _)| Some(id)))?,
            "spec" => {
                let mut specs = BinaryViewBuilder::with_capacity(rows);
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
