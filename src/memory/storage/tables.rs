//! A snapshot of the store.

use std::collections::BTreeMap;
use std::iter::successors;
use std::sync::Arc;

use bytes::Bytes;

use super::annotation::AnnotationCatalog;
use super::arena::Arena;
use super::bitmap_index::BitmapIndex;
use super::dictionary::Dictionary;
use super::id::{JobId, RunId};
use super::id_index::IdIndex;
use super::integer_index::IntegerIndex;
use super::jobs::{JobTable, JobZones};
use super::located_rows::first_row;
use super::partials::{GroupPartials, STATES};
use super::recent::RecentTransitions;
use super::records::Records;
use super::reference::Reference;
use super::row_set::RowSet;
use super::runs::RunTable;
use crate::query::TextField;

/// The tables, dictionaries and indexes after a whole number of batches.
///
/// A clone increments a reference count per chunk. A snapshot never changes: before it writes, the writer copies the
/// chunks and the windows of bitmap indexes that a snapshot refers to. The id indexes and posting lists are shared and
/// append-only.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables {
    pub(crate) jobs: JobTable,
    pub(crate) runs: RunTable,
    pub(crate) records: JobRecords,
    pub(crate) dictionaries: Dictionaries,
    pub(crate) indexes: Indexes,
    pub(crate) properties: Arc<BTreeMap<String, String>>,
}

/// Data outside the columns of the tables.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobRecords {
    pub(crate) specs: Records,
    pub(crate) errors: Records,
    /// Errors and debug messages of runs.
    pub(crate) run_messages: Arena<Bytes>,
    /// Latest-run ids for which no run exists.
    pub(crate) dangling_runs: Arena<RunId>,
    /// Ids of jobs that do not exist but have runs.
    pub(crate) missing_jobs: Arena<JobId>,
}

/// The dictionary of each string column, with posting lists for columns that are never updated.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dictionaries {
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
    pub(crate) annotations: AnnotationCatalog,
}

/// The indexes of jobs and runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Indexes {
    pub(crate) job_ids: Arc<IdIndex>,
    pub(crate) run_ids: Arc<IdIndex>,
    pub(crate) zones: JobZones,
    pub(crate) recent_transitions: RecentTransitions,
    /// By the ordinals of states.
    pub(crate) states: BitmapIndex,
    pub(crate) priorities: IntegerIndex,
    /// The rows of the job sets that have an active job.
    pub(crate) active_job_sets: RowSet,
    pub(crate) latest_clusters: BitmapIndex,
    pub(crate) latest_nodes: BitmapIndex,
    pub(crate) latest_pools: BitmapIndex,
    pub(crate) partials: Arc<GroupPartials>,
}

impl Tables {
    pub(crate) fn job_row(&self, id: &JobId) -> Option<u32> {
        self.indexes.job_ids.find(id, |row| (row as usize) < self.jobs.len() && self.jobs.id(row) == *id)
    }

    pub(crate) fn run_row(&self, id: &RunId) -> Option<u32> {
        self.indexes.run_ids.find(id, |row| (row as usize) < self.runs.len() && self.runs.id(row) == *id)
    }

    /// Whether a job may have a state that only a later version of Lookout has.
    pub(crate) fn has_unknown_states(&self) -> bool {
        self.indexes.states.codes() as usize > STATES
    }

    /// The rows of the runs of a job, which need not exist.
    pub(crate) fn runs_of(&self, id: &JobId) -> Vec<u32> {
        self.job_row(id).map_or_else(|| self.runs_of_missing(id), |job| self.runs_of_job(job).collect())
    }

    /// The rows of the runs of a job, in descending order.
    pub(crate) fn runs_of_job(&self, job: u32) -> impl Iterator<Item = u32> {
        let (chunk, at) = self.jobs.locate(job);
        let previous = |&run: &u32| {
            let (chunk, at) = self.runs.locate(run);
            chunk.cells.previous.get(at)
        };
        successors(chunk.cells.last_run.get(at), previous)
    }

    fn runs_of_missing(&self, id: &JobId) -> Vec<u32> {
        let missing = &self.records.missing_jobs;
        if missing.iter().all(|missing| missing != id) {
            return Vec::new();
        }
        let is_of = |packed: u32| match Reference::unpack(packed) {
            Reference::Row(_) => false,
            Reference::Dangling(index) => missing.get(index) == id,
        };
        let chunks = self.runs.chunks().iter().enumerate();
        let runs = chunks.flat_map(|(at, chunk)| (first_row(at)..).zip(chunk.cells.job.iter()));
        runs.filter(|&(_, &job)| is_of(job)).map(|(run, _)| run).collect()
    }

    /// The id of the job of a run, by the packed reference.
    pub(crate) fn job_of_run(&self, packed: u32) -> JobId {
        match Reference::unpack(packed) {
            Reference::Row(row) => self.jobs.id(row),
            Reference::Dangling(index) => *self.records.missing_jobs.get(index),
        }
    }

    /// The id of the latest run of a job, by the packed reference.
    pub(crate) fn latest_run(&self, packed: u32) -> RunId {
        match Reference::unpack(packed) {
            Reference::Row(run) => self.runs.id(run),
            Reference::Dangling(index) => *self.records.dangling_runs.get(index),
        }
    }
}

impl Dictionaries {
    /// The dictionaries of columns, with the names of the columns.
    pub(crate) fn by_column(&self) -> [(&'static str, &Dictionary); 10] {
        [
            ("queue", &self.queues),
            ("job_set", &self.job_sets),
            ("owner", &self.owners),
            ("namespace", &self.namespaces),
            ("priority_class", &self.priority_classes),
            ("cluster", &self.clusters),
            ("node", &self.nodes),
            ("pool", &self.pools),
            ("cancel_reason", &self.cancel_reasons),
            ("cancel_user", &self.cancel_users),
        ]
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Dictionary> {
        self.by_column().into_iter().map(|(_, dictionary)| dictionary).chain(self.annotations.dictionaries())
    }

    /// The dictionary of a column; `None` for a column without codes.
    pub(crate) fn of(&self, column: &str) -> Option<&Dictionary> {
        self.by_column().into_iter().find(|(name, _)| *name == column).map(|(_, dictionary)| dictionary)
    }
}

impl Indexes {
    /// The bitmap index of a field of the latest run.
    pub(crate) fn of_latest_run(&self, field: TextField) -> Option<&BitmapIndex> {
        match field {
            TextField::Cluster => Some(&self.latest_clusters),
            TextField::Node => Some(&self.latest_nodes),
            TextField::Pool => Some(&self.latest_pools),
            _ => None,
        }
    }
}
