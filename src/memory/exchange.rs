//! Exports of a snapshot.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{Array, ArrayRef, BinaryArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result as EngineResult;
use futures::stream::{self, StreamExt};
use smol_str::SmolStr;

use super::error::engine_error;
use super::plan::run_column;
use super::query::{consume_budget, consume_budget_for};
use super::schema::{JobIndices, job_column};
use super::storage::{
    CHUNK_ROWS, JobId, LocatedRows, Records, Reference, RunChunk, Sparse, Tables, UNREAD_OF_JOBS, UNREAD_OF_RUNS,
};
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::exchange::{Part, Parts, Table, schema};

/// A part ends with the row that exceeds this size of specs, texts and annotations, in bytes.
const PART_BYTES: usize = 32 << 20;
/// The number of rows that are converted per unit of budget.
const ROWS_PER_UNIT: usize = 32;
/// The number of rows that are tested per unit of budget for a job that does not exist.
const TESTED_PER_UNIT: usize = 256;

/// The parts of a snapshot after a position.
pub(super) fn export(tables: Arc<Tables>, after: Option<&str>) -> Result<Parts<'static>> {
    let read = after.map_or(Some([0; 4]), |after| position(&tables, after)).ok_or_else(|| {
        let message = "the position is not that of an export of this store";
        Error::new(ErrorKind::InvalidArgument, Operation::Export, message).with_backend(BackendKind::Memory)
    })?;
    let parts = stream::try_unfold(Export { tables, read }, |mut export| async move {
        let part = export.next().await?;
        Ok(part.map(|part| (part, export)))
    });
    Ok(parts.boxed())
}

/// The number of rows of each table that have been read, which are separated by spaces in a position.
fn position(tables: &Tables, after: &str) -> Option<[u32; 4]> {
    let read = after.split(' ').map(|rows| rows.parse().ok()).collect::<Option<Vec<u32>>>()?;
    let records = &tables.records;
    let ends = [tables.jobs.len(), tables.runs.len(), records.specs.len(), records.errors.len()];
    let is_within = read.iter().zip(ends).all(|(&read, end)| read as usize <= end);
    read.try_into().ok().filter(|_| is_within)
}

/// An export: first the jobs with their runs, specs and errors, then those whose job does not exist.
struct Export {
    tables: Arc<Tables>,
    read: [u32; 4],
}

/// The rows of a part, by table.
#[derive(Default)]
struct PartRows {
    tables: [Vec<u32>; 4],
    bytes: usize,
}

impl PartRows {
    fn add(&mut self, table: Table, row: u32, bytes: usize) {
        self.tables[table as usize].push(row);
        self.bytes += bytes;
    }

    fn is_full(&self, table: Table) -> bool {
        self.tables[table as usize].len() >= CHUNK_ROWS || self.bytes > PART_BYTES
    }
}

impl Export {
    async fn next(&mut self) -> Result<Option<Part>> {
        let mut rows = self.jobs();
        if rows.tables[Table::Job as usize].is_empty() {
            self.add_orphans(&mut rows).await;
        }
        let count = rows.tables.iter().map(Vec::len).sum();
        if count == 0 {
            return Ok(None);
        }
        consume_budget_for(count, ROWS_PER_UNIT).await;
        let batches = self.batches(&rows).map_err(|error| engine_error(Operation::Export, error))?;
        let position = self.read.map(|rows| rows.to_string()).join(" ");
        Part::new(batches, position).map(Some)
    }

    /// The next jobs, with their runs, specs and errors.
    fn jobs(&mut self) -> PartRows {
        let (tables, mut rows) = (&*self.tables, PartRows::default());
        let next = &mut self.read[Table::Job as usize];
        while (*next as usize) < tables.jobs.len() && !rows.is_full(Table::Job) {
            let id = tables.jobs.id(*next);
            rows.add(Table::Job, *next, annotation_bytes(tables, *next));
            for run in tables.runs_of_job(*next) {
                rows.add(Table::JobRun, run, message_bytes(tables, run));
            }
            for (table, records) in [(Table::JobSpec, &tables.records.specs), (Table::JobError, &tables.records.errors)]
            {
                if let Some(row) = records.row(&id) {
                    rows.add(table, row, records.record(row).1.len());
                }
            }
            *next += 1;
        }
        // The runs of jobs that were inserted together are in few chunks.
        rows.tables[Table::JobRun as usize].sort_unstable();
        rows
    }

    /// Adds the next rows whose job does not exist.
    async fn add_orphans(&mut self, rows: &mut PartRows) {
        let tables = Arc::clone(&self.tables);
        let is_orphan = |run: u32| {
            let (chunk, at) = tables.runs.locate(run);
            matches!(Reference::unpack(chunk.cells.job[at]), Reference::Dangling(_))
        };
        let of_run = |run: u32| is_orphan(run).then(|| message_bytes(&tables, run));
        self.add_rows(rows, Table::JobRun, tables.runs.len(), of_run).await;
        for (table, records) in [(Table::JobSpec, &tables.records.specs), (Table::JobError, &tables.records.errors)] {
            let of_record = |row: u32| {
                let (id, value) = records.record(row);
                tables.job_row(id).is_none().then_some(value.len())
            };
            self.add_rows(rows, table, records.len(), of_record).await;
        }
    }

