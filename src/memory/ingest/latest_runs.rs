//! References from jobs to runs of other jobs, and to runs that do not exist, and the pending changes of the indexes of
//! latest runs.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use roaring::RoaringBitmap;

use crate::memory::storage::{CodeChanges, RunId};

/// The jobs whose latest run belongs to another job or does not exist, and the pending changes of indexes.
#[derive(Debug, Default)]
pub(super) struct LatestRuns {
    /// For each row of a run, the other jobs whose latest run it is.
    pub(super) followers: HashMap<u32, RoaringBitmap, RandomState>,
    /// Latest-run ids for which no run exists.
    pub(super) dangling: HashMap<RunId, DanglingRun, RandomState>,
    /// Free indices of `JobRecords::dangling_runs`.
    pub(super) free: Vec<u32>,
    /// The changes of the indexes of the latest cluster, node and pool that are not yet applied.
    pub(super) changes: [CodeChanges; 3],
}

#[derive(Debug)]
pub(super) struct DanglingRun {
    /// Its index in `JobRecords::dangling_runs`.
    pub(super) index: u32,
    /// The jobs that refer to it.
    pub(super) jobs: RoaringBitmap,
}

impl LatestRuns {
    pub(super) fn heap_bytes(&self) -> usize {
        let jobs = self.followers.values().chain(self.dangling.values().map(|run| &run.jobs));
        self.followers.allocation_size()
            + self.dangling.allocation_size()
            + self.free.capacity() * size_of::<u32>()
            + self.changes.iter().map(CodeChanges::heap_bytes).sum::<usize>()
            + jobs.map(|jobs| jobs.serialized_size()).sum::<usize>()
    }
}
