//! The states of jobs and runs, with Lookout's ordinals.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The error of parsing the name of an unknown state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown state {0:?}")]
pub struct UnknownState(String);

/// Declares an enum of states, each with Lookout's ordinal and its name in JSON. The order of the variants is that of
/// lists and aggregates.
macro_rules! states {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $ordinal:literal $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum $type {
            $($(#[$variant_doc])* #[serde(rename = $name)] $variant = $ordinal,)*
        }

        impl $type {
            /// All states, in the order of lists and aggregates.
            pub const ALL: [Self; [$($ordinal),*].len()] = [$(Self::$variant),*];

            /// Lookout's ordinal of the state.
            pub const fn ordinal(self) -> u8 {
                self as u8
            }

            /// The state with an ordinal, if there is one.
            pub const fn from_ordinal(ordinal: u8) -> Option<Self> {
                match ordinal {
                    $($ordinal => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The name of the state in JSON.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $type {
            type Err = UnknownState;

            fn from_str(name: &str) -> Result<Self, UnknownState> {
                match name {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(UnknownState(name.to_owned())),
                }
            }
        }
    };
}

states! {
    /// The state of a job.
    JobState {
        /// Waiting for the scheduler.
        Queued = 1 "QUEUED",
        /// Leased to a cluster.
        Leased = 8 "LEASED",
        /// Starting on its node.
        Pending = 2 "PENDING",
        /// Running.
        Running = 3 "RUNNING",
        /// Finished without an error.
        Succeeded = 4 "SUCCEEDED",
        /// Finished with an error.
        Failed = 5 "FAILED",
        /// Cancelled by a user.
        Cancelled = 6 "CANCELLED",
        /// Preempted by another job.
        Preempted = 7 "PREEMPTED",
        /// Rejected by the scheduler.
        Rejected = 9 "REJECTED",
    }
}

states! {
    /// The state of a run.
    RunState {
        /// Leased to a cluster.
        Leased = 11 "RUN_LEASED",
        /// Starting on its node.
        Pending = 1 "RUN_PENDING",
        /// Running.
        Running = 2 "RUN_RUNNING",
        /// Finished without an error.
        Succeeded = 3 "RUN_SUCCEEDED",
        /// Finished with an error.
        Failed = 4 "RUN_FAILED",
        /// Terminated externally.
        Terminated = 5 "RUN_TERMINATED",
        /// Preempted by another job.
        Preempted = 6 "RUN_PREEMPTED",
        /// No node could run it.
        UnableToSchedule = 7 "RUN_UNABLE_TO_SCHEDULE",
        /// The cluster returned the lease.
        LeaseReturned = 8 "RUN_LEASE_RETURNED",
        /// The lease expired.
        LeaseExpired = 9 "RUN_LEASE_EXPIRED",
        /// The job had reached its maximum number of runs.
        MaxRunsExceeded = 10 "RUN_MAX_RUNS_EXCEEDED",
        /// Cancelled by a user.
        Cancelled = 12 "RUN_CANCELLED",
    }
}

impl JobState {
    /// Whether the job has not ended: QUEUED, LEASED, PENDING or RUNNING.
    pub const fn is_active(self) -> bool {
        StateSet::ACTIVE.contains(self)
    }

    /// Whether the job has ended. Updates of such jobs are ignored, except for those that
    /// [`JobState::is_preemptible_end`] describes.
    pub const fn is_terminal(self) -> bool {
        !self.is_active()
    }

    /// Whether the job has ended in a state that a preemption overrides.
    pub const fn is_preemptible_end(self) -> bool {
        StateSet::PREEMPTIBLE_ENDS.contains(self)
    }
}

/// A set of job states.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateSet(u16);

impl StateSet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);
    /// All nine states.
    pub const ALL: Self = {
        let mut set = Self::EMPTY;
        let mut at = 0;
        while at < JobState::ALL.len() {
            set = set.with(JobState::ALL[at]);
            at += 1;
        }
        set
    };
    /// The four active states.
    pub const ACTIVE: Self =
        Self::EMPTY.with(JobState::Queued).with(JobState::Leased).with(JobState::Pending).with(JobState::Running);
    /// The terminal states that a preemption overrides.
    pub const PREEMPTIBLE_ENDS: Self =
        Self::EMPTY.with(JobState::Succeeded).with(JobState::Failed).with(JobState::Cancelled);

    /// The set with a further state.
    pub const fn with(self, state: JobState) -> Self {
        Self(self.0 | 1 << state.ordinal())
    }

    /// The intersection.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the set contains a state.
    pub const fn contains(self, state: JobState) -> bool {
        self.0 & 1 << state.ordinal() != 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The number of states in the set.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The states of the set, in the order of [`JobState::ALL`].
    pub fn iter(self) -> impl Iterator<Item = JobState> {
        JobState::ALL.into_iter().filter(move |&state| self.contains(state))
    }

    /// The ordinals of the states in ascending order, separated by commas, for a list in SQL.
    pub fn ordinals(self) -> String {
        let mut ordinals: Vec<_> = self.iter().map(JobState::ordinal).collect();
        ordinals.sort_unstable();
        ordinals.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl FromIterator<JobState> for StateSet {
    fn from_iter<I: IntoIterator<Item = JobState>>(states: I) -> Self {
        states.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for StateSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ordinals_round_trip() {
        for state in JobState::ALL {
            assert_eq!(JobState::from_ordinal(state.ordinal()), Some(state));
            assert_eq!(state.name().parse(), Ok(state));
        }
        for state in RunState::ALL {
            assert_eq!(RunState::from_ordinal(state.ordinal()), Some(state));
            assert_eq!(state.name().parse(), Ok(state));
        }
        assert_eq!(JobState::from_ordinal(0), None);
        assert!("queued".parse::<JobState>().is_err());
    }

    #[test]
    fn sets_iterate_in_the_order_of_all_states() {
        assert_eq!(StateSet::ALL.iter().collect::<Vec<_>>(), JobState::ALL);
        assert!(StateSet::ACTIVE.iter().all(JobState::is_active));
        assert_eq!(StateSet::ACTIVE.len(), 4);
    }

    #[test]
    fn sql_lists_ordinals_in_ascending_order() {
        assert_eq!(StateSet::ACTIVE.ordinals(), "1, 2, 3, 8");
        assert_eq!(StateSet::PREEMPTIBLE_ENDS.ordinals(), "4, 5, 6");
        assert_eq!(StateSet::EMPTY.ordinals(), "");
    }
}
