//! The plan of a batch: the net effect of a list of queries, computed once for all backends.
//!
//! Inserts precede updates, and the first insert of an id takes effect, so the plan has four lists of inserts without
//! repeated ids and two lists of updates with one entry for each id. The effect of a job update depends on the stored
//! state, which the plan does not know: it contains the effect for each of the three cases, and a backend selects one
//! by the stored state.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::model::{JobState, RunState};
use crate::time::Timestamp;

/// The plan of a batch.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) jobs: Vec<JobInsert>,
    pub(super) specs: Vec<RecordInsert>,
    pub(super) errors: Vec<RecordInsert>,
    pub(super) runs: Vec<RunInsert>,
    pub(super) job_updates: Vec<JobUpdate>,
    pub(super) run_updates: Vec<RunUpdate>,
    pub(super) query_count: usize,
}

/// A job to insert in state QUEUED, unless its id exists.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobInsert {
    /// The job's id.
    pub job_id: String,
    /// The queue.
    pub queue: String,
    /// The job set.
    pub job_set: String,
    /// The user who submitted the job.
    pub owner: String,
    /// The Kubernetes namespace; never empty.
    pub namespace: Option<String>,
    /// The priority.
    pub priority: i64,
    /// The Kubernetes priority class; never empty.
    pub priority_class: Option<String>,
    /// The time of submission, which is also the time of the transition to QUEUED.
    pub submitted: Timestamp,
    /// Requested CPU, in millicores.
    pub cpu: i64,
    /// Requested memory, in bytes.
    pub memory: i64,
    /// Requested ephemeral storage, in bytes.
    pub ephemeral_storage: i64,
    /// Requested GPUs.
    pub gpu: i64,
    /// The annotations, by key.
    pub annotations: BTreeMap<String, String>,
}

/// A job's spec or error to insert, unless the job has one. The job need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordInsert {
    /// The job's id.
    pub job_id: String,
    /// The encoded spec, or the error; never empty.
    pub value: Bytes,
}

/// A run to insert in state RUN_LEASED, unless its id exists.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunInsert {
    /// The run's id.
    pub run_id: String,
    /// The id of its job, which need not exist.
    pub job_id: String,
    /// The cluster.
    pub cluster: String,
    /// The node; never empty.
    pub node: Option<String>,
    /// The pool; never empty.
    pub pool: Option<String>,
    /// The time of the lease.
    pub leased: Timestamp,
}

/// The net effect of a batch's updates of one job.
///
/// | stored state | effect |
/// |---|---|
/// | active | `if_active` |
/// | SUCCEEDED, FAILED, CANCELLED | state PREEMPTED and the transition time `preempted`, if there is one |
/// | PREEMPTED, REJECTED, unknown job | none |
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobUpdate {
    /// The job's id.
    pub job_id: String,
    /// The changes to an active job.
    pub if_active: JobPatch,
    /// The time of the batch's first preemption of the job.
    pub preempted: Option<Timestamp>,
}

/// The change that a [`JobUpdate`] makes to a job in a given state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEffect<'a> {
    /// The job is not changed.
    None,
    /// The columns of the patch are set.
    Patch(&'a JobPatch),
    /// The state becomes PREEMPTED at this time; other columns are not changed.
    Preempt(Timestamp),
}

/// New values for a job's columns; `None` leaves a column unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobPatch {
    /// The last priority.
    pub priority: Option<i64>,
    /// The last state and the time of its transition.
    pub transition: Option<(JobState, Timestamp)>,
    /// The last id of a latest run.
    pub latest_run_id: Option<String>,
    /// Set if the job enters CANCELLED, even if a preemption then overrides the state.
    pub cancellation: Option<Cancellation>,
}

/// The columns that a cancellation sets.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cancellation {
    /// The time of cancellation.
    pub time: Timestamp,
    /// The reason; never empty.
    pub reason: Option<String>,
    /// The user; never empty.
    pub user: Option<String>,
}

/// The net effect of a batch's updates of one run: the last value of each field; `None` leaves a
/// column unchanged. Every run query sets a state, so there always is one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunUpdate {
    /// The run's id.
    pub run_id: String,
    /// The last state.
    pub state: RunState,
    /// The last node; never empty.
    pub node: Option<String>,
    /// The time at which the run became pending.
    pub pending: Option<Timestamp>,
    /// The time at which the run started.
    pub started: Option<Timestamp>,
    /// The time at which the run finished.
    pub finished: Option<Timestamp>,
    /// The last exit code.
    pub exit_code: Option<i32>,
    /// The last error; never empty.
    pub error: Option<Bytes>,
    /// The last debug message; never empty.
    pub debug: Option<Bytes>,
}

impl JobUpdate {
    /// The effect of the update on a job in this state. SQL backends evaluate the same condition in the server, from
    /// [`StateSet::ACTIVE`](crate::model::StateSet::ACTIVE) and
    /// [`StateSet::PREEMPTIBLE_ENDS`](crate::model::StateSet::PREEMPTIBLE_ENDS).
    pub fn effect_on(&self, state: JobState) -> JobEffect<'_> {
        match self.preempted {
            _ if state.is_active() => JobEffect::Patch(&self.if_active),
            Some(time) if state.is_preemptible_end() => JobEffect::Preempt(time),
            _ => JobEffect::None,
        }
    }
}
