//! Actions on job sets: read the active jobs of a set, then update each of them.

use std::sync::Arc;

use smol_str::SmolStr;

use super::config::{ActionConfig, LoadConfig};
use super::lifecycle::JobFactory;
use super::record::{ActionRecord, ActionType};
use super::worker::{Change, ChangeTarget};
use crate::database::Database;
use crate::error::Result;
use crate::ingest::{SetJobCancelled, UpdateJobPriority};
use crate::model::{JobState, StateSet};
use crate::query::{JobQuery, StateField, TextField};
use crate::time::Timestamp;

/// The maximum number of jobs that an action updates.
const MAX_JOBS: u64 = 200_000;
/// The new priority of reprioritised jobs.
pub(super) const NEW_PRIORITY: i64 = 2000;
pub(super) const CANCEL_REASON: &str = "Bulk cancellation via Broadside test";
pub(super) const CANCEL_USER: &str = "broadside-test";

/// An action and its progress.
#[derive(Debug)]
pub(super) struct Action {
    pub(super) kind: ActionType,
    pub(super) config: ActionConfig,
    /// The due time, in microseconds from the start of the load.
    pub(super) due: u64,
    pub(super) progress: Progress,
}

/// The progress of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    Waiting,
    /// The active jobs are being read.
    Reading,
    /// The updates are being stored: the number of outstanding ones, and of all that were not skipped.
    Changing {
        left: u64,
        changed: u64,
    },
    /// The action has ended, in nanoseconds from the start of the run.
    Ended {
        nanos: u64,
        jobs: u64,
        error: Option<String>,
    },
}

/// An active job that an action updates.
#[derive(Debug)]
pub(super) struct ActiveJob {
    pub(super) id: SmolStr,
    pub(super) submitted: Timestamp,
    pub(super) state: JobState,
}

/// The actions of a configuration by due time. `test_start` is in microseconds from the start of the load.
pub(super) fn actions(config: &LoadConfig, test_start: u64) -> Vec<Action> {
    let of_kind = |kind, configs: &[ActionConfig]| {
        let action = |config: &ActionConfig| Action {
            kind,
            due: test_start + config.perform_after_test_start_time.as_micros() as u64,
            config: config.clone(),
            progress: Progress::Waiting,
        };
        configs.iter().map(action).collect::<Vec<_>>()
    };
    let mut actions = of_kind(ActionType::Reprioritise, &config.actions.job_set_reprioritisations);
    actions.extend(of_kind(ActionType::Cancel, &config.actions.job_set_cancellations));
    actions.sort_by_key(|action| action.due);
    actions
}

/// The time of the next action after `now`. An action that is due earlier has started, or is due after the end.
pub(super) fn next_time(actions: &[Action], now: u64) -> Option<u64> {
    let waiting = actions.iter().filter(|action| action.progress == Progress::Waiting);
    waiting.map(|action| action.due).find(|&due| due > now)
}

/// Reads the active jobs of an action's job set.
pub(super) async fn active_jobs(database: Arc<dyn Database>, config: ActionConfig) -> Result<Vec<ActiveJob>> {
    let query = JobQuery::new()
        .filter(TextField::Queue.equals(config.queue))
        .filter(TextField::JobSet.equals(config.job_set))
        .filter(StateField.any_of(StateSet::ACTIVE.iter()))
        .limit(MAX_JOBS);
    let jobs = database.get_jobs(&query).await?;
    let active = jobs.into_iter().map(|job| ActiveJob { id: job.job_id, submitted: job.submitted, state: job.state });
    Ok(active.collect())
}

impl Action {
    /// The update of a job by this action, whose index is `index`.
    pub(super) fn change(&self, index: usize, job: &ActiveJob, factory: &JobFactory, now: Timestamp) -> Change {
        let (job_id, submitted) = (job.id.to_string(), Some(job.submitted));
        let query = match self.kind {
            ActionType::Reprioritise => UpdateJobPriority { job_id, priority: NEW_PRIORITY, submitted }.into(),
            ActionType::Cancel => SetJobCancelled {
                job_id,
                time: now,
                cancel_reason: Some(CANCEL_REASON.to_owned()),
                cancel_user: Some(CANCEL_USER.to_owned()),
                submitted,
            }
            .into(),
        };
        let target = factory.key(job.submitted, &job.id).map_or(ChangeTarget::Other(job.state), ChangeTarget::Live);
        Change { action: index, query, target }
    }

    /// The record of the action. `offset_nanos` is the start of the load from the start of the run.
    pub(super) fn record(&self, offset_nanos: u64) -> ActionRecord {
        let (end_nanos, jobs, error) = match &self.progress {
            Progress::Ended { nanos, jobs, error } => (Some(*nanos), *jobs, error.clone()),
            Progress::Changing { left, changed } => (None, changed - left, None),
            Progress::Waiting | Progress::Reading => (None, 0, None),
        };
        ActionRecord {
            action: self.kind,
            queue: self.config.queue.clone(),
            job_set: self.config.job_set.clone(),
            due_nanos: offset_nanos + self.due * 1000,
            end_nanos,
            jobs,
            error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<Action> {
        let config = super::super::fixtures::config(
            "actionsConfig:
  jobSetReprioritisations: [{performAfterTestStartTime: 3s, queue: q, jobSet: s}]
  jobSetCancellations: [{performAfterTestStartTime: 1s, queue: q, jobSet: s}]",
        );
        actions(&config, 2_000_000)
    }

    #[test]
    fn actions_are_due_in_order_from_the_start_of_the_test() {
        let mut actions = two();
        let due: Vec<_> = actions.iter().map(|action| (action.kind, action.due)).collect();
        assert_eq!(due, [(ActionType::Cancel, 3_000_000), (ActionType::Reprioritise, 5_000_000)]);
        let next = |actions: &[Action], now| next_time(actions, now);
        assert_eq!((next(&actions, 2_999_999), next(&actions, 3_000_000)), (Some(3_000_000), Some(5_000_000)));
        assert_eq!(next(&actions, 5_000_000), None);
        actions[0].progress = Progress::Reading;
        assert_eq!(next(&actions, 0), Some(5_000_000));
    }

    #[test]
    fn the_record_has_the_updates_that_are_stored() {
        let [mut action, _] = <[Action; 2]>::try_from(two()).unwrap();
        let mut record = |progress| {
            action.progress = progress;
            let ActionRecord { due_nanos, end_nanos, jobs, error, .. } = action.record(70);
            assert_eq!(due_nanos, 3_000_000_070);
            (end_nanos, jobs, error)
        };
        assert_eq!(record(Progress::Waiting), (None, 0, None));
        assert_eq!(record(Progress::Reading), (None, 0, None));
        assert_eq!(record(Progress::Changing { left: 3, changed: 10 }), (None, 7, None));
        assert_eq!(record(Progress::Ended { nanos: 90, jobs: 9, error: None }), (Some(90), 9, None));
        let error = || Some("away".to_owned());
        assert_eq!(record(Progress::Ended { nanos: 90, jobs: 0, error: error() }), (Some(90), 0, error()));
    }
}
