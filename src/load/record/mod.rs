//! The record of a run with its measurements: `broadside-run-….json`.
//!
//! Times within a run are nanoseconds since the start of its first phase.

mod calls;
mod journal;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::measure::{Interval, Machine};
use crate::time::Timestamp;

pub use calls::{IngesterRecord, Latencies, QueryRecord, QueryType};
pub use journal::{ReadRecordError, SecondRecord};

/// The record of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunRecord {
    /// The version of this format, [`RunRecord::FORMAT`].
    pub format: u32,
    /// The version of Broadside.
    pub broadside: String,
    /// The start of the run.
    pub started: Timestamp,
    /// The end of the last phase.
    pub ended: Timestamp,
    /// The seed of the random number generators.
    pub seed: u64,
    /// The options of the run in addition to its configuration, by name: `selection`, `arrivals`, `queryTimeout`.
    pub options: BTreeMap<String, Value>,
    /// The effective configuration: merged, with defaults, without secrets.
    pub configuration: Value,
    /// The store.
    pub store: StoreRecord,
    /// The machine of the load driver.
    pub machine: Machine,
    /// Whether the run was stopped early. The record has the measurements up to that time.
    #[serde(default)]
    pub partial: bool,
    /// The reasons for which the measurements are invalid; empty for a valid run.
    #[serde(default)]
    pub invalid: Vec<String>,
    /// The reasons for which the store did not sustain the load; empty if it did.
    #[serde(default)]
    pub unsustained: Vec<String>,
    /// The reason for which the driver ended the load early; `None` if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aborted: Option<String>,
    /// The errors of the steps around the load, such as the census and the tear-down.
    #[serde(default)]
    pub failures: Vec<FailureRecord>,
    /// The phases, in order.
    pub phases: Vec<PhaseRecord>,
    /// The ingestion of the test phase.
    pub ingester: IngesterRecord,
    /// The reads of the test phase, by kind and filter.
    pub queries: Vec<QueryRecord>,
    /// The actions of the run, ordered by due time.
    #[serde(default)]
    pub actions: Vec<ActionRecord>,
    /// The first errors of the test phase, up to the configured number.
    #[serde(default)]
    pub errors: Vec<ErrorRecord>,
    /// The total number of errors of the test phase.
    #[serde(default)]
    pub error_count: u64,
    /// The one-second series of all phases: one for ingestion and one for each kind of read.
    pub series: Vec<SeriesRecord>,
    /// The delays over the test phase: of ingestion and of each kind of read.
    #[serde(default)]
    pub delays: Vec<DelayRecord>,
    /// The number of reads of single records that were left out, because no id was known.
    #[serde(default)]
    pub reads_without_id: u64,
    /// The resource usage at the start and at the end of the load.
    #[serde(default)]
    pub resources: Vec<ResourceSample>,
    /// The activity of the server and of the load driver during the load, sampled once a second.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub activity: Vec<ActivitySample>,
    /// Why samples of the activity are incomplete, each reason once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub activity_problems: Vec<String>,
    /// The comparison of the store with the ingested jobs after the drain; `None` if it was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub census: Option<CensusRecord>,
    /// The objectives and their results.
    #[serde(default)]
    pub objectives: Vec<ObjectiveRecord>,
    /// The search for the highest rate; `None` for a single run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_search: Option<RateSearchRecord>,
    /// The part of the load that the run made; `None` if it made all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<ShareRecord>,
}

/// The part of a load that one of several load generators made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShareRecord {
    /// The share, as `2/4`.
    pub share: String,
    /// The name of the load, which all of its shares have.
    pub load: String,
}

/// The store of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreRecord {
    /// The backend's name: `memory`, `postgres` or `clickhouse`.
    pub backend: String,
    /// The address without secrets.
    pub address: String,
    /// The name and version of the database software.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The server settings that affect the measurements, by name.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// The phases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Phase {
    /// Connection, schema and tuning statements.
    Setup,
    /// Creation of historical jobs.
    Historical,
    /// Load before the test, without measurements except for the series.
    WarmUp,
    /// Load with measurements.
    Test,
    /// Completion of the calls that were due before the end of the test.
    Drain,
    /// Comparison of the store with the ingested jobs.
    Census,
    /// Removal of the data.
    TearDown,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Setup => "set-up",
            Self::Historical => "historical jobs",
            Self::WarmUp => "warm-up",
            Self::Test => "test",
            Self::Drain => "drain",
            Self::Census => "census",
            Self::TearDown => "tear-down",
        })
    }
}

/// The times of a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PhaseRecord {
    /// The phase.
    pub phase: Phase,
    /// The start, in nanoseconds.
    pub start_nanos: u64,
    /// The end, in nanoseconds.
    pub end_nanos: u64,
}

/// A step around the load that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailureRecord {
    /// The phase.
    pub phase: Phase,
    /// The error.
    pub error: String,
}

/// The kinds of actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ActionType {
    /// Reprioritisation of the active jobs of a job set.
    Reprioritise,
    /// Cancellation of the active jobs of a job set.
    Cancel,
}

impl fmt::Display for ActionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reprioritise => "reprioritise",
            Self::Cancel => "cancel",
        })
    }
}

/// An action on a job set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ActionRecord {
    /// The kind.
    pub action: ActionType,
    /// The queue.
    pub queue: String,
    /// The job set.
    pub job_set: String,
    /// The due time, in nanoseconds.
    pub due_nanos: u64,
    /// The time of completion or failure, in nanoseconds; `None` if the action had not completed at the end.
    pub end_nanos: Option<u64>,
    /// The number of updated jobs.
    pub jobs: u64,
    /// The error, if the action failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ErrorRecord {
    /// The kind of read; `None` for a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_type: Option<QueryType>,
    /// The filter combination; empty for a batch.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub filter_combo: String,
    /// The error message.
    pub error: String,
    /// The time of the error.
    pub timestamp: Timestamp,
}

