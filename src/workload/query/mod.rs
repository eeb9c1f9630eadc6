//! The queries of Lookout's users, with values of the workload's own jobs, so that their results
//! are not empty.

mod build;
mod kind;

pub use kind::{Aggregate, Grouping, PageKind, QueryKind, Record};

use crate::api::JobSpec;
use crate::database::Database;
use crate::error::Result;
use crate::model::{Job, JobGroup};
use crate::query::{GroupQuery, JobQuery};

/// A validated query for any backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// [`Database::get_jobs`]
    Jobs(JobQuery),
    /// [`Database::get_job_groups`]
    Groups(GroupQuery),
    /// The read of a single record by its job's or run's id.
    Record(Record, String),
}

/// The result of a [`Query`].
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A page of jobs.
    Jobs(Vec<Job>),
    /// A page of groups.
    Groups(Vec<JobGroup>),
    /// A spec.
    Spec(JobSpec),
    /// An error or a debug message.
    Text(String),
}

impl Answer {
    /// The number of jobs, groups or records.
    pub fn rows(&self) -> usize {
        match self {
            Self::Jobs(jobs) => jobs.len(),
            Self::Groups(groups) => groups.len(),
            Self::Spec(_) | Self::Text(_) => 1,
        }
    }
}

impl Query {
    /// Runs the query.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub async fn run(&self, database: &dyn Database) -> Result<Answer> {
        Ok(match self {
            Self::Jobs(query) => Answer::Jobs(database.get_jobs(query).await?),
            Self::Groups(query) => Answer::Groups(database.get_job_groups(query).await?),
            Self::Record(Record::Spec, job_id) => Answer::Spec(database.get_job_spec(job_id).await?),
            Self::Record(Record::Error, job_id) => Answer::Text(database.get_job_error(job_id).await?),
            Self::Record(Record::RunError, run_id) => Answer::Text(database.get_job_run_error(run_id).await?),
            Self::Record(Record::RunDebugMessage, run_id) => {
                Answer::Text(database.get_job_run_debug_message(run_id).await?)
            }
        })
    }
}
