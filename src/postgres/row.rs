//! Conversion of values and rows.

use std::error::Error as StdError;

use bytes::{BufMut, BytesMut};
use serde::Deserialize;
use serde_json::Value;
use smol_str::SmolStr;
use tokio_postgres::types::{FromSql, IsNull, Json, ToSql, Type, accepts, to_sql_checked};
use tokio_postgres::{Error as DriverError, Row};

use super::error::Attempt;
use crate::model::{Annotations, Job, JobState, Run, RunState};
use crate::odd_values::OddValues;
use crate::time::Timestamp;

/// PostgreSQL's epoch, 2000-01-01T00:00:00Z, in microseconds since 1970.
const EPOCH: i64 = 946_684_800_000_000;
/// PostgreSQL's first timestamp, in microseconds since its epoch; -infinity precedes it.
const FIRST: i64 = -211_813_488_000_000_000;
/// The end of PostgreSQL's range, in microseconds since its epoch; infinity follows it.
const END: i64 = 9_223_371_331_200_000_000;

/// A `timestamp without time zone`. An instant outside PostgreSQL's range is represented by an infinity, which compares
/// equally with every stored timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PgTimestamp(pub Timestamp);

impl PgTimestamp {
    /// Microseconds since PostgreSQL's epoch.
    pub(super) fn to_wire(self) -> i64 {
        match self.0.as_micros().saturating_sub(EPOCH) {
            // The infinity is read as the last timestamp.
            _ if self.0.as_micros() == i64::MAX => i64::MAX,
            early if early < FIRST => i64::MIN,
            late if late >= END => i64::MAX,
            micros => micros,
        }
    }
}

impl ToSql for PgTimestamp {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_i64(self.to_wire());
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMP);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for PgTimestamp {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        // The infinities are at the ends of the range.
        let micros = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(Timestamp::from_micros(micros.saturating_add(EPOCH))))
    }

    accepts!(TIMESTAMP);
}

impl<'de> Deserialize<'de> for PgTimestamp {
    /// Parses the text of a timestamp in PostgreSQL's JSON: RFC 3339 without the offset, except for an infinity, a year
    /// with more than four digits, and one before Christ, which are represented by the ends of the range.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        if text.ends_with(" BC") || text == "-infinity" {
            return Ok(Self(Timestamp::from_micros(i64::MIN)));
        }
        if text == "infinity" || text.as_bytes().get(4).is_some_and(u8::is_ascii_digit) {
            return Ok(Self(Timestamp::from_micros(i64::MAX)));
        }
        text.push('Z');
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// The columns of a job, in the order in which [`job`] reads them.
pub(super) const JOB_COLUMNS: &[&str] = &[
    "job_id",
    "queue",
    "owner",
    "namespace",
    "jobset",
    "cpu",
    "memory",
    "ephemeral_storage",
    "gpu",
    "priority",
    "priority_class",
    "submitted",
    "cancelled",
    "state",
    "last_transition_time",
    "latest_run_id",
    "duplicate",
    "annotations",
    "cancel_reason",
    "cancel_user",
];

/// The columns of a run, in the order in which a [`RunRow`] reads them.
pub(super) const RUN_COLUMNS: &[&str] =
    &["run_id", "cluster", "node", "pool", "leased", "pending", "started", "finished", "job_run_state", "exit_code"];

/// A run as a JSON array.
#[derive(Debug, Deserialize)]
struct RunRow(
    SmolStr,
    SmolStr,
    Option<SmolStr>,
    Option<SmolStr>,
    Option<PgTimestamp>,
    Option<PgTimestamp>,
    Option<PgTimestamp>,
    Option<PgTimestamp>,
    i16,
    Option<i32>,
);

/// Reads the columns of a row in order.
pub(super) struct Reader<'r> {
    row: &'r Row,
    at: usize,
}

impl<'r> Reader<'r> {
    pub(super) fn new(row: &'r Row) -> Self {
        Self { row, at: 0 }
    }

