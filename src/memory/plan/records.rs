//! Runs, specs and errors as sources of scans.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::arrow::datatypes::{Field, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::internal_err;
use datafusion::error::Result as EngineResult;

use super::scan::{Batches, ScanSource};
use crate::memory::schema::{Text, run_column, spec_column};
use crate::memory::storage::{Chunk, Records, Tables};

/// A table beside that of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Runs,
    Specs,
    Errors,
}

/// The rows of such a table, chunk by chunk.
#[derive(Debug, Clone)]
pub(super) struct RecordSource {
    pub(super) tables: Arc<Tables>,
    pub(super) table: Table,
    pub(super) limit: Option<usize>,
}

impl ScanSource for RecordSource {
    fn name(&self) -> &'static str {
        match self.table {
            Table::Runs => "JobRunScanExec",
            Table::Specs => "JobSpecScanExec",
            Table::Errors => "JobErrorScanExec",
        }
    }

    fn batches(self: Arc<Self>, schema: SchemaRef) -> Batches {
        let mut left = self.limit.unwrap_or(usize::MAX);
        let mut chunk = 0;
        Box::new(std::iter::from_fn(move || {
            if left == 0 || chunk == self.chunks() {
                return None;
            }
            let batch = self.batch(&schema, chunk).map(|batch| batch.slice(0, batch.num_rows().min(left)));
            left -= batch.as_ref().map_or(left, RecordBatch::num_rows);
            chunk += 1;
            Some(batch)
        }))
    }

    fn with_limit(&self, limit: usize) -> Option<Arc<dyn ScanSource>> {
        let limit = self.limit.map_or(limit, |before| before.min(limit));
        Some(Arc::new(Self { limit: Some(limit), ..self.clone() }))
    }

    fn limit(&self) -> Option<usize> {
        self.limit
    }
}

impl RecordSource {
    fn records(&self) -> &Records {
        if self.table == Table::Specs { &self.tables.records.specs } else { &self.tables.records.errors }
    }

    fn chunks(&self) -> usize {
        match self.table {
            Table::Runs => self.tables.runs.chunks().len(),
            Table::Specs | Table::Errors => self.records().blocks().len(),
        }
    }

    fn rows(&self, chunk: usize) -> usize {
        match self.table {
            Table::Runs => self.tables.runs.chunks()[chunk].batch().num_rows(),
            Table::Specs | Table::Errors => self.records().blocks()[chunk].len(),
        }
    }

    fn batch(&self, schema: &SchemaRef, chunk: usize) -> EngineResult<RecordBatch> {
        let column = |field: &Arc<Field>| match self.table {
            Table::Runs => run_column(&self.tables, field.name(), &self.tables.runs.chunks()[chunk]),
            Table::Specs | Table::Errors => self.record_column(field.name(), chunk),
        };
        let columns = schema.fields().iter().map(column).collect::<EngineResult<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows(chunk)));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
    }

    fn record_column(&self, name: &str, chunk: usize) -> EngineResult<ArrayRef> {
        let block = &self.records().blocks()[chunk];
        let values = block.iter().map(|(_, value)| value);
        Ok(match name {
            "job_id" => Arc::new(StringArray::from_iter_values(block.iter().map(|&(id, _)| Text(id)))),
            "spec" => spec_column(values.map(AsRef::as_ref)),
            "error" => Arc::new(StringArray::from_iter_values(values.map(|value| String::from_utf8_lossy(value)))),
            other => return internal_err!("the table has no column {other:?}"),
        })
    }
}
