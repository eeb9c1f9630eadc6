//! The keys of a configuration.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::database::LoadDatabase;
use super::number::{duration, proportion, stage_rate};
use crate::historical::HistoricalJobsParams;
use crate::load::arrivals::Profile;
use crate::load::objective::Objective;
use crate::load::payloads;
use crate::time::Timestamp;

/// The configuration of a load test.
///
/// [`LoadConfig::parse`] reads it from YAML. The serialized form has the same keys, without secrets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadConfig {
    /// The duration of the test phase, in which the load is measured.
    #[serde(with = "duration")]
    pub test_duration: Duration,
    /// The duration of the warm-up phase.
    #[serde(with = "duration")]
    pub warmup_duration: Duration,
    /// Whether to keep the data after the run.
    pub skip_tear_down: bool,
    /// The database.
    #[serde(rename = "databaseConfig", skip_deserializing)]
    pub database: LoadDatabase,
    /// The queues; at least one.
    #[serde(rename = "queueConfig")]
    pub queues: Vec<QueueConfig>,
    /// The ingestion.
    #[serde(rename = "ingestionConfig")]
    pub ingestion: IngestionConfig,
    /// The reads that Armada's Broadside supports.
    #[serde(rename = "queryConfig")]
    pub queries: QueryConfig,
    /// Further reads as made by users of Lookout.
    #[serde(rename = "lookoutQueryConfig")]
    pub lookout_queries: LookoutQueryConfig,
    /// The actions on job sets.
    #[serde(rename = "actionsConfig")]
    pub actions: ActionsConfig,
    /// The fraction of batches that are sent twice, from 0 to 1.
    #[serde(deserialize_with = "proportion")]
    pub redelivery: f64,
    /// A file with recorded reads to replay in addition.
    pub reads: Option<PathBuf>,
    /// The objectives.
    pub slo: Vec<Objective>,
    /// The consecutive parts of the test with rates of their own, whose durations sum to the duration of the test. The
    /// warm-up has the rate of the first. Without stages, all rates are as configured.
    pub stages: Vec<StageConfig>,
    /// The time without a successful batch, while batches are sent, after which a run ends; 0 for no limit.
    #[serde(with = "duration", default = "default_abort_after")]
    pub abort_after: Duration,
    /// The objectives that end a run as soon as they can no longer be met.
    pub abort_on: Vec<Objective>,
}

/// A part of the test.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StageConfig {
    /// The duration.
    #[serde(with = "duration")]
    pub duration: Duration,
    /// The factor of all rates: of submissions and reads.
    #[serde(deserialize_with = "stage_rate")]
    pub rate: f64,
}

/// A queue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueConfig {
    /// The name.
    pub name: String,
    /// The fraction of the jobs, from 0 to 1.
    #[serde(deserialize_with = "proportion")]
    pub proportion: f64,
    /// The job sets; at least one.
    #[serde(rename = "jobSetConfig")]
    pub job_sets: Vec<JobSetConfig>,
}

/// A job set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobSetConfig {
    /// The name.
    pub name: String,
    /// The fraction of the queue's jobs, from 0 to 1.
    #[serde(deserialize_with = "proportion")]
    pub proportion: f64,
    /// The historical jobs, created before the load.
    #[serde(rename = "historicalJobsConfig")]
    pub historical: HistoricalJobsConfig,
}

/// The historical jobs of a job set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HistoricalJobsConfig {
    /// The number of jobs.
    pub number_of_jobs: u64,
    /// The fraction of succeeded jobs.
    #[serde(deserialize_with = "proportion")]
    pub proportion_succeeded: f64,
    /// The fraction of failed jobs.
    #[serde(deserialize_with = "proportion")]
    pub proportion_errored: f64,
    /// The fraction of cancelled jobs.
    #[serde(deserialize_with = "proportion")]
    pub proportion_cancelled: f64,
    /// The fraction of preempted jobs. Has no effect: jobs without another state are preempted.
    #[serde(deserialize_with = "proportion")]
    pub proportion_preempted: f64,
    /// The ages of the jobs in days, assigned round-robin.
    pub job_age_days: Vec<u32>,
}

