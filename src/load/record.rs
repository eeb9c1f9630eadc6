//! The record of a run, with all that was measured: `broadside-run-….json`.
//!
//! Times within a run are nanoseconds since its start, the beginning of the first phase.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::measure::{Histogram, Interval, LatencyHistogram, Machine};
use crate::time::Timestamp;

/// What a run was, and what it measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunRecord {
    /// The version of this format, [`RunRecord::FORMAT`].
    pub format: u32,
    /// The version of Broadside.
    pub broadside: String,
    /// When the run began.
    pub started: Timestamp,
    /// When its last phase ended.
    pub ended: Timestamp,
    /// The seed of every random draw.
    pub seed: u64,
    /// The options of the run besides its configuration, by name: `selection`, `arrivals`, `queryTimeout`.
    pub options: BTreeMap<String, Value>,
    /// The configuration as it was used: merged, with every default, without secrets.
    pub configuration: Value,
    /// The store.
    pub store: StoreRecord,
    /// The machine of the driver.
    pub machine: Machine,
    /// Whether the run ended before its time; what was measured up to then is here.
    #[serde(default)]
    pub partial: bool,
    /// Why the measurements cannot be trusted; empty for a valid run.
    #[serde(default)]
    pub invalid: Vec<String>,
    /// The phases, in order.
    pub phases: Vec<PhaseRecord>,
    /// The ingestion of the test phase.
    pub ingester: IngesterRecord,
    /// The reads of the test phase, by kind and filter.
    pub queries: Vec<QueryRecord>,
    /// The actions of the run, in the order of their times.
    #[serde(default)]
    pub actions: Vec<ActionRecord>,
    /// How long after their due times the generator issued its events.
    pub generator_lag: LatencyHistogram,
    /// The first errors, up to the configured number.
    #[serde(default)]
    pub errors: Vec<ErrorRecord>,
    /// The number of all errors.
    #[serde(default)]
    pub error_count: u64,
    /// Second by second, a series for ingestion and one for each kind of read, all phases.
    pub series: Vec<SeriesRecord>,
    /// Memory and bytes stored, at the start and at the end of the run.
    #[serde(default)]
    pub resources: Vec<ResourceSample>,
    /// What the store held after the drain beside what the driver was told is stored; none if
    /// no census was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub census: Option<CensusRecord>,
    /// The objectives and whether they held.
    #[serde(default)]
    pub objectives: Vec<ObjectiveRecord>,
    /// The search for the highest rate; none if none was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_search: Option<RateSearchRecord>,
}

/// The store that was under load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreRecord {
    /// The backend's name: `memory`, `postgres` or `clickhouse`.
    pub backend: String,
    /// The address, without secrets.
    pub address: String,
    /// The name and version of the software.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The settings of the server that bear on the measurements, by name.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// The phases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Connection, schema and tuning statements.
    Setup,
    /// Population with historical jobs.
    Historical,
    /// Load that is not measured.
    WarmUp,
    /// Load that is measured.
    Test,
    /// Completion of what was due before the end of the test.
    Drain,
    /// The census.
    Census,
    /// Removal of what the run made.
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

/// A phase and its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PhaseRecord {
    /// The phase.
    pub phase: Phase,
    /// Its start.
    pub start_nanos: u64,
    /// Its end.
    pub end_nanos: u64,
}

/// The ingestion of the test phase.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct IngesterRecord {
    /// The ingestion queries of the batches that succeeded.
    pub queries_executed: u64,
    /// The batches that succeeded.
    pub batches_executed: u64,
    /// The batches that failed.
    pub batches_failed: u64,
    /// The batches that had not completed at the end.
    pub batches_unfinished: u64,
    /// The batches sent a second time on purpose.
    pub batches_redelivered: u64,
    /// The lives left out by the drop strategy, because the backlog was full.
    pub lives_dropped: u64,
    /// The lives left out by the error strategy, because the backlog was full.
    pub lives_refused: u64,
    /// From the due time of a batch's first query to the batch's completion.
    pub latency: LatencyHistogram,
    /// The call alone.
    pub service_time: LatencyHistogram,
    /// How long queries waited in the backlog.
    pub backlog_wait: LatencyHistogram,
    /// The queries in the backlog, sampled at equal intervals.
    pub backlog_size: Histogram,
}

/// The kinds of reads, by the names that result files have for them.
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

/// The reads of a kind and filter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryRecord {
    /// The kind.
    pub query_type: QueryType,
    /// The combination of filters, `none` for single records.
    pub filter_combo: String,
    /// The reads that succeeded.
    pub executed: u64,
    /// The reads that failed, [`not_found`](Self::not_found) aside.
    pub failed: u64,
    /// The reads of a record that the store does not have.
    pub not_found: u64,
    /// The reads that had not completed at the end.
    pub unfinished: u64,
    /// From due time to completion.
    pub latency: LatencyHistogram,
    /// The call alone.
    pub service_time: LatencyHistogram,
    /// The wait for one of the slots that bound the concurrent reads.
    pub slot_wait: LatencyHistogram,
}

