//! Conversion of rows, in RowBinary.
//!
//! Absent strings and bytes are stored as empty ones. Ingestion rejects empty ones, so the mapping is lossless, and
//! ClickHouse reads and filters a plain column faster than a Nullable one, which consists of two.

use bytes::Bytes;
use clickhouse::Row;
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, ToSmolStr};

use super::exchange::NO_LEASE;
use crate::ingest::{JobInsert, RecordInsert, RunInsert};
use crate::model::{Annotations, GroupAggregates, Job, JobGroup, JobState, Run, RunState};
use crate::odd_values::OddValues;
use crate::query::{GroupBy, GroupQuery, TimeAggregate};
use crate::time::Timestamp;

/// The version of a row that has not been written yet.
const NO_VERSION: u64 = 0;

/// A row of `job`, with all columns.
#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
pub(super) struct JobRow {
    pub job_id: SmolStr,
    pub version: u64,
    pub queue: SmolStr,
    pub job_set: SmolStr,
    pub owner: SmolStr,
    #[serde(with = "nullable_text")]
    pub namespace: Option<SmolStr>,
    pub priority: i64,
    #[serde(with = "nullable_text")]
    pub priority_class: Option<SmolStr>,
    #[serde(with = "micros")]
    pub submitted: Timestamp,
    pub cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    pub gpu: i64,
    pub annotations: Annotations,
    #[serde(with = "job_state")]
    pub state: JobState,
    #[serde(with = "micros")]
    pub last_transition_time: Timestamp,
    #[serde(with = "nullable_text")]
    pub latest_run_id: Option<SmolStr>,
    #[serde(with = "nullable_micros")]
    pub cancelled: Option<Timestamp>,
    #[serde(with = "nullable_text")]
    pub cancel_reason: Option<SmolStr>,
    #[serde(with = "nullable_text")]
    pub cancel_user: Option<SmolStr>,
}

/// A row of `job_run` in a page, without the error and the debug message.
#[derive(Debug, Clone, Row, Deserialize)]
pub(super) struct RunRow {
    run_id: SmolStr,
    pub job_id: SmolStr,
    cluster: SmolStr,
    #[serde(with = "nullable_text")]
    node: Option<SmolStr>,
    #[serde(with = "nullable_text")]
    pool: Option<SmolStr>,
    #[serde(with = "run_state")]
    state: RunState,
    #[serde(with = "micros")]
    leased: Timestamp,
    #[serde(with = "nullable_micros")]
    pending: Option<Timestamp>,
    #[serde(with = "nullable_micros")]
    started: Option<Timestamp>,
    #[serde(with = "nullable_micros")]
    finished: Option<Timestamp>,
    exit_code: Option<i32>,
}

/// A row of `job_run`, with all columns.
#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
pub(super) struct StoredRun {
    pub run_id: SmolStr,
    pub job_id: SmolStr,
    pub version: u64,
    pub cluster: SmolStr,
    #[serde(with = "nullable_text")]
    pub node: Option<SmolStr>,
    #[serde(with = "nullable_text")]
    pub pool: Option<SmolStr>,
    #[serde(with = "run_state")]
    pub state: RunState,
    #[serde(with = "micros")]
    pub leased: Timestamp,
    #[serde(with = "nullable_micros")]
    pub pending: Option<Timestamp>,
    #[serde(with = "nullable_micros")]
    pub started: Option<Timestamp>,
    #[serde(with = "nullable_micros")]
    pub finished: Option<Timestamp>,
    pub exit_code: Option<i32>,
    #[serde(with = "nullable_bytes")]
    pub error: Option<Bytes>,
    #[serde(with = "nullable_bytes")]
    pub debug: Option<Bytes>,
}

/// A row of `job_spec` or `job_error`.
#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
pub(super) struct RecordRow {
    pub job_id: SmolStr,
    pub version: u64,
    #[serde(with = "nullable_bytes")]
    pub value: Option<Bytes>,
}

/// A property of the store.
#[derive(Debug, Clone, Row, Serialize, Deserialize)]
pub(super) struct PropertyRow {
    pub key: String,
    pub value: String,
    pub version: u64,
}

/// A setting of the user's profile.
#[derive(Debug, Row, Deserialize)]
pub(super) struct SettingRow {
    pub name: String,
    pub value: String,
    /// Whether the user may not change the setting.
    pub readonly: u8,
}

/// A table of the catalog.
#[derive(Debug, Row, Deserialize)]
pub(super) struct TableRow {
    pub name: String,
    pub engine: String,
    pub comment: String,
    /// Independent of the address.
    pub id: String,
}

/// The bytes of a spec, an error or a debug message; `None` if empty.
#[derive(Debug, Row, Deserialize)]
pub(super) struct BytesRow {
    #[serde(with = "nullable_bytes")]
    pub value: Option<Bytes>,
}

/// A group with all aggregates; those that were not requested are empty or 0.
#[derive(Debug, Row, Deserialize)]
pub(super) struct GroupRow {
    /// The ordinal in groups by state: the names are those of this version, not of the column's type.
    pub name: SmolStr,
    pub count: u64,
    /// The counts of the requested states, in the order of the states.
    pub states: Vec<u64>,
    /// The earliest submission time.
    #[serde(with = "micros")]
    pub earliest: Timestamp,
    /// The sum, minimum or maximum of the transition times in whole seconds.
    pub transition: i128,
}

