//! The result file of Armada's Broadside: `broadside-result-YYYYMMDD-HHMMSS.json`.
//!
//! The format allows only these keys, and optional sections are omitted when empty. Measurements that the
//! format does not support are only in the [`RunRecord`]. The latencies of reads are those of the record, measured from the due
//! time; the execution latency of ingestion is the duration of the database call alone, as in Armada's Broadside. Percentiles are required by the format, and by nearest rank for any number
//! of samples.

mod duration;
mod results;

use serde::Serialize;

pub use duration::GoDuration;
pub use results::{Actor, ActorError, Ingester, Querier, QueryError, QueryStats, Results};

use super::record::{Phase, RunRecord};
use crate::time::Timestamp;

/// The version of the format.
pub const VERSION: &str = "1.0.0";

/// A result file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResultFile {
    /// The time and duration of the test.
    pub metadata: Metadata,
    /// The configuration.
    pub configuration: Configuration,
    /// The measurements.
    pub results: Results,
}

/// The time and duration of a test.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The end of the run.
    pub timestamp: Timestamp,
    /// The version of the format, [`VERSION`].
    pub version: &'static str,
    /// The duration of the test phase.
    pub test_duration: GoDuration,
}

/// The configuration, as far as the format supports it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// The configured duration of the test.
    pub test_duration: GoDuration,
    /// The configured duration of the warm-up.
    pub warmup_duration: GoDuration,
    /// The database.
    pub database_config: DatabaseConfig,
    /// The queues.
    pub queue_config: Vec<QueueConfig>,
    /// The ingestion.
    pub ingestion_config: IngestionConfig,
    /// The reads.
    pub query_config: QueryConfig,
    /// The actions; `None` if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions_config: Option<ActionsConfig>,
}

/// The types of databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseType {
    /// PostgreSQL.
    Postgres,
    /// ClickHouse.
    ClickHouse,
    /// The memory engine.
    InMemory,
    /// A store outside this crate, for which Armada's Broadside has no name.
    Other,
}

/// The database.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseConfig {
    /// The type.
    #[serde(rename = "type")]
    pub database_type: DatabaseType,
    /// The address without secrets.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub connection_string: String,
    /// The statements executed before the test.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tuning_sql: Vec<String>,
    /// The statements executed after the test.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tuning_revert_sql: Vec<String>,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueConfig {
    /// The name.
    pub name: String,
    /// The fraction of the jobs.
    pub proportion: f64,
    /// The job sets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub job_set_config: Vec<JobSetConfig>,
}

/// A job set.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSetConfig {
    /// The name.
    pub name: String,
    /// The fraction of the queue's jobs.
    pub proportion: f64,
    /// The historical jobs; `None` if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub historical_jobs_config: Option<HistoricalJobsConfig>,
}

/// The historical jobs of a job set.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoricalJobsConfig {
    /// The number of jobs.
    pub number_of_jobs: u64,
    /// The fraction of succeeded jobs.
    pub proportion_succeeded: f64,
    /// The fraction of failed jobs.
    pub proportion_errored: f64,
    /// The fraction of cancelled jobs.
    pub proportion_cancelled: f64,
    /// The fraction of preempted jobs.
    pub proportion_preempted: f64,
}

/// The ingestion.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IngestionConfig {
    /// The number of queries in a full batch.
    pub batch_size: u64,
    /// The number of workers.
    pub num_workers: u64,
    /// The submission rate, in jobs per hour.
    pub submissions_per_hour: u64,
    /// The state transitions of jobs; `None` if they are not configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_state_transition_config: Option<JobStateTransitionConfig>,
}

/// The state transitions of jobs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobStateTransitionConfig {
    /// The time from submission to lease.
    pub queueing_duration: GoDuration,
    /// The time from lease to pending.
    pub leased_duration: GoDuration,
    /// The time from pending to running.
    pub pending_duration: GoDuration,
    /// The fraction of jobs that succeed.
    pub proportion_succeed: f64,
    /// The time from running to success.
    pub running_to_success_duration: GoDuration,
    /// The fraction of jobs that fail.
    pub proportion_fail: f64,
    /// The time from running to failure.
    pub running_to_failure_duration: GoDuration,
}

/// The rates of reads and the sizes of their pages.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the configuration")]
pub struct QueryConfig {
    pub get_job_run_debug_message_queries_per_hour: u64,
    pub get_job_run_error_queries_per_hour: u64,
    pub get_job_spec_queries_per_hour: u64,
    pub get_jobs_queries_per_hour: u64,
    pub get_jobs_page_size: u64,
    pub get_job_groups_queries_per_hour: u64,
    pub get_job_groups_page_size: u64,
}

/// The actions, at least one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionsConfig {
    /// The reprioritisations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub job_set_reprioritisations: Vec<ActionConfig>,
    /// The cancellations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub job_set_cancellations: Vec<ActionConfig>,
}

/// An action on a job set.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionConfig {
    /// The due time, from the start of the test.
    pub perform_after_test_start_time: GoDuration,
    /// The queue.
    pub queue: String,
    /// The job set.
    pub job_set: String,
}

impl ResultFile {
    /// Creates the result file of a run.
    pub fn new(record: &RunRecord, configuration: Configuration) -> Self {
        let test = record.phase(Phase::Test).map_or(0, |test| test.end_nanos.saturating_sub(test.start_nanos));
        Self {
            metadata: Metadata {
                timestamp: record.ended,
                version: VERSION,
                test_duration: GoDuration::from_nanos(test),
            },
            configuration,
            results: Results::new(record),
        }
    }

    /// Serializes the file as JSON.
    ///
    /// # Errors
    ///
    /// The errors of `serde_json`.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// The names of the two files of a run, derived from the time of its start: the result file and the record.
///
/// ```
/// use broadside::load::upstream::file_names;
///
/// let names = file_names("2026-08-01T09:30:05.25Z".parse()?);
/// assert_eq!(names, ["broadside-result-20260801-093005.json", "broadside-run-20260801-093005.json"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn file_names(started: Timestamp) -> [String; 2] {
    // The digits of YYYY-MM-DDTHH:MM:SS.
    let text = started.to_string();
    let digits: String = text.chars().take(19).filter(char::is_ascii_digit).collect();
    let (day, time) = digits.split_at(digits.len().min(8));
    ["result", "run"].map(|kind| format!("broadside-{kind}-{day}-{time}.json"))
}