    pub(super) fn next<T: FromSql<'r>>(&mut self) -> Result<T, DriverError> {
        self.row.try_get(self.skip())
    }

    /// The position of the next column, which is skipped.
    fn skip(&mut self) -> usize {
        self.at += 1;
        self.at - 1
    }

    pub(super) fn next_text(&mut self) -> Result<SmolStr, DriverError> {
        self.next::<&str>().map(SmolStr::new)
    }

    fn next_optional_text(&mut self) -> Result<Option<SmolStr>, DriverError> {
        Ok(self.next::<Option<&str>>()?.filter(|text| !text.is_empty()).map(SmolStr::new))
    }

    pub(super) fn next_count(&mut self) -> Result<u64, DriverError> {
        self.next().map(i64::unsigned_abs)
    }

    pub(super) fn next_time(&mut self) -> Result<Timestamp, DriverError> {
        self.next::<PgTimestamp>().map(|time| time.0)
    }
}

/// The annotations of a job, whose id is in the first column. Lookout writes an object of strings; of another value, the
/// text is returned.
pub(super) fn annotations(row: &Row, at: usize, odd: &OddValues) -> Result<Annotations, DriverError> {
    if let Ok(strings) = row.try_get::<_, Option<Json<Annotations>>>(at) {
        return Ok(strings.map(|json| json.0).unwrap_or_default());
    }
    let Ok(Json(value)) = row.try_get::<_, Json<Value>>(at) else {
        odd.note("job.annotations", row.try_get(0)?, &"a number or nesting out of range");
        return Ok(Annotations::default());
    };
    odd.note("job.annotations", row.try_get(0)?, &value);
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string().into(), SmolStr::new);
    let pairs = value.as_object().into_iter().flatten();
    Ok(pairs.map(|(key, value)| (SmolStr::new(key), text(value))).collect())
}

/// Reads a job from a row of [`JOB_COLUMNS`] and a JSON array of runs, which may be null.
pub(super) fn job(row: &Row, now: Timestamp, odd: &OddValues) -> Attempt<Job> {
    let mut reader = Reader::new(row);
    let mut job = Job {
        job_id: reader.next_text()?,
        queue: reader.next_text()?,
        owner: reader.next_text()?,
        namespace: reader.next_optional_text()?,
        job_set: reader.next_text()?,
        cpu: reader.next()?,
        memory: reader.next()?,
        ephemeral_storage: reader.next()?,
        gpu: reader.next()?,
        priority: reader.next()?,
        priority_class: reader.next_optional_text()?,
        submitted: reader.next_time()?,
        cancelled: reader.next::<Option<PgTimestamp>>()?.map(|time| time.0),
        state: JobState::from_stored(reader.next()?),
        last_transition_time: reader.next_time()?,
        last_active_run_id: reader.next_optional_text()?,
        duplicate: reader.next()?,
        annotations: annotations(row, reader.skip(), odd)?,
        runs: Vec::new(),
        cancel_reason: reader.next_optional_text()?,
        cancel_user: reader.next_optional_text()?,
        node: None,
        cluster: SmolStr::default(),
        pool: None,
        exit_code: None,
        runtime_seconds: 0,
    };
    odd.settle_job(&mut job);
    let runs = reader.next::<Option<Json<Vec<RunRow>>>>()?.map(|json| json.0).unwrap_or_default();
    job.attach_runs(runs.into_iter().map(|row| run(row, odd)).collect(), now);
    Ok(job)
}

fn run(row: RunRow, odd: &OddValues) -> Run {
    let RunRow(run_id, cluster, node, pool, leased, pending, started, finished, state, exit_code) = row;
    let time = |time: Option<PgTimestamp>| time.map(|time| time.0);
    let mut run = Run {
        run_id,
        cluster,
        node: node.filter(|node| !node.is_empty()),
        pool: pool.filter(|pool| !pool.is_empty()),
        leased: time(leased),
        pending: time(pending),
        started: time(started),
        finished: time(finished),
        job_run_state: RunState::from_stored(state),
        exit_code,
    };
    odd.settle_run(&mut run);
    run
}