impl GroupRow {
    /// The group with the requested aggregates.
    pub(super) fn into_group(self, query: &GroupQuery, odd: &OddValues) -> JobGroup {
        let name = match (query.group_by(), self.name.parse()) {
            (GroupBy::State, Ok(ordinal)) => JobState::from_stored(ordinal).to_smolstr(),
            _ => self.name,
        };
        let aggregates = query.aggregates();
        let transition_time = |aggregate| match aggregate {
            TimeAggregate::Average => Timestamp::from_average_seconds(self.transition, self.count),
            TimeAggregate::Earliest | TimeAggregate::Latest => Timestamp::from_seconds(self.transition as i64),
        };
        let mut aggregates = GroupAggregates {
            state: aggregates.states().map(|states| states.iter().zip(self.states).collect()),
            submitted: aggregates.submitted().then_some(self.earliest),
            last_transition_time: aggregates.last_transition_time().map(transition_time),
        };
        odd.settle_group(&name, &mut aggregates);
        JobGroup { name, count: self.count, aggregates }
    }
}

impl From<&JobInsert> for JobRow {
    fn from(job: &JobInsert) -> Self {
        Self {
            job_id: job.job_id.as_str().into(),
            version: NO_VERSION,
            queue: job.queue.as_str().into(),
            job_set: job.job_set.as_str().into(),
            owner: job.owner.as_str().into(),
            namespace: job.namespace.as_deref().map(SmolStr::new),
            priority: job.priority,
            priority_class: job.priority_class.as_deref().map(SmolStr::new),
            submitted: job.submitted,
            cpu: job.cpu,
            memory: job.memory,
            ephemeral_storage: job.ephemeral_storage,
            gpu: job.gpu,
            annotations: job.annotations.iter().collect(),
            state: JobState::Queued,
            last_transition_time: job.submitted,
            latest_run_id: None,
            cancelled: None,
            cancel_reason: None,
            cancel_user: None,
        }
    }
}

impl From<JobRow> for Job {
    fn from(row: JobRow) -> Self {
        Self {
            job_id: row.job_id,
            queue: row.queue,
            owner: row.owner,
            namespace: row.namespace,
            job_set: row.job_set,
            cpu: row.cpu,
            memory: row.memory,
            ephemeral_storage: row.ephemeral_storage,
            gpu: row.gpu,
            priority: row.priority,
            priority_class: row.priority_class,
            submitted: row.submitted,
            cancelled: row.cancelled,
            state: row.state,
            last_transition_time: row.last_transition_time,
            last_active_run_id: row.latest_run_id,
            duplicate: false,
            annotations: row.annotations,
            runs: Vec::new(),
            cancel_reason: row.cancel_reason,
            cancel_user: row.cancel_user,
            node: None,
            cluster: SmolStr::default(),
            pool: None,
            exit_code: None,
            runtime_seconds: 0,
        }
    }
}

impl From<&RunInsert> for StoredRun {
    fn from(run: &RunInsert) -> Self {
        Self {
            run_id: run.run_id.as_str().into(),
            job_id: run.job_id.as_str().into(),
            version: NO_VERSION,
            cluster: run.cluster.as_str().into(),
            node: run.node.as_deref().map(SmolStr::new),
            pool: run.pool.as_deref().map(SmolStr::new),
            state: RunState::Leased,
            leased: run.leased,
            pending: None,
            started: None,
            finished: None,
            exit_code: None,
            error: None,
            debug: None,
        }
    }
}

impl From<RunRow> for Run {
    fn from(row: RunRow) -> Self {
        Self {
            run_id: row.run_id,
            cluster: row.cluster,
            node: row.node,
            pool: row.pool,
            leased: Some(row.leased).filter(|leased| leased.as_micros() > NO_LEASE),
            pending: row.pending,
            started: row.started,
            finished: row.finished,
            job_run_state: row.state,
            exit_code: row.exit_code,
        }
    }
}

impl From<&RecordInsert> for RecordRow {
    fn from(record: &RecordInsert) -> Self {
        Self { job_id: record.job_id.as_str().into(), version: NO_VERSION, value: Some(record.value.clone()) }
    }
}

/// A DateTime64(6): microseconds since 1970.
mod micros {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::time::Timestamp;

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(time.as_micros())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(deserializer).map(Timestamp::from_micros)
    }
}

mod nullable_micros {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::time::Timestamp;

    pub(super) fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(Timestamp::as_micros).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::deserialize(deserializer)?.map(Timestamp::from_micros))
    }
}

mod nullable_text {
    use serde::{Deserialize, Deserializer, Serializer};
    use smol_str::SmolStr;

    pub(super) fn serialize<S: Serializer>(text: &Option<SmolStr>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text.as_deref().unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SmolStr>, D::Error> {
        SmolStr::deserialize(deserializer).map(|text| Some(text).filter(|text| !text.is_empty()))
    }
}

mod nullable_bytes {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes.as_deref().unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
        Bytes::deserialize(deserializer).map(|bytes| Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

/// Serializes states as Enum8, by their ordinals.
macro_rules! enum8 {
    ($module:ident, $state:ty) => {
        mod $module {
            use serde::{Deserialize, Deserializer, Serializer};

            type State = $state;

            pub(super) fn serialize<S: Serializer>(state: &State, serializer: S) -> Result<S::Ok, S::Error> {
                match state {
                    State::Unknown(ordinal) => serializer.serialize_i8(*ordinal as i8),
                    known => serializer.serialize_i8(known.ordinal() as i8),
                }
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<State, D::Error> {
                i8::deserialize(deserializer).map(|ordinal| State::from_stored(ordinal.into()))
            }
        }
    };
}

enum8!(job_state, crate::model::JobState);
enum8!(run_state, crate::model::RunState);
