//! The latest run of jobs: its row, and copies of its cluster, node and pool.
//!
//! With the copies, predicates and groups by these fields do not read the table of runs. A change of a run updates the
//! copies of all jobs whose latest run it is: usually its own job, and the other jobs that refer to it.

use roaring::RoaringBitmap;

use super::latest_runs::DanglingRun;
use super::store::Store;
use crate::memory::storage::{Reference, RunId, locate};

impl Store {
    /// Sets the latest run of a job to an id and its row; `None` if the run does not exist.
    pub(super) fn set_latest_run(&mut self, row: u32, id: RunId, run: Option<u32>) {
        let before = self.latest_run(row);
        let latest = match run {
            Some(run) => Reference::Row(run),
            None => Reference::Dangling(self.dangling_index(id)),
        };
        if before != Some(latest) {
            if let Some(before) = before {
                self.leave(row, before);
            }
            self.point(row, latest);
        }
    }

    /// Resolves the references to a new run.
    pub(super) fn resolve_dangling(&mut self, run: u32, id: &RunId) {
        if self.latest_runs.dangling.is_empty() {
            return;
        }
        let Some(dangling) = self.latest_runs.dangling.remove(id) else { return };
        self.latest_runs.free.push(dangling.index);
        for row in dangling.jobs {
            self.point(row, Reference::Row(run));
        }
    }

    /// Updates the copies of a run's node.
    pub(super) fn node_changed(&mut self, run: u32) {
        let (runs, at) = self.runs.locate(run);
        let job = match Reference::unpack(runs.job.get(at)) {
            Reference::Row(row) if self.latest_run(row) == Some(Reference::Row(run)) => Some(row),
            _ => None,
        };
        let followers = self.latest_runs.followers.get(&run).cloned().unwrap_or_default();
        for row in followers.into_iter().chain(job) {
            self.copy_latest_run(row, Some(run));
        }
    }

    /// Whether a run with this id exists and is the latest run of a job.
    pub(super) fn has_latest_run(&self, row: u32, id: &RunId) -> bool {
        matches!(self.latest_run(row), Some(Reference::Row(run)) if self.runs.id(run) == *id)
    }

    fn latest_run(&self, row: u32) -> Option<Reference> {
        let (chunk, at) = locate(row);
        let latest = match self.jobs.chunk(chunk) {
            Ok(chunk) => chunk.cells.latest_run.get(at),
            Err(writer) => writer.latest_run.optional(at),
        };
        latest.map(Reference::unpack)
    }

    /// The index of the id of a run that does not exist.
    fn dangling_index(&mut self, id: RunId) -> u32 {
        if let Some(run) = self.latest_runs.dangling.get(&id) {
            return run.index;
        }
        let index = self.records.dangling_runs.insert(&mut self.latest_runs.free, id);
        self.latest_runs.dangling.insert(id, DanglingRun { index, jobs: RoaringBitmap::new() });
        index
    }

    /// Removes a job from the references to its previous latest run.
    fn leave(&mut self, row: u32, latest: Reference) {
        let latest_runs = &mut self.latest_runs;
        match latest {
            Reference::Row(run) => {
                if let Some(jobs) = latest_runs.followers.get_mut(&run)
                    && jobs.remove(row)
                    && jobs.is_empty()
                {
                    latest_runs.followers.remove(&run);
                }
            }
            Reference::Dangling(index) => {
                let id = *self.records.dangling_runs.get(index);
                if let Some(dangling) = latest_runs.dangling.get_mut(&id)
                    && dangling.jobs.remove(row)
                    && dangling.jobs.is_empty()
                {
                    latest_runs.dangling.remove(&id);
                    latest_runs.free.push(index);
                }
            }
        }
    }

    fn point(&mut self, row: u32, latest: Reference) {
        let run = match latest {
            Reference::Row(run) => {
                let (runs, at) = self.runs.locate(run);
                if runs.job.get(at) != Reference::Row(row).pack() {
                    self.latest_runs.followers.entry(run).or_default().insert(row);
                }
                Some(run)
            }
            Reference::Dangling(index) => {
                let id = self.records.dangling_runs.get(index);
                if let Some(dangling) = self.latest_runs.dangling.get_mut(id) {
                    dangling.jobs.insert(row);
                }
                None
            }
        };
        let (jobs, at) = self.jobs.locate(row);
        jobs.latest_run.set(at, latest.pack());
        self.copy_latest_run(row, run);
    }

    /// Copies the cluster, node and pool of a job's latest run, if it exists.
    fn copy_latest_run(&mut self, row: u32, run: Option<u32>) {
        let copied = run.map_or([None; 3], |run| {
            let (runs, at) = self.runs.locate(run);
            [Some(runs.cluster.get(at)), runs.node.optional(at), runs.pool.optional(at)]
        });
        let (jobs, at) = self.jobs.locate(row);
        let columns = [&mut jobs.cluster, &mut jobs.node, &mut jobs.pool];
        for ((column, changes), new) in columns.into_iter().zip(&mut self.latest_runs.changes).zip(copied) {
            let old = column.optional(at);
            if old == new {
                continue;
            }
            column.set_optional(at, new);
            if let Some(old) = old {
                changes.leave(old, row);
            }
            if let Some(new) = new {
                changes.enter(new, row);
            }
        }
    }
}
