//! Historical jobs: finished jobs made by rule, the same on every backend.
//!
//! The SQL backends generate them inside the server, from SQL built with the constants of this module.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::base64_bytes;
use crate::error::{Error, Operation, Result};
use crate::ingest::{self, JOB_ID_BYTES, JOB_SET_BYTES, NAME_BYTES, Violation, null_as_default};
use crate::model::{Job, JobState, Run, RunState};
use crate::time::Timestamp;

/// Namespaces, by `i mod 7`.
pub const NAMESPACES: [&str; 7] =
    ["default", "dev", "staging", "research-red", "research-blue", "research-green", "research-yellow"];
/// Priority classes, by `i mod 4`.
pub const PRIORITY_CLASSES: [&str; 4] = ["armada-default", "armada-resilient", "armada-high", "armada-custom"];
/// Cores, by `i mod 6`.
pub const CPUS: [i64; 6] = [1, 2, 4, 8, 16, 32];
/// Memory in bytes, by `i mod 4`.
pub const MEMORIES: [i64; 4] = [GIB, 4 * GIB, 64 * GIB, 1024 * GIB];
/// Ephemeral storage in bytes, by `i mod 5`.
pub const EPHEMERAL_STORAGES: [i64; 5] = [512 * MIB, 2 * GIB, 10 * GIB, 1024 * GIB, 30 * 1024 * GIB];
/// GPUs, by `i mod 8`.
pub const GPUS: [i64; 8] = [0, 0, 0, 1, 0, 0, 0, 8];
/// Pools, by `i mod 4`.
pub const POOLS: [&str; 4] = ["general-purpose", "high-memory", "high-cpu", "gpu"];
/// The number of priorities, from 1.
pub const PRIORITIES: u64 = 2000;
/// The number of clusters, from 1.
pub const CLUSTERS: u64 = 40;
/// The number of nodes, from 1.
pub const NODES: u64 = 80;
/// Annotation keys, each with the number of its values.
pub const ANNOTATIONS: [(&str, u64); 5] = [
    ("example.com/broadside-alpha", 10),
    ("example.com/broadside-beta", 100),
    ("example.com/broadside-charlie", 1000),
    ("example.com/broadside-delta", 10_000),
    ("example.com/broadside-echo", 100_000),
];
/// The modulus of `i` to which the thresholds of the states apply.
pub const STATE_MODULUS: u64 = 1000;
/// The cancel reason of cancelled jobs.
pub const CANCEL_REASON: &str = "user requested";
/// Seconds from submission to lease.
pub const LEASED_AFTER: i64 = 1;
/// Seconds from submission to pending.
pub const PENDING_AFTER: i64 = 2;
/// Seconds from submission to start.
pub const STARTED_AFTER: i64 = 3;
/// Seconds from submission to the end.
pub const FINISHED_AFTER: i64 = 10;
/// The suffix of a run id after its job's id.
pub const RUN_ID_SUFFIX: &str = "00";

const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;
const SECONDS_PER_DAY: i64 = 86_400;
const DEFAULT_CHUNK_SIZE: u64 = 10_000;

/// Parameters of historical jobs, not yet validated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HistoricalJobsParams {
    /// The first part of the job ids.
    pub queue_idx: i64,
    /// The second part of the job ids.
    pub job_set_idx: i64,
    /// The queue, and the owner.
    pub queue_name: String,
    /// The job set.
    pub job_set_name: String,
    /// The number of jobs.
    pub n_jobs: i64,
    /// Jobs per chunk; 0 for the backend's default.
    #[serde(default, deserialize_with = "null_as_default")]
    pub chunk_size: i64,
    /// Of 1000 jobs, those below this succeed.
    #[serde(default, deserialize_with = "null_as_default")]
    pub succeeded_threshold: i64,
    /// Of the rest, those below this fail.
    #[serde(default, deserialize_with = "null_as_default")]
    pub errored_threshold: i64,
    /// Of the rest, those below this are cancelled; what then remains is preempted.
    #[serde(default, deserialize_with = "null_as_default")]
    pub cancelled_threshold: i64,
    /// Ages in days, assigned to the jobs in turn.
    #[serde(default, deserialize_with = "null_as_default")]
    pub job_age_days: Vec<i64>,
    /// The encoded `api.Job` of each job; empty for none.
    #[serde(default, with = "base64_bytes::optional", skip_serializing_if = "Option::is_none")]
    pub job_spec_bytes: Option<Bytes>,
    /// The error of failed jobs and their runs.
    #[serde(default, with = "base64_bytes::optional", skip_serializing_if = "Option::is_none")]
    pub error_bytes: Option<Bytes>,
    /// The debug message of failed jobs' runs.
    #[serde(default, with = "base64_bytes::optional", skip_serializing_if = "Option::is_none")]
    pub debug_bytes: Option<Bytes>,
    /// The error of preempted jobs' runs.
    #[serde(default, with = "base64_bytes::optional", skip_serializing_if = "Option::is_none")]
    pub preemption_bytes: Option<Bytes>,
    /// The time that ages count back from.
    pub reference_time: Timestamp,
}

