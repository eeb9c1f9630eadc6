//! Jobs, runs, groups and their states, with the names of Lookout's REST API.

mod annotations;
mod group;
mod job;
mod state;

pub use annotations::Annotations;
pub use group::{GroupAggregates, JobGroup, StateCounts};
pub use job::{Job, Run};
#[cfg(any(feature = "postgres", feature = "clickhouse"))]
pub(crate) use state::UNKNOWN;
pub use state::{JobState, RunState, StateSet, UnknownState};
