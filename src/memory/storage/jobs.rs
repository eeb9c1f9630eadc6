//! The table of jobs.

use std::sync::Arc;

use super::annotation::ChunkAnnotations;
use super::column::{CHUNK_ROWS, Column, locate};
use super::id::JobId;
use super::table::{ChunkTable, table};
use super::zone::{ZoneTree, Zones};
use crate::time::Timestamp;

/// An absent time or exit code; no stored one has this value.
pub(crate) const NULL: i64 = i64::MIN;

table! {
    /// The jobs, in the order in which they came. Texts are codes of the dictionaries.
    JobTable, JobChunk, JobRows {
        ids: JobId,
        queue: u32,
        job_set: u32,
        /// The (queue, job set) pair.
        pair: u32,
        owner: u32,
        namespace: u32,
        priority_class: u32,
        cpu: i64,
        memory: i64,
        ephemeral_storage: i64,
        gpu: i64,
        priority: i64,
        submitted: i64,
        /// NULL until cancelled.
        cancelled: i64,
        cancel_reason: u32,
        cancel_user: u32,
        state: u8,
        last_transition: i64,
        /// The same in whole seconds, toward the past: what orders and groups look at.
        last_transition_seconds: i64,
        /// A [`LatestRun`], packed.
        latest_run: u32,
        /// The latest run's cluster.
        cluster: u32,
        /// The latest run's node.
        node: u32,
        /// The latest run's pool.
        pool: u32,
        /// The last of the job's runs to come; each names the one before it.
        last_run: u32,
        /// Which annotation keys the job has.
        shape: u32,
    }
    extras {
        annotations: ChunkAnnotations,
        id_zones: Zones<JobId>,
        submitted_zones: Zones<i64>,
        last_transition_seconds_zones: Zones<i64>,
    }
}

impl JobTable {
    pub(crate) fn id(&self, row: u32) -> JobId {
        let (chunk, at) = self.locate(row);
        chunk.ids.get(at)
    }

    /// Bytes of annotation columns, and of zone maps.
    pub(crate) fn extra_bytes(&self) -> (usize, usize) {
        self.chunks().iter().fold((0, 0), |(annotations, zones), chunk| {
            let zone_bytes = chunk.id_zones.heap_bytes()
                + chunk.submitted_zones.heap_bytes()
                + chunk.last_transition_seconds_zones.heap_bytes();
            (annotations + chunk.annotations.heap_bytes(), zones + zone_bytes)
        })
    }
}

impl JobChunk {
    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.ids.as_slice().len()
    }

    /// Takes in that the rows from `first` on are new.
    pub(crate) fn appended(&mut self, first: usize) {
        self.id_zones.append(self.ids.as_slice(), first);
        self.submitted_zones.append(self.submitted.as_slice(), first);
        self.last_transition_seconds_zones.append(self.last_transition_seconds.as_slice(), first);
    }

    pub(super) fn set_last_transition(&mut self, at: usize, time: Timestamp) {
        let old = self.last_transition_seconds.get(at);
        self.last_transition.set(at, time.as_micros());
        self.last_transition_seconds.set(at, time.floor_seconds());
        self.last_transition_seconds_zones.update(self.last_transition_seconds.as_slice(), at, old);
    }
}

/// The zones of all chunks of jobs.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobZones {
    pub(crate) ids: ZoneTree<JobId>,
    pub(crate) submitted: ZoneTree<i64>,
    pub(crate) last_transition_seconds: ZoneTree<i64>,
}

impl JobZones {
    /// Takes in a chunk that has got rows.
    pub(crate) fn appended(&mut self, at: usize, chunk: &JobChunk) {
        let set = |tree: &mut ZoneTree<i64>, zones: &Zones<i64>| {
            if let Some(zone) = zones.whole() {
                tree.set(at, zone);
            }
        };
        set(&mut self.submitted, &chunk.submitted_zones);
        set(&mut self.last_transition_seconds, &chunk.last_transition_seconds_zones);
        if let Some(zone) = chunk.id_zones.whole() {
            self.ids.set(at, zone);
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.ids.heap_bytes() + self.submitted.heap_bytes() + self.last_transition_seconds.heap_bytes()
    }
}

/// What a job's latest-run id leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LatestRun {
    /// The job has no latest-run id.
    None,
    /// The row of the run.
    Run(u32),
    /// No run has the id yet; this is its code in the dictionary of such ids.
    Dangling(u32),
}

/// Marks a packed code; run rows stay below it.
const DANGLING: u32 = 1 << 31;

impl LatestRun {
    pub(crate) const fn pack(self) -> u32 {
        match self {
            Self::None => super::dictionary::NONE,
            Self::Run(row) => row,
            Self::Dangling(code) => DANGLING | code,
        }
    }

    pub(crate) const fn unpack(packed: u32) -> Self {
        match packed {
            super::dictionary::NONE => Self::None,
            row if row < DANGLING => Self::Run(row),
            code => Self::Dangling(code & !DANGLING),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_runs_survive_packing() {
        for latest in [LatestRun::None, LatestRun::Run(0), LatestRun::Run(DANGLING - 1), LatestRun::Dangling(12)] {
            assert_eq!(LatestRun::unpack(latest.pack()), latest);
        }
    }
}