/// Validated parameters of historical jobs: what [`populate_historical_jobs`] takes.
///
/// [`populate_historical_jobs`]: crate::Database::populate_historical_jobs
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoricalJobs {
    id_prefix: String,
    queue: String,
    job_set: String,
    count: u64,
    chunk_size: u64,
    thresholds: [u64; 3],
    bases: Vec<Timestamp>,
    spec: Bytes,
    error: Bytes,
    debug: Bytes,
    preemption: Bytes,
}

impl TryFrom<HistoricalJobsParams> for HistoricalJobs {
    type Error = Error;

    /// # Errors
    ///
    /// `InvalidArgument` naming the parameter and its value: a negative count, no ages for
    /// jobs, a text or time beyond the limits of ingestion, ids that are too long, an invalid spec.
    fn try_from(params: HistoricalJobsParams) -> Result<Self> {
        let count = non_negative("nJobs", params.n_jobs)?;
        let queue_idx = non_negative("queueIdx", params.queue_idx)?;
        let job_set_idx = non_negative("jobSetIdx", params.job_set_idx)?;
        let chunk_size = match non_negative("chunkSize", params.chunk_size)? {
            0 => DEFAULT_CHUNK_SIZE,
            size => size,
        };
        if count > 0 && params.job_age_days.is_empty() {
            return Err(invalid(format!("jobAgeDays [] must not be empty for nJobs {count}")));
        }
        let spec = params.job_spec_bytes.unwrap_or_default();
        ingest::required("queueName", &params.queue_name, NAME_BYTES).map_err(violation)?;
        ingest::required("jobSetName", &params.job_set_name, JOB_SET_BYTES).map_err(violation)?;
        ingest::spec("jobSpecBytes", &spec).map_err(violation)?;
        let jobs = Self {
            id_prefix: format!("{queue_idx:04}{job_set_idx:04}"),
            queue: params.queue_name,
            job_set: params.job_set_name,
            count,
            chunk_size,
            thresholds: [params.succeeded_threshold, params.errored_threshold, params.cancelled_threshold]
                .map(|threshold| u64::try_from(threshold).unwrap_or(0)),
            bases: bases(params.reference_time, &params.job_age_days)?,
            spec,
            error: params.error_bytes.unwrap_or_default(),
            debug: params.debug_bytes.unwrap_or_default(),
            preemption: params.preemption_bytes.unwrap_or_default(),
        };
        let last_id = jobs.job_id(count.saturating_sub(1));
        if last_id.len() > JOB_ID_BYTES {
            return Err(invalid(format!(
                "queueIdx {queue_idx} and jobSetIdx {job_set_idx} make job ids like {last_id:?}, longer than {JOB_ID_BYTES} bytes"
            )));
        }
        Ok(jobs)
    }
}

fn invalid(message: String) -> Error {
    Error::invalid(Operation::PopulateHistoricalJobs, message)
}

fn violation(violation: Violation) -> Error {
    invalid(violation.to_string())
}

fn non_negative(name: &str, value: i64) -> Result<u64> {
    u64::try_from(value).map_err(|_| invalid(format!("{name} {value} must not be negative")))
}

