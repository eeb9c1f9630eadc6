//! Jobs and runs as reads return them.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{Annotations, JobState, RunState};
use crate::time::Timestamp;

/// A job with its annotations and runs, in the JSON names of Lookout's REST API.
///
/// Its texts are [`SmolStr`]s: up to 23 bytes lie in the job itself, a longer text is shared by
/// all that hold it. They read like any `str`, and are cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// The job's id, at most 32 bytes.
    pub job_id: SmolStr,
    /// The queue.
    pub queue: SmolStr,
    /// The user who submitted the job.
    pub owner: SmolStr,
    /// The Kubernetes namespace.
    pub namespace: Option<SmolStr>,
    /// The job set within the queue.
    pub job_set: SmolStr,
    /// Requested cores.
    pub cpu: i64,
    /// Requested memory, in bytes.
    pub memory: i64,
    /// Requested ephemeral storage, in bytes.
    pub ephemeral_storage: i64,
    /// Requested GPUs.
    pub gpu: i64,
    /// The priority; lower runs earlier.
    pub priority: i64,
    /// The Kubernetes priority class.
    pub priority_class: Option<SmolStr>,
    /// When the job was submitted.
    pub submitted: Timestamp,
    /// When the job was cancelled.
    pub cancelled: Option<Timestamp>,
    /// The state.
    pub state: JobState,
    /// The time of the last state transition.
    pub last_transition_time: Timestamp,
    /// The latest run's id, as job updates gave it; a run of this id need not exist.
    pub last_active_run_id: Option<SmolStr>,
    /// Always false for ingested jobs; Lookout keeps the column.
    pub duplicate: bool,
    /// The annotations, by key.
    pub annotations: Annotations,
    /// The job's runs, by leased (or pending) time, then id.
    pub runs: Vec<Run>,
    /// The reason of the cancellation.
    pub cancel_reason: Option<SmolStr>,
    /// The user who cancelled the job.
    pub cancel_user: Option<SmolStr>,
    /// The node of the last of `runs`.
    pub node: Option<SmolStr>,
    /// The cluster of the last of `runs`; empty without runs.
    pub cluster: SmolStr,
    /// The pool of the last of `runs`.
    pub pool: Option<SmolStr>,
    /// The exit code of the last of `runs`.
    pub exit_code: Option<i32>,
    /// The runtime of the last of `runs`, in whole seconds.
    pub runtime_seconds: i64,
}

/// One attempt at running a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The run's id, at most 36 bytes.
    pub run_id: SmolStr,
    /// The cluster.
    pub cluster: SmolStr,
    /// The node, once known.
    pub node: Option<SmolStr>,
    /// The pool.
    pub pool: Option<SmolStr>,
    /// When the run was leased.
    pub leased: Option<Timestamp>,
    /// When the run became pending.
    pub pending: Option<Timestamp>,
    /// When the run started.
    pub started: Option<Timestamp>,
    /// When the run finished.
    pub finished: Option<Timestamp>,
    /// The state.
    pub job_run_state: RunState,
    /// The exit code, once finished.
    pub exit_code: Option<i32>,
}

impl Run {
    /// Whole seconds from start to end, or to `now` while the run lasts, rounded half away
    /// from zero; 0 for a run that has not started.
    pub fn runtime_seconds(&self, now: Timestamp) -> i64 {
        self.started.map_or(0, |started| self.finished.unwrap_or(now).rounded_seconds_since(started))
    }

    /// Sorts the runs of a job and returns the fields that the job derives from the last one.
    pub(crate) fn sort(runs: &mut [Self], now: Timestamp) -> Option<LastRun> {
        runs.sort_unstable_by(|a, b| {
            (a.leased.or(a.pending), a.run_id.as_bytes()).cmp(&(b.leased.or(b.pending), b.run_id.as_bytes()))
        });
        runs.last().map(|run| LastRun {
            node: run.node.clone(),
            cluster: run.cluster.clone(),
            pool: run.pool.clone(),
            exit_code: run.exit_code,
            runtime_seconds: run.runtime_seconds(now),
        })
    }
}

/// The fields that a job derives from the last of its runs; empty by default.
#[derive(Debug, Default)]
pub(crate) struct LastRun {
    pub(crate) node: Option<SmolStr>,
    pub(crate) cluster: SmolStr,
    pub(crate) pool: Option<SmolStr>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) runtime_seconds: i64,
}

impl Job {
    /// Attaches runs to the job: sorts them and derives the job's run fields from the last one.
    pub fn attach_runs(&mut self, mut runs: Vec<Run>, now: Timestamp) {
        if let Some(last) = Run::sort(&mut runs, now) {
            self.node = last.node;
            self.cluster = last.cluster;
            self.pool = last.pool;
            self.exit_code = last.exit_code;
            self.runtime_seconds = last.runtime_seconds;
        }
        self.runs = runs;
    }
}
