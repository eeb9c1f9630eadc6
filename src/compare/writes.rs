//! The small batches between reads of groups.

use crate::error::Result;
use crate::ingest::{IngestionBatch, IngestionQuery, SetJobPending, SetJobRunning};
use crate::time::Timestamp;
use crate::workload::{GeneratedJob, Workload};

/// The number of updates in a batch.
const UPDATES_PER_WRITE: usize = 20;
/// The number of the newest jobs among which the active ones are updated.
const NEWEST_JOBS: u64 = 2000;

/// Batches without end, each of which changes the states and the times of some of the newest active jobs.
#[derive(Debug)]
pub(super) struct Writes {
    /// The newest jobs that have a run and are not terminal.
    jobs: Vec<GeneratedJob>,
    /// The time of the first batch. Each batch is a second later.
    start: Timestamp,
    batches: usize,
}

impl Writes {
    pub(super) fn new(workload: &Workload) -> Self {
        let count = workload.options().jobs;
        let newest = (count.saturating_sub(NEWEST_JOBS)..count).rev().map(|number| workload.job(number));
        let is_active = |job: &GeneratedJob| !job.state.is_terminal() && !job.runs.is_empty();
        Self { jobs: newest.filter(is_active).collect(), start: workload.now().plus_seconds(-43_200), batches: 0 }
    }

    /// Whether there is no active job.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The next batch.
    pub(super) fn next(&mut self) -> Result<IngestionBatch> {
        let number = self.batches;
        self.batches += 1;
        let time = self.start.plus_seconds(number as i64);
        let first = number * UPDATES_PER_WRITE;
        let updates = first..first + UPDATES_PER_WRITE.min(self.jobs.len());
        IngestionBatch::new(updates.map(|at| {
            // The state of a job alternates from pass to pass over the jobs.
            let (pass, at) = (at / self.jobs.len(), at % self.jobs.len());
            update(&self.jobs[at], pass.is_multiple_of(2), time)
        }))
    }
}

fn update(job: &GeneratedJob, pending: bool, time: Timestamp) -> IngestionQuery {
    let (job_id, submitted) = (job.new.job_id.clone(), Some(job.new.submitted));
    let run_id = job.runs.last().map(|run| run.run_id.clone()).unwrap_or_default();
    if pending {
        SetJobPending { job_id, time, run_id, submitted }.into()
    } else {
        SetJobRunning { job_id, time, latest_run_id: run_id, submitted }.into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::workload::WorkloadOptions;

    #[test]
    fn every_batch_changes_other_active_jobs_until_all_have_changed() {
        let workload = Workload::new(WorkloadOptions { jobs: 3000, ..WorkloadOptions::default() });
        let active: BTreeSet<_> = (1000..3000)
            .map(|number| workload.job(number))
            .filter(|job| !job.state.is_terminal() && !job.runs.is_empty())
            .map(|job| job.new.job_id)
            .collect();
        let mut writes = Writes::new(&workload);
        let mut updates: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for _ in 0..2 * active.len().div_ceil(UPDATES_PER_WRITE) {
            let batch = writes.next().unwrap();
            assert_eq!((batch.query_count(), batch.job_updates().len()), (UPDATES_PER_WRITE, UPDATES_PER_WRITE));
            for update in batch.job_updates() {
                updates.entry(update.job_id.to_string()).or_default().push(update.if_active.transition);
            }
        }
        assert_eq!(updates.keys().cloned().collect::<BTreeSet<_>>(), active);
        for (job, transitions) in updates {
            let [(first, _), (second, _), ..] = &transitions.iter().flatten().collect::<Vec<_>>()[..] else {
                panic!("{job}: {transitions:?}")
            };
            assert_ne!(first, second, "the second write of {job} changes its state again");
        }
    }

    #[test]
    fn few_jobs_are_updated_once_in_a_batch() {
        let workload = Workload::new(WorkloadOptions { jobs: 10, ..WorkloadOptions::default() });
        let mut writes = Writes::new(&workload);
        assert!((1..10).contains(&writes.jobs.len()) && !writes.is_empty());
        assert_eq!(writes.next().unwrap().query_count(), writes.jobs.len());
        assert!(Writes::new(&Workload::new(WorkloadOptions { jobs: 0, ..WorkloadOptions::default() })).is_empty());
    }
}
