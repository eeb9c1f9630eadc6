//! What the store should hold, by what the driver was told is stored.

use super::life::LifeStage;
use crate::model::JobState;

/// Counts of jobs, kept along with what is sent. When all that was sent is known to be stored, the store must have
/// just these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Expectation {
    states: [i64; 10],
    with_run: i64,
}

impl Expectation {
    /// The counts of a store.
    pub(super) fn of_store(states: &[(JobState, u64)], with_run: u64) -> Self {
        let mut expectation = Self { with_run: with_run as i64, ..Self::default() };
        for (state, count) in states {
            expectation.states[usize::from(state.ordinal())] = *count as i64;
        }
        expectation
    }

    /// A job comes into a stage.
    pub(super) fn advance(&mut self, stage: LifeStage) {
        self.transition(stage.before().map(LifeStage::state), stage.state());
        if stage == LifeStage::Leased {
            self.with_run += 1;
        }
    }

    /// A job comes into a state from another one, or is new.
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

    /// The counts of both.
    pub(super) fn plus(&self, other: &Self) -> Self {
        let states = std::array::from_fn(|index| self.states[index] + other.states[index]);
        Self { states, with_run: self.with_run + other.with_run }
    }

    pub(super) fn jobs(&self) -> u64 {
        self.states.iter().sum::<i64>().unsigned_abs()
    }

    /// What another count has otherwise, each named.
    pub(super) fn differences(&self, stored: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for state in JobState::ALL {
            let [expected, found] = [self, stored].map(|counts| counts.states[usize::from(state.ordinal())]);
            if expected != found {
                differences.push(format!("{expected} jobs should be {state}, and {found} are"));
            }
        }
        if self.with_run != stored.with_run {
            differences.push(format!("{} jobs should have a run, and {} have", self.with_run, stored.with_run));
        }
        differences
    }
}
