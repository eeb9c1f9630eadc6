//! The states of jobs and runs, with Lookout's ordinals.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The error of parsing the name of an unknown state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown state {0:?}")]
pub struct UnknownState(String);

/// The prefix of the name of an unknown state, before its ordinal.
pub(crate) const UNKNOWN: &str = "UNKNOWN_";

/// Declares an enum of states, each with Lookout's ordinal and its name in JSON. The order of the variants is that of
/// lists and aggregates.
macro_rules! states {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $ordinal:literal $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)*
            /// A state that only a later version of Lookout has, by its ordinal. Reads return it as `UNKNOWN_` with the
            /// ordinal. No batch can set it, no filter selects it, and aggregates by state do not count it.
            Unknown(i16),
        }

        impl $type {
            /// All known states, in the order of lists and aggregates.
            pub const ALL: [Self; [$($ordinal),*].len()] = [$(Self::$variant),*];

            /// Lookout's ordinal of the state; 0 for an unknown one.
            pub const fn ordinal(self) -> u8 {
                match self {
                    $(Self::$variant => $ordinal,)*
                    Self::Unknown(_) => 0,
                }
            }

            /// The state with an ordinal, if there is one.
            pub const fn from_ordinal(ordinal: u8) -> Option<Self> {
                match ordinal {
                    $($ordinal => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The state that is stored with an ordinal.
            #[cfg(any(feature = "memory", feature = "postgres", feature = "clickhouse"))]
            pub(crate) const fn from_stored(ordinal: i16) -> Self {
                match ordinal {
                    $($ordinal => Self::$variant,)*
                    _ => Self::Unknown(ordinal),
                }
            }

            /// The ordinal with which the state is stored.
            #[cfg(feature = "memory")]
            pub(crate) const fn stored(self) -> i16 {
                match self {
                    Self::Unknown(ordinal) => ordinal,
                    known => known.ordinal() as i16,
                }
            }

            /// The state that is shown by this name, which may be that of an unknown one.
            pub(crate) fn from_shown(name: &str) -> Result<Self, UnknownState> {
                match name.strip_prefix(UNKNOWN).and_then(|ordinal| ordinal.parse().ok()) {
                    Some(ordinal) => Ok(Self::Unknown(ordinal)),
                    None => name.parse(),
                }
            }

            /// The name of the state in JSON; without the ordinal for an unknown one.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Unknown(_) => "UNKNOWN",
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Unknown(ordinal) => write!(f, "{UNKNOWN}{ordinal}"),
                    known => f.write_str(known.name()),
                }
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::from_shown(&name).map_err(de::Error::custom)
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

    /// The set with a further state, which is ignored if it is unknown.
    pub const fn with(self, state: JobState) -> Self {
        Self(self.0 | Self::bit(state))
    }

    const fn bit(state: JobState) -> u16 {
        match state {
            JobState::Unknown(_) => 0,
            known => 1 << known.ordinal(),
        }
    }

    /// The intersection.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the set contains a state.
    pub const fn contains(self, state: JobState) -> bool {
        self.0 & Self::bit(state) != 0
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
    fn an_unknown_state_is_shown_but_not_selected() {
        let state = JobState::Unknown(-13);
        assert_eq!(serde_json::to_string(&state).unwrap(), r#""UNKNOWN_-13""#);
        assert_eq!(serde_json::from_str::<JobState>(r#""UNKNOWN_-13""#).unwrap(), state);
        assert!("UNKNOWN_-13".parse::<JobState>().is_err() && serde_json::from_str::<JobState>(r#""QUEUE""#).is_err());
        assert!(StateSet::EMPTY.with(state).is_empty() && !StateSet::ALL.contains(state) && state.is_terminal());
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
