//! The configuration of a load test, in the keys of Armada's Broadside and some of our own.

mod database;
mod node;
mod problem;
mod read;
mod section;
#[cfg(test)]
mod tests;
mod upstream;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

pub use database::{LoadDatabase, Target};
pub use problem::{ConfigError, Problem};

use super::duration;
use super::objective::Objective;
use crate::error::BackendKind;
use crate::historical::HistoricalJobsParams;
use crate::time::Timestamp;

/// A load test.
///
/// It is read from YAML with [`LoadConfig::parse`]; the serialized form has the same keys and no secrets.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadConfig {
    /// How long the load is measured.
    #[serde(serialize_with = "duration::serialize")]
    pub test_duration: Duration,
    /// How long the load runs before it is measured.
    #[serde(serialize_with = "duration::serialize")]
    pub warmup_duration: Duration,
    /// Whether the data stay after the run.
    pub skip_tear_down: bool,
    /// The store.
    #[serde(rename = "databaseConfig")]
    pub database: LoadDatabase,
    /// The queues; at least one.
    #[serde(rename = "queueConfig")]
    pub queues: Vec<QueueConfig>,
    /// The ingestion.
    #[serde(rename = "ingestionConfig")]
    pub ingestion: IngestionConfig,
    /// The reads that upstream's driver makes.
    #[serde(rename = "queryConfig")]
    pub queries: QueryConfig,
    /// The reads that Lookout's users make besides.
    #[serde(rename = "lookoutQueryConfig")]
    pub lookout_queries: LookoutQueryConfig,
    /// The changes of whole job sets.
    #[serde(rename = "actionsConfig")]
    pub actions: ActionsConfig,
    /// The share of batches that are sent twice.
    pub redelivery: f64,
    /// Recorded reads to replay beside the others.
    pub reads: Option<PathBuf>,
    /// The objectives.
    pub slo: Vec<Objective>,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueConfig {
    /// Its name.
    pub name: String,
    /// Its share of the jobs.
    pub proportion: f64,
    /// Its job sets; at least one.
    #[serde(rename = "jobSetConfig")]
    pub job_sets: Vec<JobSetConfig>,
}

/// A job set.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSetConfig {
    /// Its name.
    pub name: String,
    /// Its share of the queue's jobs.
    pub proportion: f64,
    /// The finished jobs that it begins with.
    #[serde(rename = "historicalJobsConfig")]
    pub historical: HistoricalJobsConfig,
}

/// The finished jobs of a job set.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
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
    /// The share that was preempted: all that the others leave.
    pub proportion_preempted: f64,
    /// Ages in days, dealt out to the jobs in turn.
    pub job_age_days: Vec<u64>,
}

/// What happens to a job when the backlog is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BacklogStrategy {
    /// It waits; its latency runs from when it was due.
    #[default]
    Block,
    /// Its whole life is left out, and counted.
    Drop,
    /// The same, counted as an error.
    Error,
}

/// The ingestion.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IngestionConfig {
    /// The queries of a full batch.
    pub batch_size: u64,
    /// Workers, each of which owns its jobs and has one batch under way.
    pub num_workers: u64,
    /// New jobs in an hour.
    pub submissions_per_hour: u64,
    /// A worker's queue holds so many batches.
    pub channel_buffer_size_multiplier: u64,
    /// The most queries in the queues of all workers; 0 for no other bound than that of each queue.
    pub max_backlog_size: u64,
    /// What happens when a queue is full.
    pub backlog_drop_strategy: BacklogStrategy,
    /// The longest that a query waits for its batch to fill; 0 for a second.
    #[serde(serialize_with = "duration::serialize")]
    pub batch_timeout: Duration,
    /// The jobs of a chunk of historical jobs.
    pub historical_job_chunk_size: u64,
    /// How many job sets get their historical jobs at a time.
    pub historical_job_workers: u64,
    /// The lives of jobs.
    #[serde(rename = "jobStateTransitionConfig")]
    pub transitions: TransitionConfig,
}

/// The lives of jobs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransitionConfig {
    /// From submission to lease.
    #[serde(serialize_with = "duration::serialize")]
    pub queueing_duration: Duration,
    /// From lease to pending.
    #[serde(serialize_with = "duration::serialize")]
    pub leased_duration: Duration,
    /// From pending to running.
    #[serde(serialize_with = "duration::serialize")]
    pub pending_duration: Duration,
    /// The share that succeeds; the others fail.
    pub proportion_succeed: f64,
    /// From running to success.
    #[serde(serialize_with = "duration::serialize")]
    pub running_to_success_duration: Duration,
    /// The share that is meant to fail. What does not succeed fails, whatever this says.
    pub proportion_fail: f64,
    /// From running to failure.
    #[serde(serialize_with = "duration::serialize")]
    pub running_to_failure_duration: Duration,
}

/// The reads that upstream's driver makes, each at a rate of its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryConfig {
    /// Pages in an hour.
    pub get_jobs_queries_per_hour: u64,
    /// Groups in an hour.
    pub get_job_groups_queries_per_hour: u64,
    /// Specs in an hour.
    pub get_job_spec_queries_per_hour: u64,
    /// Run errors in an hour.
    pub get_job_run_error_queries_per_hour: u64,
    /// Debug messages in an hour.
    pub get_job_run_debug_message_queries_per_hour: u64,
    /// The jobs of a page.
    pub get_jobs_page_size: u64,
    /// The groups of a page.
    pub get_job_groups_page_size: u64,
    /// The most reads at a time; 0 for no limit.
    pub max_concurrent_queries: u64,
    /// The most errors that are kept with their text.
    pub max_errors_to_collect: u64,
}

