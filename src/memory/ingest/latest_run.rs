//! What jobs keep of their latest run: its row, and its cluster, node and pool.
//!
//! Filters and groups by these would otherwise visit the run of every job. So each job holds
//! the three codes, and whatever changes a run changes the jobs that it is the latest of: the
//! job that it belongs to, mostly, and its followers.

use super::Store;
use crate::memory::storage::{LatestRun, NONE, RunId};

impl Store {
    /// Sets a job's latest-run id, whether such a run exists or not.
    pub(super) fn set_latest_run(&mut self, row: u32, run_id: &str) {
        let (chunk, at) = self.tables.jobs.locate(row);
        let before = LatestRun::unpack(chunk.latest_run.get(at));
        let id = RunId::new(run_id);
        // From its lease on a job mostly names the same run, which then need not be looked up.
        if let LatestRun::Run(run) = before
            && id == Some(self.tables.runs.id(run))
        {
            return;
        }
        let latest = match id.and_then(|id| self.tables.run_row(&id)) {
            Some(run) => LatestRun::Run(run),
            None => LatestRun::Dangling(self.tables.dangling_runs.intern(run_id)),
        };
        if before == latest {
            return;
        }
        if let LatestRun::Dangling(code) = latest {
            self.tables.dangling_runs.post([(code, row)].into_iter());
        }
        self.point(row, latest);
    }

    /// Takes in that a run exists: jobs that named its id before now have it for their latest.
    pub(super) fn resolve_dangling(&mut self, run: u32, run_id: &str) {
        let Some(code) = self.tables.dangling_runs.code(run_id) else { return };
        for row in self.tables.dangling_runs.rows(code).to_bitmap() {
            let (chunk, at) = self.tables.jobs.locate(row);
            if chunk.latest_run.get(at) == LatestRun::Dangling(code).pack() {
                self.point(row, LatestRun::Run(run));
            }
        }
    }

    /// Takes in that a run's node has changed.
    pub(super) fn node_changed(&mut self, run: u32) {
        let (chunk, at) = self.tables.runs.locate(run);
        let job = chunk.job_rows.get(at);
        let followers = self.followers.get(&run).cloned().unwrap_or_default();
        for row in followers.into_iter().chain((job != NONE).then_some(job)) {
            let (chunk, at) = self.tables.jobs.locate(row);
            if chunk.latest_run.get(at) == LatestRun::Run(run).pack() {
                self.point(row, LatestRun::Run(run));
            }
        }
    }

    /// Makes `latest` a job's latest run, and copies what the job keeps of it.
    fn point(&mut self, row: u32, latest: LatestRun) {
        let tables = &mut self.tables;
        let mut copied = [NONE; 3];
        if let LatestRun::Run(run) = latest {
            let (chunk, at) = tables.runs.locate(run);
            copied = [chunk.cluster.get(at), chunk.node.get(at), chunk.pool.get(at)];
            if chunk.job_rows.get(at) != row {
                let followers = self.followers.entry(run).or_default();
                if !followers.contains(&row) {
                    followers.push(row);
                }
            }
        }
        let (chunk, at) = tables.jobs.locate_mut(row);
        chunk.latest_run.set(at, latest.pack());
        let columns = [&mut chunk.cluster, &mut chunk.node, &mut chunk.pool];
        let indexes = [&mut tables.latest_clusters, &mut tables.latest_nodes, &mut tables.latest_pools];
        for ((column, index), new) in columns.into_iter().zip(indexes).zip(copied) {
            let old = column.get(at);
            if old != new {
                column.set(at, new);
                index.remove(old, row);
                index.insert(new, row);
            }
        }
    }
}
