//! Groups of jobs as reads return them.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

use super::JobState;
use crate::time::Timestamp;

/// The jobs that share a value of the grouped field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobGroup {
    /// The shared value; empty for jobs without one.
    pub name: SmolStr,
    /// The number of jobs.
    pub count: u64,
    /// The requested aggregates.
    pub aggregates: GroupAggregates,
}

/// The aggregates of a group; those that were not requested are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupAggregates {
    /// The number of jobs in each state, including zeros.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<StateCounts>,
    /// The earliest submission time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submitted: Option<Timestamp>,
    /// The average, earliest or latest transition time, in whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Timestamp>,
}

/// The number of jobs in each requested state, in the order of [`JobState::ALL`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateCounts(Vec<(JobState, u64)>);

impl StateCounts {
    /// The states and their counts.
    pub fn iter(&self) -> impl Iterator<Item = (JobState, u64)> + '_ {
        self.0.iter().copied()
    }

    /// The count of a state; `None` if it was not requested.
    pub fn get(&self, state: JobState) -> Option<u64> {
        self.iter().find(|&(of, _)| of == state).map(|(_, count)| count)
    }
}

impl FromIterator<(JobState, u64)> for StateCounts {
    fn from_iter<I: IntoIterator<Item = (JobState, u64)>>(counts: I) -> Self {
        Self(counts.into_iter().collect())
    }
}

impl Serialize for StateCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (state, count) in self.iter() {
            map.serialize_entry(state.name(), &count)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for StateCounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counts;

        impl<'de> Visitor<'de> for Counts {
            type Value = StateCounts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a count for each state")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StateCounts, A::Error> {
                let mut counts = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    counts.push(entry);
                }
                Ok(StateCounts(counts))
            }
        }

        deserializer.deserialize_map(Counts)
    }
}