/// The reads that Lookout's users make and upstream's driver does not, each at a rate of its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LookoutQueryConfig {
    /// Pages of jobs of active job sets, in an hour.
    pub active_job_sets_queries_per_hour: u64,
    /// Pages of jobs whose job set contains a text, in an hour.
    pub contains_queries_per_hour: u64,
    /// Pages far from the first, in an hour.
    pub deep_offset_queries_per_hour: u64,
    /// Pages of the jobs of an owner, in an hour.
    pub owner_queries_per_hour: u64,
    /// Pages of the jobs of a pool, in an hour.
    pub pool_queries_per_hour: u64,
    /// The offset of the deep pages.
    pub deep_offset: u64,
}

/// The changes of whole job sets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionsConfig {
    /// New priorities for the active jobs of job sets.
    pub job_set_reprioritisations: Vec<ActionConfig>,
    /// Cancellations of the active jobs of job sets.
    pub job_set_cancellations: Vec<ActionConfig>,
}

/// A change of a job set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionConfig {
    /// When, from the start of the test.
    #[serde(serialize_with = "duration::serialize")]
    pub perform_after_test_start_time: Duration,
    /// The queue.
    pub queue: String,
    /// The job set.
    pub job_set: String,
}

/// A configuration, with what is odd about it.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The configuration.
    pub config: LoadConfig,
    /// Keys that are not known and have no effect.
    pub warnings: Vec<Problem>,
}

impl LoadConfig {
    /// Reads files in YAML, each with its name; later ones prevail over earlier ones, key by key.
    ///
    /// Keys are matched without regard to case, numbers may be quoted, and durations are Go's.
    ///
    /// ```
    /// use broadside::load::LoadConfig;
    ///
    /// let base = "testDuration: 1m\ndatabaseConfig: {inMemory: true}\ningestionConfig: {batchSize: 100}\n\
    ///             queueConfig: [{name: q, proportion: 1, jobSetConfig: [{name: s, proportion: 1}]}]";
    /// let parsed = LoadConfig::parse([("base.yaml", base), ("longer.yaml", "TestDuration: 1h")])?;
    /// assert_eq!(parsed.config.test_duration.as_secs(), 3600);
    ///
    /// let error = LoadConfig::parse([("base.yaml", base), ("bad.yaml", "testDuration: soon")]).unwrap_err();
    /// assert!(error.to_string().starts_with("bad.yaml:1: testDuration: \"soon\" must be a duration"));
    /// # Ok::<(), broadside::load::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// All problems, each with file, line, key and value. Values of the database's section are not shown.
    pub fn parse<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Parsed, ConfigError> {
        read::parse(files, None)
    }

    /// The same for a store that the caller opens, in place of the one of the files.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), but for the store's address, which may be absent.
    pub fn parse_for<'a>(
        backend: BackendKind,
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Parsed, ConfigError> {
        read::parse(files, Some(backend))
    }

    /// The historical jobs of every job set that has some.
    pub fn historical_jobs(&self, reference_time: Timestamp) -> Vec<HistoricalJobsParams> {
        let job_sets = self.queues.iter().enumerate().flat_map(|(queue_idx, queue)| {
            queue.job_sets.iter().enumerate().map(move |(job_set_idx, set)| (queue_idx, queue, job_set_idx, set))
        });
        job_sets
            .filter(|(.., set)| set.historical.number_of_jobs > 0)
            .map(|(queue_idx, queue, job_set_idx, set)| {
                let [succeeded_threshold, errored_threshold, cancelled_threshold] = set.historical.thresholds();
                HistoricalJobsParams {
                    queue_idx: queue_idx as i64,
                    job_set_idx: job_set_idx as i64,
                    queue_name: queue.name.clone(),
                    job_set_name: set.name.clone(),
                    n_jobs: set.historical.number_of_jobs as i64,
                    chunk_size: self.ingestion.historical_job_chunk_size as i64,
                    succeeded_threshold,
                    errored_threshold,
                    cancelled_threshold,
                    job_age_days: set.historical.job_age_days.iter().map(|&days| days as i64).collect(),
                    job_spec_bytes: Some(super::records::spec()),
                    error_bytes: Some(super::records::error()),
                    debug_bytes: Some(super::records::debug()),
                    preemption_bytes: Some(super::records::preemption()),
                    reference_time,
                }
            })
            .collect()
    }

    /// The jobs of all historical jobs' configurations.
    pub fn historical_job_count(&self) -> u64 {
        self.queues
            .iter()
            .flat_map(|queue| &queue.job_sets)
            .map(|set| set.historical.number_of_jobs)
            .fold(0, u64::saturating_add)
    }

    /// The jobs that the whole run submits at its configured rate.
    pub fn live_job_count(&self) -> u64 {
        let seconds = (self.warmup_duration + self.test_duration).as_secs_f64();
        (self.ingestion.submissions_per_hour as f64 / 3600.0 * seconds) as u64
    }
}

impl HistoricalJobsConfig {
    /// The thresholds below which jobs succeed, fail and are cancelled, of 1000: sums of `trunc(1000 × proportion)`.
    fn thresholds(&self) -> [i64; 3] {
        let mut sum = 0;
        [self.proportion_succeeded, self.proportion_errored, self.proportion_cancelled].map(|proportion| {
            sum += (proportion * 1000.0) as i64;
            sum
        })
    }
}
