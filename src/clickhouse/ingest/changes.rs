//! The changed rows of a batch, computed from the stored rows.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use smol_str::SmolStr;

use super::Stored;
use crate::clickhouse::row::{JobRow, RecordRow, StoredRun};
use crate::ingest::{IngestionBatch, JobEffect, JobPatch, JobUpdate, RecordInsert, RunUpdate};
use crate::model::JobState;

/// The inserted and updated rows of a batch, each with all columns.
#[derive(Debug, Default)]
pub(in crate::clickhouse) struct Changes {
    pub(super) specs: Vec<RecordRow>,
    pub(super) errors: Vec<RecordRow>,
    pub(super) runs: Changed<StoredRun>,
    pub(super) jobs: Changed<JobRow>,
}

/// The changed rows of a table.
#[derive(Debug)]
pub(super) struct Changed<T> {
    /// Rows with new ids.
    pub inserted: Vec<T>,
    /// Changed stored rows.
    pub updated: Vec<T>,
}

impl<T> Default for Changed<T> {
    fn default() -> Self {
        Self { inserted: Vec::new(), updated: Vec::new() }
    }
}

impl<T> Changed<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.inserted.is_empty() && self.updated.is_empty()
    }
}

impl Changes {
    /// Applies a batch to the stored rows of its ids.
    pub(in crate::clickhouse) fn new(batch: &IngestionBatch, stored: Stored) -> Self {
        Self {
            specs: unknown_records(batch.specs(), &stored.specs),
            errors: unknown_records(batch.errors(), &stored.errors),
            runs: changed(
                stored.runs,
                batch.runs().iter().map(|run| (&run.run_id, run)),
                batch.run_updates().iter().map(|update| (&update.run_id, update)),
                apply_to_run,
            ),
            jobs: changed(
                stored.jobs,
                batch.jobs().iter().map(|job| (&job.job_id, job)),
                batch.job_updates().iter().map(|update| (&update.job_id, update)),
                apply_to_job,
            ),
        }
    }

    /// Sets the version of every row.
    pub(in crate::clickhouse) fn set_version(&mut self, version: u64) {
        let Self { specs, errors, runs, jobs } = self;
        set_version(specs, version);
        set_version(errors, version);
        set_version(runs.inserted.iter_mut().chain(&mut runs.updated), version);
        set_version(jobs.inserted.iter_mut().chain(&mut jobs.updated), version);
    }

    pub(in crate::clickhouse) fn is_empty(&self) -> bool {
        self.specs.is_empty() && self.errors.is_empty() && self.runs.is_empty() && self.jobs.is_empty()
    }
}

/// A row that a batch writes.
pub(super) trait ChangedRow {
    fn version_mut(&mut self) -> &mut u64;

    /// The number of bytes of the values of unlimited length.
    fn bytes(&self) -> usize;

    /// The number of those bytes that an update contains.
    fn updated_bytes(&self) -> usize {
        self.bytes()
    }
}

impl ChangedRow for RecordRow {
    fn version_mut(&mut self) -> &mut u64 {
        &mut self.version
    }

    fn bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len)
    }
}

impl ChangedRow for StoredRun {
    fn version_mut(&mut self) -> &mut u64 {
        &mut self.version
    }

    fn bytes(&self) -> usize {
        self.error.iter().chain(&self.debug).map(Bytes::len).sum()
    }
}

impl ChangedRow for JobRow {
    fn version_mut(&mut self) -> &mut u64 {
        &mut self.version
    }

