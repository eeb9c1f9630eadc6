//! Values of a store that no batch can contain: states of a later version of Lookout, and times outside the limits.
//!
//! They do not fail the page that contains them. A state is shown as `UNKNOWN_` with its ordinal, a time as the nearest
//! one within the limits. The first value of each column is reported with its id as a warning, and the number of all of
//! them when the handle is dropped.

use std::collections::BTreeMap;
use std::fmt::Display;

use parking_lot::Mutex;
use tracing::warn;

use crate::ingest::{EARLIEST, END};
use crate::model::{GroupAggregates, Job, JobState, Run, RunState};
use crate::time::Timestamp;

const LATEST: Timestamp = Timestamp::from_micros(END.as_micros() - 1);

/// The number of such values that a handle has read, by column.
#[derive(Debug, Default)]
pub(crate) struct OddValues(Mutex<BTreeMap<&'static str, u64>>);

impl OddValues {
    /// Counts a value, and reports it if it is the first one of its column.
    pub(crate) fn note(&self, column: &'static str, id: &str, value: &dyn Display) {
        let mut counts = self.0.lock();
        let count = counts.entry(column).or_default();
        *count += 1;
        if *count == 1 {
            warn!(column, id, %value, "the store contains a value that this version does not know");
        }
    }

    /// Settles the state and the times of a job without its runs.
    pub(crate) fn settle_job(&self, job: &mut Job) {
        let Job { job_id: id, submitted, cancelled, last_transition_time, state, .. } = job;
        self.settle_time("job.submitted", id, submitted);
        self.settle_time("job.last_transition_time", id, last_transition_time);
        cancelled.iter_mut().for_each(|time| self.settle_time("job.cancelled", id, time));
        if let JobState::Unknown(_) = state {
            self.note("job.state", id, state);
        }
    }

    /// Settles the state and the times of a run.
    pub(crate) fn settle_run(&self, run: &mut Run) {
        let Run { run_id: id, leased, pending, started, finished, job_run_state, .. } = run;
        let times = [
            ("job_run.leased", leased),
            ("job_run.pending", pending),
            ("job_run.started", started),
            ("job_run.finished", finished),
        ];
        for (column, time) in times {
            time.iter_mut().for_each(|time| self.settle_time(column, id, time));
        }
        if let RunState::Unknown(_) = job_run_state {
            self.note("job_run.job_run_state", id, job_run_state);
        }
    }

    /// Settles the times of a group, whose name is the id. They have names of their own, so that the warning of a column
    /// names a job.
    pub(crate) fn settle_group(&self, name: &str, aggregates: &mut GroupAggregates) {
        let GroupAggregates { submitted, last_transition_time, .. } = aggregates;
        submitted.iter_mut().for_each(|time| self.settle_time("submitted of a group", name, time));
        last_transition_time
            .iter_mut()
            .for_each(|time| self.settle_time("last_transition_time of a group", name, time));
    }

    /// Replaces a time outside the limits by the nearest one within them.
    fn settle_time(&self, column: &'static str, id: &str, time: &mut Timestamp) {
        if !(EARLIEST..END).contains(time) {
            self.note(column, id, time);
            *time = (*time).clamp(EARLIEST, LATEST);
        }
    }
}

impl Drop for OddValues {
    fn drop(&mut self) {
        for (column, values) in self.0.get_mut().iter().filter(|&(_, &values)| values > 1) {
            warn!(column, values, "the store contains values that this version does not know");
        }
    }
}
