//! Ingestion: how a batch plan changes the tables.

mod active;
mod historical;
mod jobs;
mod latest_run;
mod runs;

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use self::active::ActiveJobSets;
use super::storage::{JobId, Tables};
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::ingest::IngestionBatch;

/// Rows that a table can hold: row ids leave a bit for the packing of latest runs.
const MAX_ROWS: usize = 1 << 31;

/// The tables, and what only their writer needs.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) tables: Tables,
    active: ActiveJobSets,
    /// Runs that came before their job: the last of each such job, which leads to the others.
    orphans: HashMap<JobId, u32, RandomState>,
    /// Jobs whose latest run belongs to another job, by the run's row. An entry may be stale.
    followers: HashMap<u32, Vec<u32>, RandomState>,
    shapes: HashMap<Arc<[u32]>, u32, RandomState>,
    /// By annotation key, the codes of the values that historical jobs have of it; NONE for those not made yet.
    historical_values: HashMap<u32, Vec<u32>, RandomState>,
}

impl Store {
    /// Applies a batch. Nothing in here waits or fails half-way, so a batch that was begun is done.
    pub(super) fn apply(&mut self, batch: &IngestionBatch) -> Result<()> {
        self.check_room(Operation::ExecuteIngestionQueryBatch, batch.jobs().len(), batch.runs().len())?;
        let record = |insert: &'_ crate::ingest::RecordInsert| JobId::new(&insert.job_id);
        self.tables.specs.insert_all(batch.specs().iter().filter_map(|spec| Some((record(spec)?, &spec.value))));
        self.tables.errors.insert_all(batch.errors().iter().filter_map(|error| Some((record(error)?, &error.value))));
        self.insert_jobs(batch.jobs());
        self.insert_runs(batch.runs());
        self.update_jobs(batch.job_updates());
        self.update_runs(batch.run_updates());
        Ok(())
    }

    fn check_room(&self, operation: Operation, jobs: usize, runs: usize) -> Result<()> {
        let full = |rows: usize, more: usize| rows.saturating_add(more) > MAX_ROWS;
        if full(self.tables.jobs.len(), jobs) || full(self.tables.runs.len(), runs) {
            let message = format!("the memory engine holds at most {MAX_ROWS} jobs and as many runs");
            return Err(Error::new(ErrorKind::Backend, operation, message).with_backend(BackendKind::Memory));
        }
        Ok(())
    }
}
