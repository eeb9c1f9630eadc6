//! What the store holds, in the words and the JSON of Lookout.

mod annotations;
mod group;
mod job;
mod state;

pub use annotations::Annotations;
pub use group::{GroupAggregates, JobGroup, StateCounts};
pub use job::{Job, Run};
pub use state::{JobState, RunState, StateSet, UnknownState};
