//! The expected counts of jobs in the store.

use serde::{Deserialize, Serialize};

use super::lifecycle::LifeStage;
use crate::model::JobState;

/// Counts of jobs by state, updated with each event that is sent. After the drain, the store must have the same counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ExpectedCounts {
    states: [i64; 10],
    with_run: i64,
}

impl ExpectedCounts {
    /// The counts of a store.
    pub(super) fn of_store(states: &[(JobState, u64)], with_run: u64) -> Self {
        let mut expectation = Self { with_run: with_run as i64, ..Self::default() };
        for (state, count) in states {
            expectation.states[usize::from(state.ordinal())] = *count as i64;
        }
        expectation
    }

    /// Counts the transition of a job into a stage.
    pub(super) fn advance(&mut self, stage: LifeStage) {
        self.transition(stage.before().map(LifeStage::state), stage.state());
        if stage == LifeStage::Leased {
            self.with_run += 1;
        }
    }

    /// Counts the transition of a job from a state, or of a new job, into another state.
    pub(super) fn transition(&mut self, from: Option<JobState>, to: JobState) {
        if let Some(from) = from {
            self.states[usize::from(from.ordinal())] -= 1;
        }
        self.states[usize::from(to.ordinal())] += 1;
    }

    /// Adds jobs that have a run.
    pub(super) fn add(&mut self, state: JobState, jobs: u64) {
        self.states[usize::from(state.ordinal())] += jobs as i64;
        self.with_run += jobs as i64;
    }

    /// The sum of both counts.
    pub(super) fn plus(&self, other: &Self) -> Self {
        let states = std::array::from_fn(|index| self.states[index] + other.states[index]);
        Self { states, with_run: self.with_run + other.with_run }
    }

    pub(super) fn jobs(&self) -> u64 {
        self.states.iter().sum::<i64>().unsigned_abs()
    }

    /// The differences between the expected and the stored counts.
    pub(super) fn differences(&self, stored: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for state in JobState::ALL {
            let [expected, found] = [self, stored].map(|counts| counts.states[usize::from(state.ordinal())]);
            if expected != found {
                differences.push(format!("{found} jobs are {state}, expected {expected}"));
            }
        }
        if self.with_run != stored.with_run {
            differences.push(format!("{} jobs have a run, expected {}", stored.with_run, self.with_run));
        }
        differences
    }
}