    fn bytes(&self) -> usize {
        self.annotations.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    fn updated_bytes(&self) -> usize {
        0
    }
}

fn set_version<'a, T: ChangedRow + 'a>(rows: impl IntoIterator<Item = &'a mut T>, version: u64) {
    rows.into_iter().for_each(|row| *row.version_mut() = version);
}

fn unknown_records(inserts: &[RecordInsert], stored: &HashSet<SmolStr>) -> Vec<RecordRow> {
    inserts.iter().filter(|insert| !stored.contains(insert.job_id.as_str())).map(RecordRow::from).collect()
}

/// Applies the inserts and updates of a batch to stored rows. The first insert of an id takes effect, and an update of an
/// unknown id is ignored. A batch has at most one insert and one update of an id, and `apply` returns whether an update
/// has an effect.
fn changed<'a, T: From<&'a I>, I: 'a, U: 'a>(
    mut stored: HashMap<SmolStr, T>,
    inserts: impl Iterator<Item = (&'a String, &'a I)>,
    updates: impl Iterator<Item = (&'a String, &'a U)>,
    apply: impl Fn(&mut T, &U) -> bool,
) -> Changed<T> {
    let unknown = inserts.filter(|(id, _)| !stored.contains_key(id.as_str()));
    let mut inserted: HashMap<_, T> = unknown.map(|(id, insert)| (id, insert.into())).collect();
    let mut updated = Vec::new();
    for (id, update) in updates {
        if let Some(row) = inserted.get_mut(id) {
            apply(row, update);
        } else if let Some(mut row) = stored.remove(id.as_str())
            && apply(&mut row, update)
        {
            updated.push(row);
        }
    }
    Changed { inserted: inserted.into_values().collect(), updated }
}

/// Applies an update to a job. Returns whether it has an effect.
fn apply_to_job(job: &mut JobRow, update: &JobUpdate) -> bool {
    match update.effect_on(job.state) {
        JobEffect::None => return false,
        JobEffect::Patch(patch) => apply_patch(job, patch),
        JobEffect::Preempt(time) => {
            job.state = JobState::Preempted;
            job.last_transition_time = time;
        }
    }
    true
}

fn apply_patch(job: &mut JobRow, patch: &JobPatch) {
    if let Some(priority) = patch.priority {
        job.priority = priority;
    }
    if let Some((state, time)) = patch.transition {
        job.state = state;
        job.last_transition_time = time;
    }
    if let Some(run_id) = &patch.latest_run_id {
        job.latest_run_id = Some(run_id.into());
    }
    if let Some(cancellation) = &patch.cancellation {
        job.cancelled = Some(cancellation.time);
        job.cancel_reason = cancellation.reason.as_ref().map(SmolStr::from);
        job.cancel_user = cancellation.user.as_ref().map(SmolStr::from);
    }
}

fn apply_to_run(run: &mut StoredRun, update: &RunUpdate) -> bool {
    fn set<T: Clone>(column: &mut Option<T>, value: &Option<T>) {
        if value.is_some() {
            column.clone_from(value);
        }
    }
    run.state = update.state;
    set(&mut run.node, &update.node.as_ref().map(SmolStr::from));
    set(&mut run.pending, &update.pending);
    set(&mut run.started, &update.started);
    set(&mut run.finished, &update.finished);
    set(&mut run.exit_code, &update.exit_code);
    set(&mut run.error, &update.error);
    set(&mut run.debug, &update.debug);
    true
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn batch(queries: impl IntoIterator<Item = Value>) -> IngestionBatch {
        IngestionBatch::new(queries.into_iter().map(|query| serde_json::from_value(query).unwrap())).unwrap()
    }

    fn new_job(id: &str) -> Value {
        json!({"type": "insertJob", "job": {"jobId": id, "queue": "q", "jobSet": "s", "owner": "o", "priority": 1,
            "submitted": "2026-01-01T00:00:00Z", "cpu": 1, "memory": 1, "ephemeralStorage": 1, "gpu": 0}})
    }

    fn priority(id: &str, priority: i64) -> Value {
        json!({"type": "updateJobPriority", "jobId": id, "priority": priority})
    }

    fn ended(id: &str) -> Value {
        json!({"type": "setJobSucceeded", "jobId": id, "time": "2026-01-01T00:00:01Z"})
    }

    /// The jobs of a batch as the stored rows of the next batch.
    fn stored(changes: Changes) -> Stored {
        let jobs = changes.jobs.inserted.into_iter().chain(changes.jobs.updated);
        Stored { jobs: jobs.map(|row| (row.job_id.clone(), row)).collect(), ..Stored::default() }
    }

    #[test]
    fn all_rows_of_a_batch_have_its_version() {
        let mut first = Changes::new(&batch([new_job("a"), priority("a", 2), priority("a", 3)]), Stored::default());
        first.set_version(7);
        assert_eq!((first.jobs.inserted[0].version, first.jobs.inserted[0].priority), (7, 3));
        let stored = stored(first);
        assert_eq!(stored.newest_version(), 7);
        let mut second = Changes::new(&batch([priority("a", 4), ended("a")]), stored);
        second.set_version(9);
        assert!(second.jobs.inserted.is_empty());
        assert_eq!((second.jobs.updated[0].version, second.jobs.updated[0].priority), (9, 4));
    }

    #[test]
    fn a_batch_without_an_effect_writes_nothing() {
        let first = Changes::new(&batch([new_job("a"), ended("a")]), Stored::default());
        let second = batch([new_job("a"), priority("a", 5), ended("a"), priority("unknown", 5)]);
        assert!(Changes::new(&second, stored(first)).is_empty());
    }
}
