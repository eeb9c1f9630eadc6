//! Runs of jobs that do not exist yet.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::memory::storage::{Arena, JobId};

/// The ids of missing jobs, and the last run of each. A run refers to the previous one of its job.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    jobs: HashMap<JobId, MissingJob, RandomState>,
    /// Free indices of `JobRecords::missing_jobs`.
    free: Vec<u32>,
}

#[derive(Debug)]
struct MissingJob {
    /// The index of the id in `JobRecords::missing_jobs`.
    index: u32,
    last_run: Option<u32>,
}

impl Orphans {
    /// The index of the id of a missing job.
    pub(super) fn index_of(&mut self, ids: &mut Arena<JobId>, id: JobId) -> u32 {
        let new = || MissingJob { index: ids.insert(&mut self.free, id), last_run: None };
        self.jobs.entry(id).or_insert_with(new).index
    }

    /// Sets the last run of a missing job; returns the previous one.
    pub(super) fn link(&mut self, id: &JobId, run: u32) -> Option<u32> {
        self.jobs.get_mut(id)?.last_run.replace(run)
    }

    /// Removes a job that has been inserted; returns its last run, if it has runs.
    pub(super) fn remove(&mut self, id: &JobId) -> Option<u32> {
        if self.jobs.is_empty() {
            return None;
        }
        let job = self.jobs.remove(id)?;
        self.free.push(job.index);
        job.last_run
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.jobs.allocation_size() + self.free.capacity() * size_of::<u32>()
    }
}