fn bases(reference: Timestamp, age_days: &[i64]) -> Result<Vec<Timestamp>> {
    let base = |&days: &i64| {
        let base = reference.plus_seconds(days.saturating_mul(SECONDS_PER_DAY).saturating_neg());
        ingest::time("jobAgeDays", base)
            .and_then(|()| ingest::time("jobAgeDays", base.plus_seconds(FINISHED_AFTER)))
            .map_err(|problem| invalid(format!("referenceTime {reference} less {days} days: {problem}")))?;
        Ok(base)
    };
    age_days.iter().map(base).collect()
}

/// The final state of a historical job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// SUCCEEDED with exit code 0.
    Succeeded,
    /// FAILED with an error of the job and the run, a debug message and exit code 0.
    Failed,
    /// CANCELLED by its owner.
    Cancelled,
    /// PREEMPTED, with the preemption as the run's error.
    Preempted,
}

impl Ending {
    /// Every ending, in the order of the thresholds below which it applies; the last has none.
    pub const ALL: [Self; 4] = [Self::Succeeded, Self::Failed, Self::Cancelled, Self::Preempted];

    /// The job's state.
    pub const fn job_state(self) -> JobState {
        match self {
            Self::Succeeded => JobState::Succeeded,
            Self::Failed => JobState::Failed,
            Self::Cancelled => JobState::Cancelled,
            Self::Preempted => JobState::Preempted,
        }
    }

    /// The run's state.
    pub const fn run_state(self) -> RunState {
        match self {
            Self::Succeeded => RunState::Succeeded,
            Self::Failed => RunState::Failed,
            Self::Cancelled => RunState::Cancelled,
            Self::Preempted => RunState::Preempted,
        }
    }

    /// The run's exit code.
    pub const fn exit_code(self) -> Option<i32> {
        match self {
            Self::Succeeded | Self::Failed => Some(0),
            Self::Cancelled | Self::Preempted => None,
        }
    }
}

impl HistoricalJobs {
    /// The number of jobs.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Jobs per chunk, at least 1.
    pub fn chunk_size(&self) -> u64 {
        self.chunk_size
    }

    /// The queue, and the owner.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// The job set.
    pub fn job_set(&self) -> &str {
        &self.job_set
    }

    /// The common prefix of the job ids; the job's number follows in at least ten digits.
    pub fn id_prefix(&self) -> &str {
        &self.id_prefix
    }

    /// The thresholds of `i mod 1000` below which jobs succeed, fail and are cancelled.
    pub fn thresholds(&self) -> [u64; 3] {
        self.thresholds
    }

    /// Submission times, by `i` modulo their number; not empty if there are jobs.
    pub fn bases(&self) -> &[Timestamp] {
        &self.bases
    }

    /// Every job's encoded `api.Job`; none if absent.
    pub fn spec(&self) -> Option<&Bytes> {
        Some(&self.spec).filter(|bytes| !bytes.is_empty())
    }

    /// The error of failed jobs and their runs; none if absent.
    pub fn error(&self) -> Option<&Bytes> {
        Some(&self.error).filter(|bytes| !bytes.is_empty())
    }

    /// The debug message of failed jobs' runs; none if absent.
    pub fn debug(&self) -> Option<&Bytes> {
        Some(&self.debug).filter(|bytes| !bytes.is_empty())
    }

    /// The error of preempted jobs' runs; none if absent.
    pub fn preemption(&self) -> Option<&Bytes> {
        Some(&self.preemption).filter(|bytes| !bytes.is_empty())
    }

    /// The id of job `i`.
    pub fn job_id(&self, i: u64) -> String {
        format!("{}{i:010}", self.id_prefix)
    }

    /// The id of job `i`'s run.
    pub fn run_id(&self, i: u64) -> String {
        run_id(&self.job_id(i))
    }

    /// The submission time of job `i`; `None` if there are no jobs.
    pub fn submitted(&self, i: u64) -> Option<Timestamp> {
        let len = self.bases.len() as u64;
        (len > 0).then(|| self.bases[(i % len) as usize])
    }

    /// The final state of job `i`.
    pub fn ending(&self, i: u64) -> Ending {
        let below = self.thresholds.iter().take_while(|&&threshold| i % STATE_MODULUS >= threshold).count();
        Ending::ALL[below]
    }
}

