//! The 19 ingestion queries of Lookout's ingester, with their JSON format.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::base64_bytes;
use crate::time::Timestamp;

/// Declares the query structs, with the partitioning hint where job updates carry one.
macro_rules! queries {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(rename_all = "camelCase", deny_unknown_fields)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $type,)*
            }
        )*

        /// An ingestion query: a change of the store.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "type", rename_all = "camelCase")]
        #[non_exhaustive]
        pub enum IngestionQuery {
            $($(#[$doc])* $name($name),)*
        }

        $(
            impl From<$name> for IngestionQuery {
                fn from(query: $name) -> Self {
                    Self::$name(query)
                }
            }
        )*

        impl IngestionQuery {
            /// The name of the query's type in errors.
            pub fn type_name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                }
            }
        }
    };
}

queries! {
    /// Inserts a job in state QUEUED, with its annotations and spec.
    InsertJob {
        /// The job.
        job: NewJob,
        /// The encoded `api.Job`; empty means absent.
        #[serde(default, with = "base64_bytes::optional", skip_serializing_if = "Option::is_none")]
        job_spec: Option<Bytes>,
    }
    /// Inserts the spec of a job, which need not exist.
    InsertJobSpec {
        /// The job.
        job_id: String,
        /// The encoded `api.Job`; empty means absent.
        #[serde(default, with = "base64_bytes::optional", skip_serializing_if = "Option::is_none")]
        job_spec: Option<Bytes>,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
    /// Changes a job's priority.
    UpdateJobPriority {
        /// The job.
        job_id: String,
        /// The new priority.
        priority: i64,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
    /// Sets the state of a job to LEASED.
    SetJobLeased {
        /// The job.
        job_id: String,
        /// The time of the transition.
        time: Timestamp,
        /// The id of the new latest run.
        run_id: String,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
    /// Sets the state of a job to PENDING.
    SetJobPending {
        /// The job.
        job_id: String,
        /// The time of the transition.
        time: Timestamp,
        /// The id of the new latest run.
        run_id: String,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
    /// Sets the state of a job to RUNNING.
    SetJobRunning {
        /// The job.
        job_id: String,
        /// The time of the transition.
        time: Timestamp,
        /// The id of the new latest run.
        latest_run_id: String,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
    /// Sets the state of a job to SUCCEEDED.
    SetJobSucceeded {
        /// The job.
        job_id: String,
        /// The time of the transition.
        time: Timestamp,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
    /// Sets the state of a job to FAILED.
    SetJobErrored {
        /// The job.
        job_id: String,
        /// The time of the transition.
        time: Timestamp,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
    /// Sets the state of a job to REJECTED.
    SetJobRejected {
        /// The job.
        job_id: String,
        /// The time of the transition.
        time: Timestamp,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
    /// Sets the state of a job to PREEMPTED, also from SUCCEEDED, FAILED or CANCELLED.
    SetJobPreempted {
        /// The job.
        job_id: String,
        /// The time of the transition.
        time: Timestamp,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
    /// Sets the state of a job to CANCELLED.
    SetJobCancelled {
        /// The job.
        job_id: String,
        /// The time of the transition.
        time: Timestamp,
        /// The reason; empty means absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cancel_reason: Option<String>,
        /// The user; empty means absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cancel_user: Option<String>,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
    /// Inserts the error of a job.
    InsertJobError {
        /// The job.
        job_id: String,
        /// The error; empty means absent.
        #[serde(default, with = "base64_bytes::optional", skip_serializing_if = "Option::is_none")]
        error: Option<Bytes>,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
    /// Inserts a run in state RUN_LEASED.
    InsertJobRun {
        /// The run.
        job_run_id: String,
        /// The job it belongs to.
        job_id: String,
        /// The cluster.
        cluster: String,
        /// The node; empty means absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// The pool; empty means absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pool: Option<String>,
        /// The time of the lease.
        time: Timestamp,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
    /// Sets the state of a run to RUN_PENDING.
    SetJobRunPending {
        /// The run.
        job_run_id: String,
        /// The time of the transition.
        time: Timestamp,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
    /// Sets the state of a run to RUN_RUNNING.
    SetJobRunStarted {
        /// The run.
        job_run_id: String,
        /// The time of the transition.
        time: Timestamp,
        /// The node; empty means absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
    /// Sets the state of a run to RUN_SUCCEEDED.
    SetJobRunSucceeded {
        /// The run.
        job_run_id: String,
        /// The time of the transition.
        time: Timestamp,
        /// The exit code.
        exit_code: i32,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
    /// Sets the state of a run to RUN_FAILED.
    SetJobRunFailed {
        /// The run.
        job_run_id: String,
        /// The time of the transition.
        time: Timestamp,
        /// The error; empty means absent.
        #[serde(default, with = "base64_bytes::optional", skip_serializing_if = "Option::is_none")]
        error: Option<Bytes>,
        /// The debug message; empty means absent.
        #[serde(default, with = "base64_bytes::optional", skip_serializing_if = "Option::is_none")]
        debug: Option<Bytes>,
        /// The exit code.
        exit_code: i32,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
    /// Sets the state of a run to RUN_CANCELLED.
    SetJobRunCancelled {
        /// The run.
        job_run_id: String,
        /// The time of the transition.
        time: Timestamp,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
    /// Sets the state of a run to RUN_PREEMPTED.
    SetJobRunPreempted {
        /// The run.
        job_run_id: String,
        /// The time of the transition.
        time: Timestamp,
        /// The error; empty means absent.
        #[serde(default, with = "base64_bytes::optional", skip_serializing_if = "Option::is_none")]
        error: Option<Bytes>,
        /// The submission time of the job, a hint for partitioned stores.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<Timestamp>,
    }
}

/// A new job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewJob {
    /// The job's id, 1 to 32 bytes.
    pub job_id: String,
    /// The queue, 1 to 512 bytes.
    pub queue: String,
    /// The job set, 1 to 1024 bytes.
    pub job_set: String,
    /// The user who submitted the job, 1 to 512 bytes.
    pub owner: String,
    /// The Kubernetes namespace, at most 512 bytes; empty means absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The priority.
    pub priority: i64,
    /// The Kubernetes priority class, at most 63 bytes; empty means absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
    /// The time of submission.
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
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl NewJob {
    /// A job that requests nothing, with priority 0 and without namespace, priority class and annotations.
    ///
    /// ```
    /// use broadside::Timestamp;
    /// use broadside::ingest::NewJob;
    ///
    /// let submitted = Timestamp::from_seconds(1_767_225_600);
    /// let job = NewJob { cpu: 8000, ..NewJob::new("job-1", "risk", "nightly", "ann", submitted) };
    /// assert_eq!((job.queue.as_str(), job.gpu), ("risk", 0));
    /// ```
    pub fn new(
        job_id: impl Into<String>,
        queue: impl Into<String>,
        job_set: impl Into<String>,
        owner: impl Into<String>,
        submitted: Timestamp,
    ) -> Self {
        Self {
            job_id: job_id.into(),
            queue: queue.into(),
            job_set: job_set.into(),
            owner: owner.into(),
            namespace: None,
            priority: 0,
            priority_class: None,
            submitted,
            cpu: 0,
            memory: 0,
            ephemeral_storage: 0,
            gpu: 0,
            annotations: BTreeMap::new(),
        }
    }
}

/// Deserializes null as the default.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The length of the job id at the start of a run id, in bytes.
const JOB_ID_BYTES_OF_RUN_ID: usize = 18;

impl IngestionQuery {
    /// The id of the query's job. For queries with only a run id, the first 18 bytes of the run id (fewer at a
    /// character boundary), which are the job id in ids that Broadside generates.
    pub fn job_id(&self) -> &str {
        match self {
            Self::InsertJob(query) => &query.job.job_id,
            Self::InsertJobSpec(InsertJobSpec { job_id, .. })
            | Self::UpdateJobPriority(UpdateJobPriority { job_id, .. })
            | Self::SetJobLeased(SetJobLeased { job_id, .. })
            | Self::SetJobPending(SetJobPending { job_id, .. })
            | Self::SetJobRunning(SetJobRunning { job_id, .. })
            | Self::SetJobSucceeded(SetJobSucceeded { job_id, .. })
            | Self::SetJobErrored(SetJobErrored { job_id, .. })
            | Self::SetJobRejected(SetJobRejected { job_id, .. })
            | Self::SetJobPreempted(SetJobPreempted { job_id, .. })
            | Self::SetJobCancelled(SetJobCancelled { job_id, .. })
            | Self::InsertJobError(InsertJobError { job_id, .. })
            | Self::InsertJobRun(InsertJobRun { job_id, .. }) => job_id,
            Self::SetJobRunPending(SetJobRunPending { job_run_id, .. })
            | Self::SetJobRunStarted(SetJobRunStarted { job_run_id, .. })
            | Self::SetJobRunSucceeded(SetJobRunSucceeded { job_run_id, .. })
            | Self::SetJobRunFailed(SetJobRunFailed { job_run_id, .. })
            | Self::SetJobRunCancelled(SetJobRunCancelled { job_run_id, .. })
            | Self::SetJobRunPreempted(SetJobRunPreempted { job_run_id, .. }) => job_id_of_run(job_run_id),
        }
    }
}

fn job_id_of_run(run_id: &str) -> &str {
    &run_id[..run_id.floor_char_boundary(JOB_ID_BYTES_OF_RUN_ID)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_id_of_a_run_id_never_splits_a_character() {
        assert_eq!(job_id_of_run("0123456789abcdefghij"), "0123456789abcdefgh");
        assert_eq!(job_id_of_run("short"), "short");
        assert_eq!(job_id_of_run("0123456789abcdefg\u{e9}x"), "0123456789abcdefg");
    }

    #[test]
    fn queries_round_trip_as_json() {
        let text = r#"{"type":"setJobRunFailed","jobRunId":"r","time":"2026-01-01T00:00:00Z","error":"YQ==","debug":null,"exitCode":1}"#;
        let query: IngestionQuery = serde_json::from_str(text).unwrap();
        let IngestionQuery::SetJobRunFailed(failed) = &query else { panic!("{query:?}") };
        assert_eq!(failed.error.as_deref(), Some(b"a".as_slice()));
        assert_eq!(failed.debug, None);
        assert_eq!(serde_json::from_str::<IngestionQuery>(&serde_json::to_string(&query).unwrap()).unwrap(), query);
        assert_eq!(query.type_name(), "SetJobRunFailed");
    }
}
