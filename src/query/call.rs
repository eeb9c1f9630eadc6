//! A read as a value, and its result.

use super::{GroupQuery, JobQuery};
use crate::api::JobSpec;
use crate::error::Operation;
use crate::model::{Job, JobGroup};

/// A read of [`Database`](crate::Database), with its validated arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
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

impl ReadCall {
    /// The operation in the errors of the call.
    pub fn operation(&self) -> Operation {
        match self {
            Self::Jobs(_) => Operation::GetJobs,
            Self::Groups(_) => Operation::GetJobGroups,
            Self::JobSpec(_) => Operation::GetJobSpec,
            Self::JobError(_) => Operation::GetJobError,
            Self::JobRunError(_) => Operation::GetJobRunError,
            Self::JobRunDebugMessage(_) => Operation::GetJobRunDebugMessage,
        }
    }
}

/// The result of a [`ReadCall`].
#[derive(Debug, Clone, PartialEq)]
pub enum ReadResult {
    /// A page of jobs.
    Jobs(Vec<Job>),
    /// A page of groups.
    Groups(Vec<JobGroup>),
    /// A spec.
    Spec(JobSpec),
    /// An error or a debug message.
    Text(String),
}

impl ReadResult {
    /// The number of jobs, groups or records.
    pub fn rows(&self) -> usize {
        match self {
            Self::Jobs(jobs) => jobs.len(),
            Self::Groups(groups) => groups.len(),
            Self::Spec(_) | Self::Text(_) => 1,
        }
    }
}
