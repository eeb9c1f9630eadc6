//! Inserts and updates of runs.

use std::sync::Arc;

use super::Store;
use crate::ingest::{RunInsert, RunUpdate};
use crate::memory::storage::{JobId, NONE, NULL, RunId, RunRows};
use crate::model::RunState;
use crate::time::Timestamp;

impl Store {
    /// Inserts the runs whose ids are new.
    pub(super) fn insert_runs(&mut self, runs: &[RunInsert]) {
        let ids = || runs.iter().map(|run| RunId::new(&run.run_id));
        let known = self.tables.run_rows(ids());
        let new = ids().zip(runs).zip(known).filter(|(_, known)| known.is_none());
        let new = new.filter_map(|((id, run), _)| Some((id?, JobId::new(&run.job_id)?, run)));
        let new: Vec<(RunId, JobId, &RunInsert)> = new.collect();
        if new.is_empty() {
            return;
        }
        let runs = || new.iter().map(|&(.., run)| run);
        let count = new.len();
        let tables = &mut self.tables;
        let rows = RunRows {
            ids: new.iter().map(|&(id, ..)| id).collect(),
            job_ids: new.iter().map(|&(_, job_id, _)| job_id).collect(),
            job_rows: vec![NONE; count],
            previous: vec![NONE; count],
            cluster: tables.clusters.intern_all(runs().map(|run| Some(run.cluster.as_str()))),
            node: tables.nodes.intern_all(runs().map(|run| run.node.as_deref())),
            pool: tables.pools.intern_all(runs().map(|run| run.pool.as_deref())),
            leased: runs().map(|run| run.leased.as_micros()).collect(),
            pending: vec![NULL; count],
            started: vec![NULL; count],
            finished: vec![NULL; count],
            state: vec![RunState::Leased.ordinal(); count],
            exit_code: vec![NULL; count],
            error: vec![None; count],
            debug: vec![None; count],
        };
        self.append_runs(rows);
    }

    /// Appends rows of runs whose ids are new, links them to their jobs and enters them into the index.
    pub(super) fn append_runs(&mut self, rows: RunRows) {
        let first = self.tables.runs.len() as u32;
        let ids = rows.ids.clone();
        self.tables.runs.append(rows, |_, _| {});
        for (run, id) in (first..).zip(&ids) {
            self.link(run);
            self.tables.run_index.insert(id, run, |run| self.tables.runs.id(run));
            if self.tables.dangling_runs.len() > 0 {
                self.resolve_dangling(run, id.as_str());
            }
        }
    }

    /// Puts a run at the end of its job's chain of runs, or of the orphans of that job.
    fn link(&mut self, run: u32) {
        let (chunk, at) = self.tables.runs.locate(run);
        let job_id = chunk.job_ids.get(at);
        // A bulk load knows the row already.
        let job = Some(chunk.job_rows.get(at)).filter(|&row| row != NONE).or_else(|| self.tables.job_row(&job_id));
        let previous = match job {
            Some(row) => {
                let (chunk, at) = self.tables.jobs.locate_mut(row);
                let previous = chunk.last_run.get(at);
                chunk.last_run.set(at, run);
                previous
            }
            None => self.orphans.insert(job_id, run).unwrap_or(NONE),
        };
        let (chunk, at) = self.tables.runs.locate_mut(run);
        chunk.previous.set(at, previous);
        chunk.job_rows.set(at, job.unwrap_or(NONE));
    }

    /// The runs of a chain, the last first.
    pub(super) fn run_chain(&self, last: u32) -> Vec<u32> {
        let before = |&run: &u32| {
            let (chunk, at) = self.tables.runs.locate(run);
            Some(chunk.previous.get(at)).filter(|&previous| previous != NONE)
        };
        std::iter::successors(Some(last), before).collect()
    }

    /// Gives a new job the runs that came before it.
    pub(super) fn adopt(&mut self, row: u32, last_run: u32, runs: &[u32]) {
        let (chunk, at) = self.tables.jobs.locate_mut(row);
        chunk.last_run.set(at, last_run);
        for &run in runs {
            let (chunk, at) = self.tables.runs.locate_mut(run);
            chunk.job_rows.set(at, row);
        }
    }

    /// Applies updates to those of the runs that exist.
    pub(super) fn update_runs(&mut self, updates: &[RunUpdate]) {
        let rows = self.tables.run_rows(updates.iter().map(|update| RunId::new(&update.run_id)));
        for (update, run) in updates.iter().zip(rows) {
            if let Some(run) = run {
                self.update_run(run, update);
            }
        }
    }

    fn update_run(&mut self, run: u32, update: &RunUpdate) {
        let node = update.node.as_deref().map(|node| self.tables.nodes.intern(node));
        let (chunk, at) = self.tables.runs.locate_mut(run);
        chunk.state.set(at, update.state.ordinal());
        let times = [
            (&mut chunk.pending, update.pending),
            (&mut chunk.started, update.started),
            (&mut chunk.finished, update.finished),
        ];
        for (column, time) in times {
            if let Some(micros) = time.map(Timestamp::as_micros) {
                column.set(at, micros);
            }
        }
        if let Some(exit_code) = update.exit_code {
            chunk.exit_code.set(at, i64::from(exit_code));
        }
        for (column, message) in [(&mut chunk.error, &update.error), (&mut chunk.debug, &update.debug)] {
            if let Some(message) = message {
                column.set(at, Some(Arc::new(message.clone())));
            }
        }
        if let Some(node) = node.filter(|&node| node != chunk.node.get(at)) {
            chunk.node.set(at, node);
            self.node_changed(run);
        }
    }
}