/// The treatment of jobs that arrive while the backlog is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BacklogStrategy {
    /// The job waits. Its latency includes the wait.
    #[default]
    #[serde(alias = "")]
    Block,
    /// The job is shed with all its transitions, and counted as dropped.
    Drop,
    /// The job is shed with all its transitions, and counted as rejected.
    Error,
}

/// The ingestion.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IngestionConfig {
    /// The number of queries in a full batch.
    pub batch_size: u64,
    /// The number of workers. Each owns a subset of the jobs and has at most one batch in flight.
    pub num_workers: u64,
    /// The submission rate, in jobs per hour.
    pub submissions_per_hour: u64,
    /// The capacity of a worker's queue, in batches.
    pub channel_buffer_size_multiplier: u64,
    /// The maximum number of queries in the queue of each worker; 0 for no limit besides its capacity.
    pub max_backlog_size: u64,
    /// The treatment of jobs that arrive while a queue is full.
    pub backlog_drop_strategy: BacklogStrategy,
    /// The maximum time that a query waits for its batch to fill; 0 for the default of 1 second.
    #[serde(with = "duration")]
    pub batch_timeout: Duration,
    /// The number of historical jobs in a chunk.
    pub historical_job_chunk_size: u64,
    /// The number of job sets that are populated concurrently.
    pub historical_job_workers: u64,
    /// The state transitions of jobs.
    #[serde(rename = "jobStateTransitionConfig")]
    pub transitions: TransitionConfig,
}

/// The state transitions of jobs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TransitionConfig {
    /// The time from submission to lease.
    #[serde(with = "duration")]
    pub queueing_duration: Duration,
    /// The time from lease to pending.
    #[serde(with = "duration")]
    pub leased_duration: Duration,
    /// The time from pending to running.
    #[serde(with = "duration")]
    pub pending_duration: Duration,
    /// The fraction of jobs that succeed. The others fail.
    #[serde(deserialize_with = "proportion")]
    pub proportion_succeed: f64,
    /// The time from running to success.
    #[serde(with = "duration")]
    pub running_to_success_duration: Duration,
    /// The fraction of jobs that fail. Has no effect: jobs that do not succeed fail.
    #[serde(deserialize_with = "proportion")]
    pub proportion_fail: f64,
    /// The time from running to failure.
    #[serde(with = "duration")]
    pub running_to_failure_duration: Duration,
}

/// The rates of the reads that Armada's Broadside supports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryConfig {
    /// Pages of jobs per hour.
    pub get_jobs_queries_per_hour: u64,
    /// Pages of groups per hour.
    pub get_job_groups_queries_per_hour: u64,
    /// Job specs per hour.
    pub get_job_spec_queries_per_hour: u64,
    /// Run errors per hour.
    pub get_job_run_error_queries_per_hour: u64,
    /// Debug messages per hour.
    pub get_job_run_debug_message_queries_per_hour: u64,
    /// The number of jobs per page.
    pub get_jobs_page_size: u64,
    /// The number of groups per page.
    pub get_job_groups_page_size: u64,
    /// The maximum number of concurrent reads; 0 for no limit.
    pub max_concurrent_queries: u64,
    /// The maximum number of errors in the record. Further errors are only counted.
    pub max_errors_to_collect: u64,
}

/// The rates of reads as made by users of Lookout that Armada's Broadside does not support.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LookoutQueryConfig {
    /// Pages of jobs in active job sets per hour.
    pub active_job_sets_queries_per_hour: u64,
    /// Pages of jobs whose job set contains a string per hour.
    pub contains_queries_per_hour: u64,
    /// Pages with a large offset per hour.
    pub deep_offset_queries_per_hour: u64,
    /// Pages of the jobs of an owner per hour.
    pub owner_queries_per_hour: u64,
    /// Pages of the jobs of a pool per hour.
    pub pool_queries_per_hour: u64,
    /// The offset of the pages with a large offset.
    pub deep_offset: u64,
}

