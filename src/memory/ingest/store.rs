//! The state of the writer.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::active::ActiveJobSets;
use super::latest_runs::LatestRuns;
use super::orphans::Orphans;
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::memory::storage::{
    CodeChanges, Dictionaries, Indexes, IntegerIndex, JobId, JobRecords, JobWriter, RunId, RunWriter, Tables,
};

/// The maximum number of rows of a table: `Reference` packs a row and a flag into 32 bits.
const MAX_ROWS: usize = 1 << 31;

/// The state of the writer: the data that snapshots share, and data that only ingestion uses.
#[derive(Debug, Default)]
pub(in crate::memory) struct Store {
    pub(super) jobs: JobWriter,
    pub(super) runs: RunWriter,
    pub(super) records: JobRecords,
    pub(super) dictionaries: Dictionaries,
    pub(super) indexes: Indexes,
    /// The priority index that is being rebuilt.
    pub(super) rebuilt_priorities: Option<IntegerIndex>,
    pub(super) active: ActiveJobSets,
    /// The changes of the index of states that are not yet applied.
    pub(super) state_changes: CodeChanges,
    pub(super) latest_runs: LatestRuns,
    pub(super) orphans: Orphans,
    pub(super) key_sets: HashMap<Arc<[u32]>, u32, RandomState>,
    /// For each annotation key, the codes of the historical values; `None` for a value without a code.
    pub(super) historical_values: HashMap<u32, Vec<Option<u32>>, RandomState>,
    pub(super) properties: Arc<BTreeMap<String, String>>,
}

impl Store {
    pub(in crate::memory) fn snapshot(&self) -> Tables {
        Tables {
            jobs: self.jobs.table().clone(),
            runs: self.runs.table().clone(),
            records: self.records.clone(),
            dictionaries: self.dictionaries.clone(),
            indexes: self.indexes.clone(),
            properties: Arc::clone(&self.properties),
        }
    }

    /// Ends a batch: updates the bitmap indexes, and closes the open chunks.
    pub(super) fn end_batch(&mut self) -> Result<(), ArrowError> {
        self.apply_changes();
        self.jobs.close()?;
        self.runs.close()
    }

    /// Applies the pending changes of the bitmap indexes.
    pub(super) fn apply_changes(&mut self) {
        let Indexes { states, latest_clusters, latest_nodes, latest_pools, .. } = &mut self.indexes;
        states.apply(&mut self.state_changes);
        let latest_runs = [latest_clusters, latest_nodes, latest_pools];
        for (index, changes) in latest_runs.into_iter().zip(&mut self.latest_runs.changes) {
            index.apply(changes);
        }
    }

    /// Sets a property, or removes it.
    pub(in crate::memory) fn set_property(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => Arc::make_mut(&mut self.properties).insert(key.to_owned(), value.to_owned()),
            None => Arc::make_mut(&mut self.properties).remove(key),
        };
    }

    pub(super) fn check_room(&self, operation: Operation, jobs: usize, runs: usize) -> Result<()> {
        let full = |rows: usize, more: usize| rows.saturating_add(more) > MAX_ROWS;
        if full(self.jobs.len(), jobs) || full(self.runs.len(), runs) {
            let message = format!("the memory engine holds at most {MAX_ROWS} jobs and as many runs");
            return Err(Error::new(ErrorKind::Backend, operation, message).with_backend(BackendKind::Memory));
        }
        Ok(())
    }

    pub(super) fn job_rows(&self, ids: impl Iterator<Item = Option<JobId>>) -> Vec<Option<u32>> {
        self.indexes.job_ids.find_all(ids, |id, row| self.jobs.id(row) == *id)
    }

    pub(super) fn run_row(&self, id: &RunId) -> Option<u32> {
        self.indexes.run_ids.find(id, |row| self.runs.id(row) == *id)
    }

    pub(super) fn run_rows(&self, ids: impl Iterator<Item = Option<RunId>>) -> Vec<Option<u32>> {
        self.indexes.run_ids.find_all(ids, |id, row| self.runs.id(row) == *id)
    }

    /// The size of the data that only ingestion uses, in bytes.
    pub(in crate::memory) fn writer_bytes(&self) -> usize {
        let values = self.historical_values.values();
        self.active.heap_bytes()
            + self.rebuilt_priorities.as_ref().map_or(0, IntegerIndex::heap_bytes)
            + self.state_changes.heap_bytes()
            + self.latest_runs.heap_bytes()
            + self.orphans.heap_bytes()
            + self.key_sets.allocation_size()
            + self.historical_values.allocation_size()
            + values.map(|codes| codes.capacity() * size_of::<Option<u32>>()).sum::<usize>()
    }
}
