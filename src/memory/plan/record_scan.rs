//! The scan sources of runs, specs and errors.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BinaryViewBuilder, DictionaryArray, UInt32Array};
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::datatypes::{Field, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::internal_err;
use datafusion::error::Result as EngineResult;

use super::scan::{Batches, ScanSource};
use crate::ingest::RUN_ID_BYTES;
use crate::memory::schema::{RUN_STATES, id_strings, id_views, messages, states};
use crate::memory::storage::{Chunk, Dictionary, Records, RunChunk, Tables};

/// A table other than `job`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Runs,
    Specs,
    Errors,
}

/// The rows of a table, chunk by chunk.
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
            // Rows beyond the limit are not converted.
            let rows = self.rows(chunk).min(left);
            let batch = self.batch(&schema, chunk, rows);
            left -= rows;
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

    fn batch(&self, schema: &SchemaRef, chunk: usize, rows: usize) -> EngineResult<RecordBatch> {
        let column = |field: &Arc<Field>| match self.table {
            Table::Runs => self.run_column(field.name(), &self.tables.runs.chunks()[chunk], rows),
            Table::Specs | Table::Errors => self.record_column(field.name(), chunk, rows),
        };
        let columns = schema.fields().iter().map(column).collect::<EngineResult<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
    }

    fn run_column(&self, name: &str, chunk: &RunChunk, rows: usize) -> EngineResult<ArrayRef> {
        let texts = |dictionary: &Dictionary, codes: &UInt32Array| -> EngineResult<ArrayRef> {
            Ok(Arc::new(DictionaryArray::try_new(codes.slice(0, rows), dictionary.values())?))
        };
        let message = |places: &UInt32Array| -> EngineResult<ArrayRef> {
            let place = |place: Option<u32>| place.map(|place| self.tables.records.run_messages.get(place));
            Ok(messages(places.iter().take(rows).map(place))?)
        };
        let dictionaries = &self.tables.dictionaries;
        Ok(match name {
            "run_id" => id_views::<RUN_ID_BYTES>(chunk.run_id(), 0..rows)?,
            "job_id" => id_strings(chunk.job().iter().take(rows).map(|job| Some(self.tables.job_of_run(job?))))?,
            "cluster" => texts(&dictionaries.clusters, chunk.cluster())?,
            "node" => texts(&dictionaries.nodes, chunk.node())?,
            "pool" => texts(&dictionaries.pools, chunk.pool())?,
            "leased" => Arc::new(chunk.leased().slice(0, rows)),
            "pending" => Arc::new(chunk.pending().slice(0, rows)),
            "started" => Arc::new(chunk.started().slice(0, rows)),
            "finished" => Arc::new(chunk.finished().slice(0, rows)),
            "state" => states(&chunk.state().slice(0, rows), &RUN_STATES)?,
            "exit_code" => Arc::new(chunk.exit_code().slice(0, rows)),
            "error" => message(chunk.error())?,
            "debug" => message(chunk.debug())?,
            other => return internal_err!("the table of runs has no column {other:?}"),
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
