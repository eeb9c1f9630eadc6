//! The record of a run with its measurements: `broadside-run-….json`.
//!
//! Times within a run are nanoseconds since the start of its first phase.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::measure::{Histogram, Interval, LatencyHistogram, Machine};
use crate::time::Timestamp;

/// The record of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
}

/// The store of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// The ingestion of the test phase. An event is a state transition of a job or an update by an action; it has one to
/// three ingestion queries.
///
/// The latency of an event is the sum of three parts: the driver's lag, the wait and the service time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct IngesterRecord {
    /// The number of ingestion queries that were due, without those of jobs that were shed.
    pub queries_due: u64,
    /// The number of these queries in batches that succeeded.
    pub queries_executed: u64,
    /// The number of these queries in batches that succeeded before the end of the test.
    pub queries_in_time: u64,
    /// The number of batches that succeeded.
    pub batches_executed: u64,
    /// The number of failed attempts to send a batch.
    pub batches_failed: u64,
    /// The number of batches that were redelivered.
    pub batches_redelivered: u64,
    /// The number of jobs shed by the strategy `drop` because the backlog was full.
    pub jobs_dropped: u64,
    /// The number of jobs shed by the strategy `error` because the backlog was full.
    pub jobs_rejected: u64,
    /// The time from the due time of an event to the completion of its batch. Events that were not stored at the end
    /// count with the time until then.
    pub latency: LatencyHistogram,
    /// The duration of the call that stored the event.
    pub service_time: LatencyHistogram,
    /// The time that the event waited for room in the queue, for its batch to fill, for the previous batch of its worker
    /// and for the repetition of a failed batch.
    pub backlog_wait: LatencyHistogram,
    /// The delay by the driver: from the due time to the generation of the event, and from the time at which the batch
    /// could be sent to the call.
    pub driver_lag: LatencyHistogram,
    /// The duration of the calls that succeeded, one value for each batch.
    pub call_time: LatencyHistogram,
    /// The number of queries in the backlog, sampled every 100 ms.
    pub backlog_size: Histogram,
}

impl IngesterRecord {
    /// Adds the measurements of another part of the load.
    pub(super) fn merge(&mut self, other: &Self) {
        self.queries_due += other.queries_due;
        self.queries_executed += other.queries_executed;
        self.queries_in_time += other.queries_in_time;
        self.batches_executed += other.batches_executed;
        self.batches_failed += other.batches_failed;
        self.batches_redelivered += other.batches_redelivered;
        self.jobs_dropped += other.jobs_dropped;
        self.jobs_rejected += other.jobs_rejected;
        self.latency.merge(&other.latency);
        self.service_time.merge(&other.service_time);
        self.backlog_wait.merge(&other.backlog_wait);
        self.driver_lag.merge(&other.driver_lag);
        self.call_time.merge(&other.call_time);
        self.backlog_size.merge(&other.backlog_size);
    }
}

/// The kinds of reads, serialized by their names in result files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum QueryType {
    /// A page of jobs.
    GetJobs,
    /// A page of groups.
    GetJobGroups,
    /// A job's spec.
    GetJobSpec,
    /// A run's error.
    GetJobRunError,
    /// A run's debug message.
    GetJobRunDebugMessage,
}

impl fmt::Display for QueryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The measurements of a kind of read with a filter combination.
///
/// The latency of a read that succeeded is the sum of three parts: the driver's lag, the wait for a slot and the service
/// time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryRecord {
    /// The kind.
    pub query_type: QueryType,
    /// The filter combination; `none` for single records.
    pub filter_combo: String,
    /// The number of reads that succeeded.
    pub executed: u64,
    /// The number of reads that failed, without [`not_found`](Self::not_found).
    pub failed: u64,
    /// The number of reads of a record that does not exist.
    pub not_found: u64,
    /// The number of reads that had not completed at the end.
    pub unfinished: u64,
    /// The number of reads that succeeded before the end of the test, including those of records that do not exist.
    pub in_time: u64,
    /// The time from the due time to completion. Reads that failed or had not completed count with the time until then,
    /// as lower bounds.
    pub latency: LatencyHistogram,
    /// The duration of the call.
    pub service_time: LatencyHistogram,
    /// The wait for a slot.
    pub slot_wait: LatencyHistogram,
    /// The delay by the driver, from the time at which the read was due and had a slot to the call.
    pub driver_lag: LatencyHistogram,
}

impl QueryRecord {
    pub(super) fn new(query_type: QueryType, filter_combo: &str) -> Self {
        Self {
            query_type,
            filter_combo: filter_combo.to_owned(),
            executed: 0,
            failed: 0,
            not_found: 0,
            unfinished: 0,
            in_time: 0,
            latency: LatencyHistogram::default(),
            service_time: LatencyHistogram::default(),
            slot_wait: LatencyHistogram::default(),
            driver_lag: LatencyHistogram::default(),
        }
    }

    /// The number of reads that were due.
    pub fn due(&self) -> u64 {
        self.executed + self.failed + self.not_found + self.unfinished
    }

    /// Adds the measurements of another part of the load.
    pub(super) fn merge(&mut self, other: &Self) {
        self.executed += other.executed;
        self.failed += other.failed;
        self.not_found += other.not_found;
        self.unfinished += other.unfinished;
        self.in_time += other.in_time;
        self.latency.merge(&other.latency);
        self.service_time.merge(&other.service_time);
        self.slot_wait.merge(&other.slot_wait);
        self.driver_lag.merge(&other.driver_lag);
    }

