//! The result file of Armada's Broadside: `broadside-result-YYYYMMDD-HHMMSS.json`.
//!
//! Its schema allows no other keys than these, and optional parts are left out when empty. What the
//! format cannot hold stands in the [`RunRecord`] beside it. The statistics are those
//! of the record: latencies run from the due time, and a percentile of few samples, which the
//! format cannot leave out, is the sample of the nearest rank.

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
    /// When and how long.
    pub metadata: Metadata,
    /// What was configured.
    pub configuration: Configuration,
    /// What was measured.
    pub results: Results,
}

/// When a test ended and how long it lasted.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// When the run ended.
    pub timestamp: Timestamp,
    /// [`VERSION`].
    pub version: &'static str,
    /// How long the test phase lasted.
    pub test_duration: GoDuration,
}

/// The part of a configuration that the format keeps.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// The length of the test.
    pub test_duration: GoDuration,
    /// The length of the warm-up.
    pub warmup_duration: GoDuration,
    /// The store.
    pub database_config: DatabaseConfig,
    /// The queues.
    pub queue_config: Vec<QueueConfig>,
    /// The ingestion.
    pub ingestion_config: IngestionConfig,
    /// The reads.
    pub query_config: QueryConfig,
    /// The actions; none if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions_config: Option<ActionsConfig>,
}

/// The kinds of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseType {
    /// PostgreSQL.
    Postgres,
    /// ClickHouse.
    ClickHouse,
    /// The memory engine.
    InMemory,
}

/// The store.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseConfig {
    /// Its kind.
    #[serde(rename = "type")]
    pub database_type: DatabaseType,
    /// Its address, without secrets.
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
    /// Its name.
    pub name: String,
    /// Its share of the jobs.
    pub proportion: f64,
    /// Its job sets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub job_set_config: Vec<JobSetConfig>,
}

/// A job set.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSetConfig {
    /// Its name.
    pub name: String,
    /// Its share of the queue's jobs.
    pub proportion: f64,
    /// Its historical jobs; none if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub historical_jobs_config: Option<HistoricalJobsConfig>,
}

/// The historical jobs of a job set.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoricalJobsConfig {
    /// How many.
    pub number_of_jobs: u64,
    /// The share that succeeded.
    pub proportion_succeeded: f64,
    /// The share that failed.
    pub proportion_errored: f64,
    /// The share that was cancelled.
    pub proportion_cancelled: f64,
    /// The share that was preempted.
    pub proportion_preempted: f64,
}

/// The ingestion.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IngestionConfig {
    /// Queries of a batch.
    pub batch_size: u64,
    /// Workers.
    pub num_workers: u64,
    /// Submissions an hour.
    pub submissions_per_hour: u64,
    /// The lives of jobs; none if nothing of it is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_state_transition_config: Option<JobStateTransitionConfig>,
}

/// The lives of jobs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobStateTransitionConfig {
    /// From submission to lease.
    pub queueing_duration: GoDuration,
    /// From lease to pending.
    pub leased_duration: GoDuration,
    /// From pending to running.
    pub pending_duration: GoDuration,
    /// The share that succeeds.
    pub proportion_succeed: f64,
    /// From running to success.
    pub running_to_success_duration: GoDuration,
    /// The share that fails.
    pub proportion_fail: f64,
    /// From running to failure.
    pub running_to_failure_duration: GoDuration,
}

/// The rates of reads and the sizes of their pages.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the keys of the configuration, whose guide explains them")]
pub struct QueryConfig {
    pub get_job_run_debug_message_queries_per_hour: u64,
    pub get_job_run_error_queries_per_hour: u64,
    pub get_job_spec_queries_per_hour: u64,
    pub get_jobs_queries_per_hour: u64,
    pub get_jobs_page_size: u64,
    pub get_job_groups_queries_per_hour: u64,
    pub get_job_groups_page_size: u64,
}

/// The actions; there is at least one.
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
    /// From the start of the test to the action.
    pub perform_after_test_start_time: GoDuration,
    /// The queue.
    pub queue: String,
    /// The job set.
    pub job_set: String,
}

impl ResultFile {
    /// The result file of a run.
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

    /// The text of the file.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// The names of a run's two files, by the time at which it ended: the result file and the record.
///
/// ```
/// use broadside::load::upstream::file_names;
///
/// let names = file_names("2026-08-01T09:30:05.25Z".parse()?);
/// assert_eq!(names, ["broadside-result-20260801-093005.json", "broadside-run-20260801-093005.json"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn file_names(ended: Timestamp) -> [String; 2] {
    // RFC 3339, YYYY-MM-DDTHH:MM:SS, without the separators.
    let text = ended.to_string();
    let digits: String = text.chars().take(19).filter(char::is_ascii_digit).collect();
    let (day, time) = digits.split_at(digits.len().min(8));
    ["result", "run"].map(|kind| format!("broadside-{kind}-{day}-{time}.json"))
}
