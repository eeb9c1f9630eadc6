//! The actions of a load: their reads, and the updates that they pass to the workers.

use super::{Completion, Driver, Setup};
use crate::error::Result;
use crate::load::actions::{self, ActiveJob, Progress};

/// The maximum number of updates of an action that an iteration of the driver passes to the workers.
const CHANGES_PER_ITERATION: usize = 2000;

impl Driver {
    pub(super) fn start_actions(&mut self, now: u64) {
        for index in 0..self.setup.actions.len() {
            let action = &mut self.setup.actions[index];
            if action.progress == Progress::Waiting && action.due <= now && action.due <= self.setup.end {
                action.progress = Progress::Reading;
                let (database, config) = (self.setup.database.clone(), action.config.clone());
                self.spawn(async move {
                    Completion::ActionJobs { action: index, jobs: actions::active_jobs(database, config).await }
                });
            }
        }
    }

    /// Schedules the updates of an action.
    pub(super) fn apply_action(&mut self, index: usize, jobs: Result<Vec<ActiveJob>>) {
        let action = &mut self.setup.actions[index];
        match jobs {
            Err(error) => {
                let nanos = (self.setup.offset + self.setup.start.elapsed()).as_nanos() as u64;
                action.progress = Progress::Ended { nanos, jobs: 0, error: Some(error.to_string()) };
                self.setup.recorder.action_failed(action.due);
            }
            Ok(mut jobs) => {
                jobs.retain(|job| self.setup.generator.may_update(job));
                action.progress = Progress::Changing { left: jobs.len() as u64, changed: jobs.len() as u64 };
                self.changes.push_back((index, jobs.into_iter()));
                self.finish_action_if_done(index);
            }
        }
    }

    /// Passes some updates of actions to the workers: all of them at once would delay other events.
    pub(super) fn pass_changes(&mut self, now: u64) {
        let Some((index, jobs)) = self.changes.front_mut() else { return };
        let Setup { generator, actions, .. } = &mut self.setup;
        let factory = generator.factory().clone();
        // The due time is within the test, so that the updates are sent even if the test has ended meanwhile.
        let due = now.min(generator.horizon().saturating_sub(1));
        for job in jobs.by_ref().take(CHANGES_PER_ITERATION) {
            generator.change(due, &job.id, actions[*index].change(*index, &job, &factory, factory.time(due)));
        }
        if jobs.len() == 0 {
            self.changes.pop_front();
        }
    }

    /// Counts an update of an action that is stored, or was skipped because its job had ended.
    pub(super) fn change_completed(&mut self, index: usize, stored: bool) {
        if let Progress::Changing { left, changed } = &mut self.setup.actions[index].progress {
            *left -= 1;
            *changed -= u64::from(!stored);
        }
        self.finish_action_if_done(index);
    }

    fn finish_action_if_done(&mut self, index: usize) {
        let nanos = (self.setup.offset + self.setup.start.elapsed()).as_nanos() as u64;
        let progress = &mut self.setup.actions[index].progress;
        if let Progress::Changing { left: 0, changed } = *progress {
            *progress = Progress::Ended { nanos, jobs: changed, error: None };
        }
    }
}
