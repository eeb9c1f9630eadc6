//! Inserts and updates of runs.

use bytes::Bytes;
use datafusion::arrow::array::{Array, Int32Array, TimestampMicrosecondArray, UInt8Array, UInt32Array};
use datafusion::arrow::error::ArrowError;

use super::batch::copied;
use super::store::Store;
use crate::ingest::{RunInsert, RunUpdate};
use crate::memory::storage::{Arena, JobId, Reference, RunId, RunRows, locate};
use crate::model::RunState;
use crate::time::Timestamp;

impl Store {
    /// Inserts the runs whose ids are new.
    pub(super) fn insert_runs(&mut self, runs: &[RunInsert]) -> Result<(), ArrowError> {
        let ids = || runs.iter().map(|run| RunId::new(&run.run_id));
        let known = self.run_rows(ids());
        let new = ids().zip(runs).zip(known).filter(|(_, known)| known.is_none());
        let new = new.filter_map(|((id, run), _)| Some((id?, JobId::new(&run.job_id)?, run)));
        let new: Vec<(RunId, JobId, &RunInsert)> = new.collect();
        if new.is_empty() {
            return Ok(());
        }
        let runs = || new.iter().map(|&(.., run)| run);
        let count = new.len();
        let no_time = TimestampMicrosecondArray::new_null(count);
        let no_index = UInt32Array::new_null(count);
        let job = self.jobs_of_runs(new.iter().map(|&(_, job_id, _)| job_id));
        let dictionaries = &mut self.dictionaries;
        let rows = RunRows {
            run_id: RunId::column(new.iter().map(|&(id, ..)| id))?,
            cluster: UInt32Array::from(
                dictionaries.clusters.intern_all::<Vec<u32>>(runs().map(|run| run.cluster.as_str())),
            ),
            node: dictionaries.nodes.intern_optional(runs().map(|run| run.node.as_deref())).into(),
            pool: dictionaries.pools.intern_optional(runs().map(|run| run.pool.as_deref())).into(),
            leased: TimestampMicrosecondArray::from_iter_values(runs().map(|run| run.leased.as_micros())),
            pending: no_time.clone(),
            started: no_time.clone(),
            finished: no_time,
            state: UInt8Array::from_value(RunState::Leased.ordinal(), count),
            exit_code: Int32Array::new_null(count),
            error: no_index.clone(),
            debug: no_index.clone(),
            job,
            previous: no_index,
        };
        self.append_runs(&rows);
        Ok(())
    }

    /// Appends rows of new runs, links them to their jobs and indexes them.
    pub(super) fn append_runs(&mut self, rows: &RunRows) {
        let first = self.runs.len() as u32;
        self.runs.append(rows, |_, _| {});
        for (at, run) in (0..rows.run_id.len()).zip(first..) {
            let id = RunId::at(rows.run_id.value_data(), at);
            self.link(run, Reference::unpack(rows.job.value(at)));
            self.indexes.run_ids.insert(&id, run);
            self.resolve_dangling(run, &id);
        }
    }

    /// References to the jobs of new runs. The id of a job that does not exist is added to the missing jobs.
    pub(super) fn jobs_of_runs(&mut self, ids: impl Iterator<Item = JobId> + Clone) -> UInt32Array {
        let rows = self.job_rows(ids.clone().map(Some));
        let reference = |(id, row): (JobId, Option<u32>)| match row {
            Some(row) => Reference::Row(row),
            None => Reference::Dangling(self.orphans.index_of(&mut self.records.missing_jobs, id)),
        };
        UInt32Array::from_iter_values(ids.zip(rows).map(reference).map(Reference::pack))
    }

    /// Links a run to the previous run of its job.
    fn link(&mut self, run: u32, job: Reference) {
        let previous = match job {
            Reference::Row(row) => {
                let (jobs, at) = self.jobs.locate(row);
                let previous = jobs.last_run.optional(at);
                jobs.last_run.set(at, run);
                previous
            }
            Reference::Dangling(index) => self.orphans.link(self.records.missing_jobs.get(index), run),
        };
        if let Some(previous) = previous {
            let (runs, at) = self.runs.locate(run);
            runs.previous.set(at, previous);
        }
    }

    /// Links a new job to the runs that were inserted before it, the last of which is `last`.
    pub(super) fn adopt(&mut self, row: u32, last: u32) {
        let (jobs, at) = self.jobs.locate(row);
        jobs.last_run.set(at, last);
        let mut next = Some(last);
        while let Some(run) = next {
            let (runs, at) = self.runs.locate(run);
            runs.job.set(at, Reference::Row(row).pack());
            next = runs.previous.optional(at);
        }
    }

    /// Updates the runs that exist.
    pub(super) fn update_runs(&mut self, updates: &[RunUpdate]) {
        let rows = self.run_rows(updates.iter().map(|update| RunId::new(&update.run_id)));
        for (update, run) in updates.iter().zip(rows) {
            if let Some(run) = run {
                self.update_run(run, update);
            }
        }
    }

    fn update_run(&mut self, run: u32, update: &RunUpdate) {
        let (chunk, at) = locate(run);
        let runs = self.runs.writer(chunk);
        runs.state.set(at, update.state.ordinal());
        let times = [
            (&mut runs.pending, update.pending),
            (&mut runs.started, update.started),
            (&mut runs.finished, update.finished),
        ];
        for (column, time) in times {
            if let Some(micros) = time.map(Timestamp::as_micros) {
                column.set(at, micros);
            }
        }
        if let Some(exit_code) = update.exit_code {
            runs.exit_code.set(at, exit_code);
        }
        let messages = &mut self.records.run_messages;
        for (column, message) in [(&mut runs.error, &update.error), (&mut runs.debug, &update.debug)] {
            match (message, column.optional(at)) {
                (None, _) => {}
                (Some(message), Some(index)) => messages.set(index, copied(message)),
                (Some(message), None) => column.set(at, messages.push(copied(message))),
            }
        }
        let nodes = &mut self.dictionaries.nodes;
        // Most updates repeat the node. A comparison with its text costs less than a lookup in the dictionary.
        let is_known = |node: &&str| runs.node.optional(at).is_some_and(|code| nodes.text(code) == node);
        if let Some(node) = update.node.as_deref().filter(|node| !is_known(node)) {
            runs.node.set(at, nodes.intern(node));
            self.node_changed(run);
        }
    }
}

/// Stores the messages of runs; returns their indices.
pub(super) fn push_messages(messages: &mut Arena<Bytes>, of_runs: impl Iterator<Item = Option<Bytes>>) -> UInt32Array {
    of_runs.map(|message| message.map(|message| messages.push(message))).collect()
}