/// The actions on job sets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ActionsConfig {
    /// Reprioritisations of the active jobs of a job set.
    pub job_set_reprioritisations: Vec<ActionConfig>,
    /// Cancellations of the active jobs of a job set.
    pub job_set_cancellations: Vec<ActionConfig>,
}

/// An action on a job set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ActionConfig {
    /// The due time, from the start of the test.
    #[serde(with = "duration")]
    pub perform_after_test_start_time: Duration,
    /// The queue.
    pub queue: String,
    /// The job set.
    pub job_set: String,
}

const fn default_abort_after() -> Duration {
    Duration::from_secs(30)
}

impl LoadConfig {
    /// The parameters of the historical jobs, for each job set that has any.
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
                    job_age_days: set.historical.job_age_days.iter().map(|&days| days.into()).collect(),
                    job_spec_bytes: Some(payloads::SPEC.clone()),
                    error_bytes: Some(payloads::ERROR.clone()),
                    debug_bytes: Some(payloads::DEBUG.clone()),
                    preemption_bytes: Some(payloads::PREEMPTION.clone()),
                    reference_time,
                }
            })
            .collect()
    }

    /// The start and the end of the test phase, in microseconds from the start of the load.
    pub(in crate::load) fn test_micros(&self) -> [u64; 2] {
        let start = self.warmup_duration.as_micros() as u64;
        [start, start + self.test_duration.as_micros() as u64]
    }

    /// The number of jobs that are submitted during the test.
    pub(in crate::load) fn submissions_in_test(&self) -> f64 {
        self.submissions(self.test_micros())
    }

    /// The mean number of jobs that are submitted during warm-up and test.
    pub(in crate::load) fn live_jobs(&self) -> f64 {
        self.submissions([0, self.test_micros()[1]])
    }

    fn submissions(&self, period: [u64; 2]) -> f64 {
        Profile::of(self).work(period) / 1e6 * self.ingestion.submissions_per_hour as f64 / 3600.0
    }

    /// The number of historical jobs of all job sets.
    pub fn historical_job_count(&self) -> u64 {
        self.queues
            .iter()
            .flat_map(|queue| &queue.job_sets)
            .map(|set| set.historical.number_of_jobs)
            .fold(0, u64::saturating_add)
    }

    /// The number of jobs that are submitted during warm-up and test.
    pub fn live_job_count(&self) -> u64 {
        self.live_jobs() as u64
    }
}

impl IngestionConfig {
    /// The maximum time that a query waits for its batch to fill: the batch timeout or its default.
    pub(in crate::load) fn linger(&self) -> Duration {
        const DEFAULT: Duration = Duration::from_secs(1);
        if self.batch_timeout.is_zero() { DEFAULT } else { self.batch_timeout }
    }
}

impl TransitionConfig {
    /// The states after submission that jobs reach, each with the time from submission, in order. The last is the end
    /// of the longest life.
    pub(super) fn stages(&self) -> Vec<(&'static str, Duration)> {
        let running = self.queueing_duration + self.leased_duration + self.pending_duration;
        let succeeded = (self.proportion_succeed > 0.0).then_some(("succeeds", self.running_to_success_duration));
        let failed = (self.proportion_succeed < 1.0).then_some(("fails", self.running_to_failure_duration));
        let mut ends: Vec<_> = [succeeded, failed].into_iter().flatten().collect();
        ends.sort_by_key(|&(_, after)| after);
        let mut stages = vec![
            ("is leased", self.queueing_duration),
            ("is pending", self.queueing_duration + self.leased_duration),
            ("is running", running),
        ];
        stages.extend(ends.into_iter().map(|(state, after)| (state, running + after)));
        stages
    }
}

impl HistoricalJobsConfig {
    /// The cumulative thresholds of succeeded, failed and cancelled jobs: sums of `trunc(1000 × proportion)`.
    fn thresholds(&self) -> [i64; 3] {
        let mut sum = 0;
        [self.proportion_succeeded, self.proportion_errored, self.proportion_cancelled].map(|proportion| {
            sum += (proportion * 1000.0) as i64;
            sum
        })
    }
}