    /// The name in reports: the kind and the filter combination, if any.
    pub fn name(&self) -> String {
        match self.filter_combo.as_str() {
            "none" | "" => self.query_type.to_string(),
            filter => format!("{} {filter}", self.query_type),
        }
    }
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

/// What a run adds to its record in one second: the calls that ended in it, and the intervals that it closed.
///
/// A record is the sum of its seconds, so a run that is killed leaves a record of all seconds that were written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SecondRecord {
    /// The ingestion of the test phase.
    pub ingester: IngesterRecord,
    /// The reads of the test phase.
    pub queries: Vec<QueryRecord>,
    /// The first errors of the test phase.
    pub errors: Vec<ErrorRecord>,
    /// The number of errors of the test phase.
    pub error_count: u64,
    /// The interval of ingestion and of each kind of read, with one interval each.
    pub series: Vec<SeriesRecord>,
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

/// The search for the highest submission rate that meets all objectives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateSearchRecord {
    /// The highest rate that met all objectives, in submissions per second; `None` if no trial did.
    pub highest: Option<f64>,
    /// The trials, in order.
    pub trials: Vec<RateTrial>,
}

/// A trial of a rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateTrial {
    /// The rate, in submissions per second.
    pub rate: f64,
    /// The violations: missed objectives with the measured values, and other reasons; empty if all were met.
    pub broke: Vec<String>,
}

impl RunRecord {
    /// The version of the format that this build reads and writes.
    pub const FORMAT: u32 = 2;

    /// Adds the measurements of a second.
    pub(super) fn add(&mut self, second: SecondRecord) {
        self.ingester.merge(&second.ingester);
        for query in second.queries {
            let kind = (query.query_type, query.filter_combo.clone());
            let same = |other: &&mut QueryRecord| (other.query_type, &other.filter_combo) == (kind.0, &kind.1);
            match self.queries.iter_mut().find(same) {
                Some(sum) => sum.merge(&query),
                None => self.queries.push(query),
            }
        }
        self.queries.sort_by(|a, b| (a.query_type, &a.filter_combo).cmp(&(b.query_type, &b.filter_combo)));
        self.errors.extend(second.errors);
        self.error_count += second.error_count;
        for SeriesRecord { query_type, intervals } in second.series {
            match self.series.iter_mut().find(|series| series.query_type == query_type) {
                Some(series) => series.intervals.extend(intervals),
                None => self.series.push(SeriesRecord { query_type, intervals }),
            }
        }
    }

    /// Parses the content of a `broadside-run-….json`: a record, and the [`SecondRecord`]s of a run that was killed, which
    /// are added to it. An incomplete last second is left out.
    ///
    /// # Errors
    ///
    /// [`ReadRecordError`] if the text is not a record, or has another [`format`](Self::FORMAT).
    pub fn from_json(text: &[u8]) -> Result<Self, ReadRecordError> {
        // The format is checked first, because other formats may have other fields.
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let first = |text| serde_json::Deserializer::from_slice(text).into_iter::<Versioned>().next();
        match first(text) {
            Some(Ok(Versioned { format: Self::FORMAT })) => {}
            Some(Ok(Versioned { format })) => return Err(ReadRecordError::Format(format)),
            Some(Err(error)) => return Err(ReadRecordError::Json(error)),
            None => return Err(ReadRecordError::Empty),
        }
        let mut records = serde_json::Deserializer::from_slice(text).into_iter::<Self>();
        let Some(record) = records.next() else { return Err(ReadRecordError::Empty) };
        let mut record = record.map_err(ReadRecordError::Json)?;
        let seconds = &text[records.byte_offset()..];
        if !seconds.trim_ascii().is_empty() {
            record.add_seconds(seconds)?;
        }
        Ok(record)
    }

    /// Adds the seconds of a run that was killed, and ends its phases with the last one.
    fn add_seconds(&mut self, seconds: &[u8]) -> Result<(), ReadRecordError> {
        for second in serde_json::Deserializer::from_slice(seconds).into_iter::<SecondRecord>() {
            match second {
                Ok(second) => self.add(second),
                Err(error) if error.is_eof() => break,
                Err(error) => return Err(ReadRecordError::Json(error)),
            }
        }
        let last = self.series.iter().flat_map(|series| &series.intervals).map(|interval| interval.second).max();
        let end = last.map_or(0, |second| (second + 1) * 1_000_000_000);
        self.phases.retain(|phase| phase.start_nanos < end);
        self.phases.iter_mut().for_each(|phase| phase.end_nanos = phase.end_nanos.min(end));
        self.ended = Timestamp::from_micros(self.started.as_micros().saturating_add_unsigned(end / 1000));
        Ok(())
    }

    /// Serializes the record as the content of a `broadside-run-….json`.
    ///
    /// # Errors
    ///
    /// The errors of `serde_json`.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// The times of a phase; `None` if the run did not have it.
    pub fn phase(&self, phase: Phase) -> Option<&PhaseRecord> {
        self.phases.iter().find(|record| record.phase == phase)
    }

    /// Returns true if the run is valid and complete, and its census found no differences.
    pub fn is_sound(&self) -> bool {
        self.invalid.is_empty()
            && self.aborted.is_none()
            && !self.partial
            && self.census.as_ref().is_none_or(|census| census.differences.is_empty())
    }
}

/// An error of [`RunRecord::from_json`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadRecordError {
    /// The record has another format.
    Format(u32),
    /// The text is empty: the run was killed before its load.
    Empty,
    /// The text is not the JSON of a record.
    Json(serde_json::Error),
}

impl fmt::Display for ReadRecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(format) => {
                write!(f, "the record has format {format}, and this version supports format {}", RunRecord::FORMAT)
            }
            Self::Empty => f.write_str("the record is empty: the run ended before its load"),
            Self::Json(error) => write!(f, "not a record of a run: {error}"),
        }
    }
}

impl std::error::Error for ReadRecordError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Format(_) | Self::Empty => None,
            Self::Json(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests;
