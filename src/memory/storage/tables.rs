//! All that is versioned together: a clone of it is a snapshot.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::annotation::AnnotationCatalog;
use super::bitmap_index::{BitmapIndex, StateIndex};
use super::column::locate;
use super::dictionary::Dictionary;
use super::id::{IdIndex, JobId, RunId};
use super::integer_index::IntegerIndex;
use super::jobs::{JobRows, JobTable, JobZones};
use super::records::Records;
use super::runs::RunTable;
use crate::model::JobState;
use crate::query::TextField;
use crate::time::Timestamp;

/// The state of the store after some whole number of batches.
///
/// Cloning costs a count up for each chunk. What the clone holds is never written to again: the
/// writer copies what it must. The id indexes are shared and only grow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables {
    pub(crate) jobs: JobTable,
    pub(crate) zones: JobZones,
    pub(crate) runs: RunTable,
    pub(crate) specs: Records,
    pub(crate) errors: Records,
    pub(crate) job_index: Arc<IdIndex>,
    pub(crate) run_index: Arc<IdIndex>,
    pub(crate) queues: Dictionary,
    pub(crate) job_sets: Dictionary,
    pub(crate) owners: Dictionary,
    pub(crate) namespaces: Dictionary,
    pub(crate) priority_classes: Dictionary,
    pub(crate) clusters: Dictionary,
    pub(crate) nodes: Dictionary,
    pub(crate) pools: Dictionary,
    pub(crate) cancel_reasons: Dictionary,
    pub(crate) cancel_users: Dictionary,
    /// Latest-run ids of which no run exists; its postings are the rows that had one.
    pub(crate) dangling_runs: Dictionary,
    pub(crate) annotations: AnnotationCatalog,
    pub(crate) states: StateIndex,
    pub(crate) priorities: IntegerIndex,
    /// The rows whose job set holds an active job.
    pub(crate) active_job_sets: Arc<RoaringBitmap>,
    pub(crate) latest_clusters: BitmapIndex,
    pub(crate) latest_nodes: BitmapIndex,
    pub(crate) latest_pools: BitmapIndex,
}

impl Tables {
    /// The row of a job, in constant time.
    pub(crate) fn job_row(&self, id: &JobId) -> Option<u32> {
        self.job_index.find(id, |row| (row as usize) < self.jobs.len() && self.jobs.id(row) == *id)
    }

    /// The rows of jobs, for the writer.
    pub(crate) fn job_rows(&self, ids: impl Iterator<Item = Option<JobId>>) -> Vec<Option<u32>> {
        self.job_index.find_all(ids, |id, row| self.jobs.id(row) == *id)
    }

    /// The rows of runs, for the writer.
    pub(crate) fn run_rows(&self, ids: impl Iterator<Item = Option<RunId>>) -> Vec<Option<u32>> {
        self.run_index.find_all(ids, |id, row| self.runs.id(row) == *id)
    }

    /// The row of a run, in constant time.
    pub(crate) fn run_row(&self, id: &RunId) -> Option<u32> {
        self.run_index.find(id, |row| (row as usize) < self.runs.len() && self.runs.id(row) == *id)
    }

    /// The state of a job.
    pub(crate) fn state(&self, row: u32) -> JobState {
        let (chunk, at) = self.jobs.locate(row);
        // The column is only ever written from a `JobState`.
        JobState::from_ordinal(chunk.state.get(at)).unwrap_or(JobState::Queued)
    }

    /// Appends rows of jobs.
    pub(crate) fn append_jobs(&mut self, rows: JobRows) {
        let (first, _) = locate(self.jobs.len() as u32);
        self.jobs.append(rows, |chunk, at| chunk.appended(at));
        for (at, chunk) in self.jobs.chunks().iter().enumerate().skip(first) {
            self.zones.appended(at, chunk);
        }
    }

    /// Sets when a job came into its state.
    pub(crate) fn set_last_transition(&mut self, row: u32, time: Timestamp) {
        let (chunk, at) = self.jobs.locate_mut(row);
        chunk.set_last_transition(at, time);
        if let Some(zone) = chunk.last_transition_seconds_zones.whole() {
            self.zones.last_transition_seconds.set(locate(row).0, zone);
        }
    }

    /// The dictionary of a field; none for the job's id, which has no codes.
    pub(crate) fn dictionary(&self, field: TextField) -> Option<&Dictionary> {
        Some(match field {
            TextField::JobId => return None,
            TextField::Queue => &self.queues,
            TextField::JobSet => &self.job_sets,
            TextField::Owner => &self.owners,
            TextField::Namespace => &self.namespaces,
            TextField::PriorityClass => &self.priority_classes,
            TextField::Cluster => &self.clusters,
            TextField::Node => &self.nodes,
            TextField::Pool => &self.pools,
        })
    }

    /// The index of a field of the latest run.
    pub(crate) fn latest_run_index(&self, field: TextField) -> Option<&BitmapIndex> {
        match field {
            TextField::Cluster => Some(&self.latest_clusters),
            TextField::Node => Some(&self.latest_nodes),
            TextField::Pool => Some(&self.latest_pools),
            _ => None,
        }
    }
}