/// A historical job with its run and their records, as a store holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoricalJob {
    /// The job, without its run.
    pub job: Job,
    /// The run.
    pub run: Run,
    /// The job's spec.
    pub spec: Option<Bytes>,
    /// The job's error.
    pub job_error: Option<Bytes>,
    /// The run's error.
    pub run_error: Option<Bytes>,
    /// The run's debug message.
    pub run_debug_message: Option<Bytes>,
}

impl HistoricalJobs {
    /// Job `i` as a store holds it; `None` if there are no jobs. A store that is not SQL inserts it row by row.
    pub fn job(&self, i: u64) -> Option<HistoricalJob> {
        let submitted = self.submitted(i)?;
        let ending = self.ending(i);
        let run = self.run(i, submitted);
        let finished = submitted.plus_seconds(FINISHED_AFTER);
        let cancelled = ending == Ending::Cancelled;
        let job = Job {
            job_id: self.job_id(i).into(),
            queue: SmolStr::new(&self.queue),
            owner: SmolStr::new(&self.queue),
            namespace: Some(pick(&NAMESPACES, i).into()),
            job_set: SmolStr::new(&self.job_set),
            cpu: pick(&CPUS, i),
            memory: pick(&MEMORIES, i),
            ephemeral_storage: pick(&EPHEMERAL_STORAGES, i),
            gpu: pick(&GPUS, i),
            priority: priority(i),
            priority_class: Some(pick(&PRIORITY_CLASSES, i).into()),
            submitted,
            cancelled: cancelled.then_some(finished),
            state: ending.job_state(),
            last_transition_time: finished,
            last_active_run_id: Some(run.run_id.clone()),
            duplicate: false,
            annotations: ANNOTATIONS.iter().map(|&(key, values)| (key, annotation_value(i, values))).collect(),
            runs: Vec::new(),
            cancel_reason: cancelled.then(|| CANCEL_REASON.into()),
            cancel_user: cancelled.then(|| SmolStr::new(&self.queue)),
            node: None,
            cluster: SmolStr::default(),
            pool: None,
            exit_code: None,
            runtime_seconds: 0,
        };
        let failed = ending == Ending::Failed;
        let run_error = match ending {
            Ending::Failed => self.error(),
            Ending::Preempted => self.preemption(),
            Ending::Succeeded | Ending::Cancelled => None,
        };
        Some(HistoricalJob {
            job,
            run,
            spec: self.spec().cloned(),
            job_error: self.error().filter(|_| failed).cloned(),
            run_error: run_error.cloned(),
            run_debug_message: self.debug().filter(|_| failed).cloned(),
        })
    }

    fn run(&self, i: u64, submitted: Timestamp) -> Run {
        let ending = self.ending(i);
        let after = |seconds| Some(submitted.plus_seconds(seconds));
        Run {
            run_id: self.run_id(i).into(),
            cluster: cluster(i).into(),
            node: Some(node(i).into()),
            pool: Some(pick(&POOLS, i).into()),
            leased: after(LEASED_AFTER),
            pending: after(PENDING_AFTER),
            started: after(STARTED_AFTER),
            finished: after(FINISHED_AFTER),
            job_run_state: ending.run_state(),
            exit_code: ending.exit_code(),
        }
    }
}

/// The entry of a table for job `i`.
pub fn pick<T: Copy>(table: &[T], i: u64) -> T {
    table[(i % table.len() as u64) as usize]
}

/// The cluster of job `i`.
pub fn cluster(i: u64) -> String {
    format!("broadside-cluster-{}", i % CLUSTERS + 1)
}

/// The node of job `i`.
pub fn node(i: u64) -> String {
    node_of_cluster(i, i)
}

/// Node `node` of the cluster of job `i`.
pub fn node_of_cluster(i: u64, node: u64) -> String {
    format!("{}-node-{}", cluster(i), node % NODES + 1)
}

/// The priority of job `i`.
pub fn priority(i: u64) -> i64 {
    (i % PRIORITIES) as i64 + 1
}

/// The id of the run of the job of this id.
pub fn run_id(job_id: &str) -> String {
    [job_id, RUN_ID_SUFFIX].concat()
}

/// The value of an annotation of job `i`.
pub fn annotation_value(i: u64, modulus: u64) -> String {
    format!("value-{}", i % modulus)
}
