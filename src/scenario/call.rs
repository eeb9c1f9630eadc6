//! The calls of a scenario and their execution.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{GetJobGroupsRequest, GetJobsRequest, Response};
use crate::base64_bytes;
use crate::database::Database;
use crate::error::Result;
use crate::historical::{HistoricalJobs, HistoricalJobsParams};
use crate::ingest::{IngestionBatch, IngestionQuery};
use crate::query::{GroupQuery, JobQuery, ReadCall};
use crate::time::{ManualClock, Timestamp};

/// A call with its arguments, which are validated when it is executed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Call {
    /// [`Database::execute_ingestion_query_batch`]
    Ingest {
        /// The batch.
        queries: Vec<IngestionQuery>,
    },
    /// [`Database::get_jobs`]
    GetJobs(GetJobsRequest),
    /// [`Database::get_job_groups`]
    GetJobGroups(GetJobGroupsRequest),
    /// [`Database::get_job_spec`]
    GetJobSpec {
        /// The job.
        job_id: String,
    },
    /// [`Database::get_job_error`]
    GetJobError {
        /// The job.
        job_id: String,
    },
    /// [`Database::get_job_run_error`]
    GetJobRunError {
        /// The run.
        job_run_id: String,
    },
    /// [`Database::get_job_run_debug_message`]
    GetJobRunDebugMessage {
        /// The run.
        job_run_id: String,
    },
    /// [`IngestionQuery::job_id`], which needs no store.
    JobIdFromQuery {
        /// The query.
        query: IngestionQuery,
    },
    /// [`ManualClock::set`], which needs no store.
    SetClock {
        /// The time that the clock returns.
        now: Timestamp,
    },
    /// [`Database::initialise_schema`]
    InitialiseSchema,
    /// [`Database::tear_down`]
    TearDown,
    /// [`Database::populate_historical_jobs`]
    PopulateHistoricalJobs {
        /// The parameters of the jobs.
        params: HistoricalJobsParams,
    },
}

impl Call {
    /// Executes the call. `clock` is the clock of `database`.
    pub async fn execute(&self, database: &dyn Database, clock: &ManualClock) -> Response {
        match self.outcome(database, clock).await {
            Ok(value) => Response::Ok(value),
            Err(error) => Response::from(&error),
        }
    }

    /// The call as a validated read; `None` for other calls.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` naming the argument.
    pub fn read(&self) -> Result<Option<ReadCall>> {
        Ok(Some(match self {
            Self::GetJobs(request) => ReadCall::Jobs(request.clone().try_into()?),
            Self::GetJobGroups(request) => ReadCall::Groups(request.clone().try_into()?),
            Self::GetJobSpec { job_id } => ReadCall::JobSpec(job_id.clone()),
            Self::GetJobError { job_id } => ReadCall::JobError(job_id.clone()),
            Self::GetJobRunError { job_run_id } => ReadCall::JobRunError(job_run_id.clone()),
            Self::GetJobRunDebugMessage { job_run_id } => ReadCall::JobRunDebugMessage(job_run_id.clone()),
            _ => return Ok(None),
        }))
    }

    async fn outcome(&self, database: &dyn Database, clock: &ManualClock) -> Result<Value> {
        Ok(match self {
            Self::Ingest { queries } => {
                let batch = IngestionBatch::new(queries.iter().cloned())?;
                database.execute_ingestion_query_batch(&batch).await?;
                Value::Null
            }
            Self::GetJobs(request) => {
                let query = JobQuery::try_from(request.clone())?;
                json(&database.get_jobs(&query).await?)
            }
            Self::GetJobGroups(request) => {
                let query = GroupQuery::try_from(request.clone())?;
                json(&database.get_job_groups(&query).await?)
            }
            Self::GetJobSpec { job_id } => base64_bytes::encode(database.get_job_spec(job_id).await?.as_ref()).into(),
            Self::GetJobError { job_id } => database.get_job_error(job_id).await?.into(),
            Self::GetJobRunError { job_run_id } => database.get_job_run_error(job_run_id).await?.into(),
            Self::GetJobRunDebugMessage { job_run_id } => database.get_job_run_debug_message(job_run_id).await?.into(),
            Self::JobIdFromQuery { query } => query.job_id().into(),
            Self::SetClock { now } => {
                clock.set(*now);
                Value::Null
            }
            Self::InitialiseSchema => {
                database.initialise_schema().await?;
                Value::Null
            }
            Self::TearDown => {
                database.tear_down().await?;
                Value::Null
            }
            Self::PopulateHistoricalJobs { params } => {
                let jobs = HistoricalJobs::try_from(params.clone())?;
                database.populate_historical_jobs(&jobs, &|_| ()).await?;
                Value::Null
            }
        })
    }
}

/// Converts jobs or groups to JSON.
fn json(rows: &impl Serialize) -> Value {
    // Serialization to a value fails only for maps whose keys are not strings.
    serde_json::to_value(rows).expect("jobs and groups are JSON")
}
