//! Jobs and runs as reads return them.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{Annotations, JobState, RunState};
use crate::time::Timestamp;

/// A job with its annotations and runs, in the JSON names of Lookout's REST API.
///
/// Strings are [`SmolStr`]s: up to 23 bytes are stored inline, longer strings are shared by reference counting. They
/// dereference to `str`, and are cheap to clone.
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
    /// The requested CPU, in millicores.
    pub cpu: i64,
    /// The requested memory, in bytes.
    pub memory: i64,
    /// The requested ephemeral storage, in bytes.
    pub ephemeral_storage: i64,
    /// The requested number of GPUs.
    pub gpu: i64,
    /// The priority; jobs with lower values run earlier.
    pub priority: i64,
    /// The Kubernetes priority class.
    pub priority_class: Option<SmolStr>,
    /// The time of submission.
    pub submitted: Timestamp,
    /// The time of cancellation.
    pub cancelled: Option<Timestamp>,
    /// The state.
    pub state: JobState,
    /// The time of the last state transition.
    pub last_transition_time: Timestamp,
    /// The id of the latest run according to the updates of the job. The run need not exist.
    pub last_active_run_id: Option<SmolStr>,
    /// Always false for ingested jobs; a column of Lookout.
    pub duplicate: bool,
    /// The annotations, by key.
    pub annotations: Annotations,
    /// The runs, ordered by leased (or pending) time, then by id.
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
    /// The node, `None` until it is known.
    pub node: Option<SmolStr>,
    /// The pool.
    pub pool: Option<SmolStr>,
    /// The time at which the run was leased.
    pub leased: Option<Timestamp>,
    /// The time at which the run became pending.
    pub pending: Option<Timestamp>,
    /// The time at which the run started.
    pub started: Option<Timestamp>,
    /// The time at which the run finished.
    pub finished: Option<Timestamp>,
    /// The state.
    pub job_run_state: RunState,
    /// The exit code, `None` until the run has finished.
    pub exit_code: Option<i32>,
}

impl Run {
    /// The seconds from start to end, or to `now` if the run has not finished, rounded half away from zero; 0 if it has
    /// not started.
    pub fn runtime_seconds(&self, now: Timestamp) -> i64 {
        self.started.map_or(0, |started| self.finished.unwrap_or(now).rounded_seconds_since(started))
    }

    /// Sorts the runs of a job. Returns the fields that the job derives from the last one.
    pub(crate) fn sort(runs: &mut [Self], now: Timestamp) -> Option<LastRun> {
        // Lookout sorts a run without these times last.
        let time = |run: &Self| run.leased.or(run.pending).unwrap_or(Timestamp::from_micros(i64::MAX));
        runs.sort_unstable_by(|a, b| (time(a), a.run_id.as_bytes()).cmp(&(time(b), b.run_id.as_bytes())));
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
    /// Sets the runs of the job in order, and the fields that it derives from the last one.
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