    /// Adds the next rows of a table that have a size.
    async fn add_rows(
        &mut self,
        rows: &mut PartRows,
        table: Table,
        end: usize,
        bytes: impl Fn(u32) -> Option<usize> + Send,
    ) {
        let next = &mut self.read[table as usize];
        while (*next as usize) < end && !rows.is_full(table) {
            if (*next as usize).is_multiple_of(TESTED_PER_UNIT) {
                consume_budget().await;
            }
            if let Some(bytes) = bytes(*next) {
                rows.add(table, *next, bytes);
            }
            *next += 1;
        }
    }

    fn batches(&self, rows: &PartRows) -> EngineResult<[RecordBatch; 4]> {
        let tables = &self.tables;
        let [jobs, runs, specs, errors] = &rows.tables;
        let of_jobs = LocatedRows::new(tables.jobs.chunks(), jobs);
        let of_runs = LocatedRows::new(tables.runs.chunks(), runs);
        Ok([
            batch(Table::Job, jobs, |name| match UNREAD_OF_JOBS.iter().position(|unread| *unread == name) {
                Some(at) => Ok(texts(&of_jobs, |chunk| &chunk.unread[at])),
                None => job_column(tables, name, JobIndices::Rows(&of_jobs)),
            })?,
            batch(Table::JobRun, runs, |name| match UNREAD_OF_RUNS.iter().position(|unread| *unread == name) {
                Some(at) => Ok(texts(&of_runs, |chunk| &chunk.unread[at])),
                None if name == "error" => Ok(messages(tables, &of_runs, |chunk, at| chunk.cells.error.get(at))),
                None if name == "debug" => Ok(messages(tables, &of_runs, |chunk, at| chunk.cells.debug.get(at))),
                None => run_column(tables, name, runs),
            })?,
            batch(Table::JobSpec, specs, |name| Ok(records(&tables.records.specs, specs, name)))?,
            batch(Table::JobError, errors, |name| Ok(records(&tables.records.errors, errors, name)))?,
        ])
    }
}

fn batch(table: Table, rows: &[u32], column: impl Fn(&str) -> EngineResult<ArrayRef>) -> EngineResult<RecordBatch> {
    let schema = schema(table);
    if rows.is_empty() {
        return Ok(RecordBatch::new_empty(schema));
    }
    let columns = schema.fields().iter().map(|field| plain(column(field.name())?, field.data_type()));
    Ok(RecordBatch::try_new(Arc::clone(&schema), columns.collect::<EngineResult<_>>()?)?)
}

/// Casts a column of SQL to its type in the exchange format.
fn plain(column: ArrayRef, data_type: &DataType) -> EngineResult<ArrayRef> {
    // A cast of a dictionary array to strings would copy all values of the dictionary, and one to views copies none.
    let column = match column.data_type() {
        DataType::Dictionary(_, values) => cast(&column, values)?,
        _ => column,
    };
    Ok(cast(&column, data_type)?)
}

fn texts<'a, C>(rows: &LocatedRows<'a, C>, column: impl Fn(&'a C) -> &'a Sparse<SmolStr>) -> ArrayRef {
    Arc::new(rows.iter().map(|(chunk, at)| column(chunk).get(at)).collect::<StringArray>())
}

/// The messages of runs as they were ingested. In SQL they are valid UTF-8.
fn messages(
    tables: &Tables,
    runs: &LocatedRows<'_, RunChunk>,
    index: impl Fn(&RunChunk, usize) -> Option<u32>,
) -> ArrayRef {
    let message = |(chunk, at)| Some(tables.records.run_messages.get(index(chunk, at)?));
    Arc::new(runs.iter().map(message).collect::<BinaryArray>())
}

fn records(records: &Records, rows: &[u32], name: &str) -> ArrayRef {
    let of_rows = rows.iter().map(|&row| records.record(row));
    match name {
        "job_id" => Arc::new(StringArray::from_iter_values(of_rows.map(|(id, _): &(JobId, Bytes)| id.as_str()))),
        _ => Arc::new(BinaryArray::from_iter_values(of_rows.map(|(_, value)| value))),
    }
}

fn annotation_bytes(tables: &Tables, job: u32) -> usize {
    let (chunk, at) = tables.jobs.locate(job);
    let catalog = &tables.dictionaries.annotations;
    let entries = catalog.key_set(chunk.cells.key_set[at]).iter().zip(chunk.annotations.get(at));
    entries.map(|(&key, &code)| catalog.keys.text(key).len() + catalog.values(key).text(code).len()).sum()
}

fn message_bytes(tables: &Tables, run: u32) -> usize {
    let (chunk, at) = tables.runs.locate(run);
    let messages = [chunk.cells.error.get(at), chunk.cells.debug.get(at)];
    messages.into_iter().flatten().map(|index| tables.records.run_messages.get(index).len()).sum()
}
