//! A read as a value: the argument of [`Database::explain`](crate::Database::explain).

use super::{GroupQuery, JobQuery};

/// A read of [`Database`](crate::Database), with its validated arguments.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ReadCall {
    /// `get_jobs`
    Jobs(JobQuery),
    /// `get_job_groups`
    Groups(GroupQuery),
    /// `get_job_spec`, with the job's id
    JobSpec(String),
    /// `get_job_error`, with the job's id
    JobError(String),
    /// `get_job_run_error`, with the run's id
    JobRunError(String),
    /// `get_job_run_debug_message`, with the run's id
    JobRunDebugMessage(String),
}
