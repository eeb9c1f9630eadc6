//! Ingestion: how a batch plan changes the tables.

mod active;
mod historical;
mod jobs;
mod latest_run;
mod runs;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::error::ArrowError;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use self::active::ActiveJobSets;
use self::latest_run::LatestRuns;
use super::error::engine_error;
use super::storage::{Dictionaries, Indexes, JobId, JobRecords, JobWriter, RunId, RunWriter, Tables};
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::ingest::{IngestionBatch, RecordInsert};

/// Rows that a table can hold: row ids leave a bit for the packing of latest runs.
const MAX_ROWS: usize = 1 << 31;

/// What the writer changes: all that a snapshot holds, and what only the writer needs.
#[derive(Debug, Default)]
pub(super) struct Store {
    jobs: JobWriter,
    runs: RunWriter,
    records: JobRecords,
    dictionaries: Dictionaries,
    indexes: Indexes,
    active: ActiveJobSets,
    latest_runs: LatestRuns,
    /// Runs that came before their job: the last of each such job, which leads to the others.
    orphans: HashMap<JobId, u32, RandomState>,
    shapes: HashMap<Arc<[u32]>, u32, RandomState>,
    /// By annotation key, the codes of the values that historical jobs have of it; none for those not made yet.
    historical_values: HashMap<u32, Vec<Option<u32>>, RandomState>,
    properties: BTreeMap<String, String>,
}

impl Store {
    /// A snapshot of what is stored.
    pub(super) fn snapshot(&self) -> Tables {
        Tables {
            jobs: self.jobs.table().clone(),
            runs: self.runs.table().clone(),
            records: self.records.clone(),
            dictionaries: self.dictionaries.clone(),
            indexes: self.indexes.clone(),
        }
    }

    /// Applies a batch. Nothing in here waits or fails half-way, so a batch that was begun is done.
    pub(super) fn apply(&mut self, batch: &IngestionBatch) -> Result<()> {
        let operation = Operation::ExecuteIngestionQueryBatch;
        self.check_room(operation, batch.jobs().len(), batch.runs().len())?;
        self.records.specs.insert_all(records(batch.specs()));
        self.records.errors.insert_all(records(batch.errors()));
        self.change(batch).map_err(|error| engine_error(operation, error.into()))
    }

    fn change(&mut self, batch: &IngestionBatch) -> Result<(), ArrowError> {
        self.insert_jobs(batch.jobs())?;
        self.insert_runs(batch.runs())?;
        self.update_jobs(batch.job_updates());
        self.update_runs(batch.run_updates());
        self.close()
    }

    /// Makes record batches of the chunks that were written to.
    fn close(&mut self) -> Result<(), ArrowError> {
        self.jobs.close()?;
        self.runs.close()
    }

    /// The value of a property.
    pub(super) fn property(&self, key: &str) -> Option<String> {
        self.properties.get(key).cloned()
    }

    /// Sets a property.
    pub(super) fn set_property(&mut self, key: &str, value: &str) {
        self.properties.insert(key.to_owned(), value.to_owned());
    }

    fn check_room(&self, operation: Operation, jobs: usize, runs: usize) -> Result<()> {
        let full = |rows: usize, more: usize| rows.saturating_add(more) > MAX_ROWS;
        if full(self.jobs.len(), jobs) || full(self.runs.len(), runs) {
            let message = format!("the memory engine holds at most {MAX_ROWS} jobs and as many runs");
            return Err(Error::new(ErrorKind::Backend, operation, message).with_backend(BackendKind::Memory));
        }
        Ok(())
    }

    fn job_row(&self, id: &JobId) -> Option<u32> {
        self.indexes.job_ids.find(id, |row| self.jobs.id(row) == *id)
    }

    fn job_rows(&self, ids: impl Iterator<Item = Option<JobId>>) -> Vec<Option<u32>> {
        self.indexes.job_ids.find_all(ids, |id, row| self.jobs.id(row) == *id)
    }

    fn run_row(&self, id: &RunId) -> Option<u32> {
        self.indexes.run_ids.find(id, |row| self.runs.id(row) == *id)
    }

    fn run_rows(&self, ids: impl Iterator<Item = Option<RunId>>) -> Vec<Option<u32>> {
        self.indexes.run_ids.find_all(ids, |id, row| self.runs.id(row) == *id)
    }

    /// Bytes of what only the writer needs.
    pub(in crate::memory) fn writer_bytes(&self) -> usize {
        let values = self.historical_values.values();
        self.active.heap_bytes()
            + self.latest_runs.heap_bytes()
            + self.orphans.allocation_size()
            + self.shapes.allocation_size()
            + self.historical_values.allocation_size()
            + values.map(|codes| codes.capacity() * size_of::<Option<u32>>()).sum::<usize>()
    }
}

fn records(inserts: &[RecordInsert]) -> impl Iterator<Item = (JobId, &Bytes)> {
    inserts.iter().filter_map(|insert| Some((JobId::new(&insert.job_id)?, &insert.value)))
}