/// A series of one-second intervals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeriesRecord {
    /// The kind of read; `None` for ingestion, whose unit is the ingestion query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_type: Option<QueryType>,
    /// The intervals in ascending order, without those of phases without load.
    pub intervals: Vec<Interval>,
}

/// The delays of arrivals over the test phase, which is divided into 20 equal parts. An arrival belongs to the part in
/// which it was due. The delay is the latency without the driver's lag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DelayRecord {
    /// The kind of read; `None` for the events of ingestion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_type: Option<QueryType>,
    /// The number of arrivals in each part.
    pub arrivals: Vec<u64>,
    /// The sum of their delays in each part, in nanoseconds. Arrivals that had not completed count with the time until
    /// then.
    pub nanos: Vec<u64>,
}

/// The resource usage of the store and the load driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceSample {
    /// The time of the sample, in nanoseconds.
    pub at_nanos: u64,
    /// The size of data and indexes, in bytes.
    pub stored_bytes: Option<u64>,
    /// The memory usage of the server, in bytes, if the server reports it.
    pub server_memory_bytes: Option<u64>,
    /// The resident memory of the load driver, in bytes.
    pub process_memory_bytes: Option<u64>,
}

/// The activity of the server and of the load driver at a moment.
///
/// The statistics are those of [`Activity`](crate::Activity), with the driver's CPU time (`driverCpuMicros`, of which
/// `generatorCpuMicros` is that of the load generator's thread, which waited for a core for `generatorWaitMicros`; on
/// Linux) and, every ten seconds, the sizes of the store
/// (`storedBytes`, of which `indexBytes` are indexes). A sample of a server that did not answer lacks its statistics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ActivitySample {
    /// The time of the sample, in nanoseconds.
    pub at_nanos: u64,
    /// The growth of counters since the last sample that has the counter; 0 in the first one, and after a reset.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, u64>,
    /// Current values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gauges: BTreeMap<String, u64>,
}

/// The comparison of the store with the ingested jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CensusRecord {
    /// The expected number of jobs.
    pub jobs: u64,
    /// The number of jobs compared field by field.
    pub sampled: u64,
    /// The differences; empty if the store has the expected jobs.
    pub differences: Vec<String>,
}

/// The result of an objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectiveRecord {
    /// The objective as configured: `page.p99 < 50ms`.
    pub objective: String,
    /// The measured value with its unit; `None` if there were too few samples.
    pub measured: Option<String>,
    /// The 95 % confidence interval of a percentile, with ∞ if the samples do not bound it from above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Whether the objective was met.
    pub held: bool,
    /// Whether the objective was missed by a latency that the driver's lag distorts.
    #[serde(default, rename = "unresolved")]
    pub is_unresolved: bool,
}

/// The measured value with its confidence interval.
impl fmt::Display for ObjectiveRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.measured.as_deref().unwrap_or("too few samples"))?;
        self.interval.as_ref().map_or(Ok(()), |interval| write!(f, " (95 %: {interval})"))
    }
}

/// The search for the highest submission rate that meets all objectives.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateSearchRecord {
    /// The highest rate that met all objectives, confirmed by a longer run, in submissions per second; `None` if there is
    /// none.
    pub highest: Option<f64>,
    /// The reason for which the search found no limit of the store; `None` if it found one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inconclusive: Option<String>,
    /// The trials, in order.
    pub trials: Vec<RateTrial>,
}

/// A trial of a rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateTrial {
    /// The rate, in submissions per second.
    pub rate: f64,
    /// Whether the trial is a longer run that confirms the result of the search.
    pub confirms: bool,
    /// The outcome.
    pub outcome: TrialOutcome,
    /// The violations with the measured values, or the reasons for which the trial was inconclusive; empty if it passed.
    pub reasons: Vec<String>,
    /// The duration of the test, in nanoseconds.
    pub test_nanos: u64,
    /// The number of submissions per second that the store kept up with: the rate times the share of the ingestion
    /// queries that were stored before the end of the test.
    pub achieved: f64,
    /// The 99th percentile of the latency of events, in nanoseconds; `None` with too few events.
    pub ingest_p99_nanos: Option<u64>,
}

/// The outcome of a trial of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TrialOutcome {
    /// All objectives were met, and there was no backlog at the end.
    Passed,
    /// An objective was missed, or the store did not keep up.
    Violated,
    /// The measurements were invalid, or too few for an objective.
    Inconclusive,
}

impl fmt::Display for RateTrial {
    /// Writes the outcome and the reasons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.outcome {
            TrialOutcome::Passed => "passed",
            TrialOutcome::Violated => "violated",
            TrialOutcome::Inconclusive => "inconclusive",
        })?;
        match self.reasons.as_slice() {
            [] => Ok(()),
            reasons => write!(f, ": {}", reasons.join("; ")),
        }
    }
}

impl RunRecord {
    /// The version of the format that this build reads and writes.
    pub const FORMAT: u32 = 2;

    /// The times of a phase; `None` if the run did not have it.
    pub fn phase(&self, phase: Phase) -> Option<&PhaseRecord> {
        self.phases.iter().find(|record| record.phase == phase)
    }

    /// Returns true if the run is valid and complete, all of its steps succeeded, and its census found no differences.
    pub fn is_sound(&self) -> bool {
        self.invalid.is_empty()
            && self.aborted.is_none()
            && self.failures.is_empty()
            && !self.partial
            && self.census.as_ref().is_none_or(|census| census.differences.is_empty())
    }
}