impl QueryRecord {
    /// What the reads are called in reports: the kind, and the filters if there are any.
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
pub enum ActionType {
    /// A new priority for the active jobs of a job set.
    Reprioritise,
    /// The cancellation of the active jobs of a job set.
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
    /// When it was due.
    pub due_nanos: u64,
    /// When it completed or failed; none if it had not at the end.
    pub end_nanos: Option<u64>,
    /// The jobs that it changed.
    pub jobs: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ErrorRecord {
    /// The kind of read; none for a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_type: Option<QueryType>,
    /// The combination of filters; empty for a batch.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub filter_combo: String,
    /// The error.
    pub error: String,
    /// When.
    pub timestamp: Timestamp,
}

/// A series of one-second intervals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeriesRecord {
    /// The kind of read; none for ingestion, whose arrivals are queries of batches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_type: Option<QueryType>,
    /// The intervals, ascending; seconds of phases without load are left out.
    pub intervals: Vec<Interval>,
}

/// What the store and the driver occupied at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceSample {
    /// When.
    pub at_nanos: u64,
    /// Bytes of data and indexes.
    pub stored_bytes: Option<u64>,
    /// Bytes of the server's memory, if the server tells.
    pub server_memory_bytes: Option<u64>,
    /// Bytes of the driver's resident memory.
    pub process_memory_bytes: Option<u64>,
}

/// The census after the drain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CensusRecord {
    /// The jobs counted by state.
    pub jobs: u64,
    /// The jobs compared whole.
    pub sampled: u64,
    /// What differs; empty if nothing was lost.
    pub differences: Vec<String>,
}

/// An objective and whether it held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectiveRecord {
    /// The objective as it was given: `page.p99 < 50ms`.
    pub objective: String,
    /// What was measured, as text with its unit; none if there were too few samples.
    pub measured: Option<String>,
    /// Whether it held.
    pub held: bool,
}

/// The search for the highest submission rate at which every objective holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateSearchRecord {
    /// The highest submissions a second at which every objective held; none if none did.
    pub highest: Option<f64>,
    /// The trials, in order.
    pub trials: Vec<RateTrial>,
}

/// A rate that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateTrial {
    /// Submissions a second.
    pub rate: f64,
    /// The objectives that did not hold, with what was measured; empty if all held.
    pub broke: Vec<String>,
}

impl RunRecord {
    /// The version of the format that this build reads and writes.
    pub const FORMAT: u32 = 1;

    /// Reads the text of a `broadside-run-….json`.
    ///
    /// # Errors
    ///
    /// If the text is no record, or one of another [`format`](Self::FORMAT).
    pub fn from_json(text: &[u8]) -> Result<Self, ReadRecordError> {
        // The format comes first: a record of another one need not have these fields.
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let Versioned { format } = serde_json::from_slice(text).map_err(ReadRecordError::Json)?;
        if format != Self::FORMAT {
            return Err(ReadRecordError::Format(format));
        }
        serde_json::from_slice(text).map_err(ReadRecordError::Json)
    }

    /// The text of a `broadside-run-….json`.
    ///
    /// # Errors
    ///
    /// Those of the serializer, for a configuration that JSON cannot hold.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// When a phase was; none if the run had none.
    pub fn phase(&self, phase: Phase) -> Option<&PhaseRecord> {
        self.phases.iter().find(|record| record.phase == phase)
    }

    /// Whether the measurements can be trusted, the run went to its end, and nothing was lost.
    pub fn is_sound(&self) -> bool {
        self.invalid.is_empty()
            && !self.partial
            && self.census.as_ref().is_none_or(|census| census.differences.is_empty())
    }
}

/// Why a text is not read as a record.
#[derive(Debug)]
pub enum ReadRecordError {
    /// It is of another format.
    Format(u32),
    /// It is no JSON of a record.
    Json(serde_json::Error),
}

impl fmt::Display for ReadRecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(format) => {
                write!(f, "the record is of format {format}, and this build reads format {}", RunRecord::FORMAT)
            }
            Self::Json(error) => write!(f, "no record of a run: {error}"),
        }
    }
}

impl std::error::Error for ReadRecordError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Format(_) => None,
            Self::Json(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_format_is_refused() {
        let read = |text: &str| RunRecord::from_json(text.as_bytes()).unwrap_err().to_string();
        assert!(read(r#"{"format":99,"more":1}"#).contains("format 99"), "{}", read(r#"{"format":99,"more":1}"#));
        assert!(read(r#"{"format":1}"#).starts_with("no record of a run"), "{}", read(r#"{"format":1}"#));
        assert!(read("{}").starts_with("no record of a run"));
    }
}
