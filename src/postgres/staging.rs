//! Rows on their way to temporary tables: their layout, and PostgreSQL's binary COPY format.

use std::collections::BTreeMap;
use std::io;

use bytes::{BufMut, Bytes, BytesMut};

use super::row::PgTimestamp;
use crate::ingest::{IngestionBatch, JobInsert, JobUpdate, RecordInsert, RunInsert, RunUpdate};
use crate::model::{JobState, RunState};
use crate::time::Timestamp;

/// The temporary tables, which each connection has for itself and every commit empties.
///
/// A job update has a row for each of the two kinds of job that it may meet: `ended` says whether
/// the row is for a job that ended in a way that a preemption overrides, or for an active one.
pub(super) const TABLES: &str = r#"
CREATE TEMPORARY TABLE staged_spec (
    job_id text COLLATE "C",
    value bytea
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE staged_error (
    job_id text COLLATE "C",
    value bytea
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE staged_run (
    run_id text COLLATE "C",
    job_id text COLLATE "C",
    cluster text COLLATE "C",
    node text COLLATE "C",
    pool text COLLATE "C",
    leased timestamp,
    job_run_state smallint
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE staged_job (
    job_id text COLLATE "C",
    queue text COLLATE "C",
    owner text COLLATE "C",
    jobset text COLLATE "C",
    cpu bigint,
    memory bigint,
    ephemeral_storage bigint,
    gpu bigint,
    priority bigint,
    submitted timestamp,
    state smallint,
    last_transition_time timestamp,
    last_transition_time_seconds bigint,
    priority_class text COLLATE "C",
    namespace text COLLATE "C",
    annotations jsonb
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE staged_job_update (
    job_id text COLLATE "C",
    ended boolean,
    priority bigint,
    state smallint,
    last_transition_time timestamp,
    last_transition_time_seconds bigint,
    latest_run_id text COLLATE "C",
    cancelled timestamp,
    cancel_reason text COLLATE "C",
    cancel_user text COLLATE "C"
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE staged_run_update (
    run_id text COLLATE "C",
    job_run_state smallint,
    node text COLLATE "C",
    pending timestamp,
    started timestamp,
    finished timestamp,
    exit_code integer,
    error bytea,
    debug bytea
) ON COMMIT DELETE ROWS;
"#;

/// A batch as COPY takes it, each part sorted by id, so that batches lock rows in one order.
/// Parts without rows are empty.
#[derive(Debug)]
pub(super) struct StagedBatch {
    pub specs: Bytes,
    pub errors: Bytes,
    pub runs: Bytes,
    pub jobs: Bytes,
    pub job_updates: Bytes,
    pub run_updates: Bytes,
}

impl StagedBatch {
    pub(super) fn new(batch: &IngestionBatch) -> Self {
        Self {
            specs: encode(batch.specs(), |spec| &spec.job_id, record),
            errors: encode(batch.errors(), |error| &error.job_id, record),
            runs: encode(batch.runs(), |run| &run.run_id, run),
            jobs: encode(batch.jobs(), |job| &job.job_id, job),
            job_updates: encode(batch.job_updates(), |update| &update.job_id, job_update),
            run_updates: encode(batch.run_updates(), |update| &update.run_id, run_update),
        }
    }
}

fn record(rows: &mut CopyRows, record: &RecordInsert) {
    rows.push(&[&record.job_id, &record.value]);
}

fn run(rows: &mut CopyRows, run: &RunInsert) {
    let state = i16::from(RunState::Leased.ordinal());
    rows.push(&[&run.run_id, &run.job_id, &run.cluster, &run.node, &run.pool, &run.leased, &state]);
}

fn job(rows: &mut CopyRows, job: &JobInsert) {
    rows.push(&[
        &job.job_id,
        &job.queue,
        &job.owner,
        &job.job_set,
        &job.cpu,
        &job.memory,
        &job.ephemeral_storage,
        &job.gpu,
        &job.priority,
        &job.submitted,
        &i16::from(JobState::Queued.ordinal()),
        &job.submitted,
        &job.submitted.floor_seconds(),
        &job.priority_class,
        &job.namespace,
        &job.annotations,
    ]);
}

fn job_update(rows: &mut CopyRows, update: &JobUpdate) {
    let patch = &update.if_active;
    let cancellation = patch.cancellation.as_ref();
    rows.push(&[
        &update.job_id,
        &false,
        &patch.priority,
        &patch.transition.map(|(state, _)| i16::from(state.ordinal())),
        &patch.transition.map(|(_, time)| time),
        &patch.transition.map(|(_, time)| time.floor_seconds()),
        &patch.latest_run_id,
        &cancellation.map(|cancellation| cancellation.time),
        &cancellation.and_then(|cancellation| cancellation.reason.clone()),
        &cancellation.and_then(|cancellation| cancellation.user.clone()),
    ]);
    if let Some(time) = update.preempted {
        let state = i16::from(JobState::Preempted.ordinal());
        let none = None::<i64>;
        rows.push(&[
            &update.job_id,
            &true,
            &none,
            &state,
            &time,
            &time.floor_seconds(),
            &none,
            &none,
            &none,
            &none,
        ]);
    }
}

fn run_update(rows: &mut CopyRows, update: &RunUpdate) {
    rows.push(&[
        &update.run_id,
        &i16::from(update.state.ordinal()),
        &update.node,
        &update.pending,
        &update.started,
        &update.finished,
        &update.exit_code,
        &update.error,
        &update.debug,
    ]);
}

fn encode<T>(items: &[T], id: impl Fn(&T) -> &str, push: impl Fn(&mut CopyRows, &T)) -> Bytes {
    if items.is_empty() {
        return Bytes::new();
    }
    let mut sorted: Vec<&T> = items.iter().collect();
    sorted.sort_unstable_by_key(|item| id(item));
    let mut rows = CopyRows::new();
    for item in sorted {
        push(&mut rows, item);
    }
    rows.finish()
}

/// Rows in PostgreSQL's binary COPY format.
struct CopyRows(BytesMut);

impl CopyRows {
    fn new() -> Self {
        let mut bytes = BytesMut::new();
        bytes.put_slice(b"PGCOPY\n\xff\r\n\0");
        bytes.put_i32(0); // no flags
        bytes.put_i32(0); // no header extension
        Self(bytes)
    }

    fn push(&mut self, fields: &[&dyn Field]) {
        self.0.put_i16(fields.len() as i16);
        for field in fields {
            let at = self.0.len();
            self.0.put_i32(NULL);
            if field.put(&mut self.0) {
                let length = (self.0.len() - at - size_of::<i32>()) as i32;
                self.0[at..at + size_of::<i32>()].copy_from_slice(&length.to_be_bytes());
            }
        }
    }

    fn finish(mut self) -> Bytes {
        self.0.put_i16(-1);
        self.0.freeze()
    }
}

/// The length that stands for a null.
const NULL: i32 = -1;

/// A value of a column in PostgreSQL's binary form.
trait Field {
    /// Appends the value; false if it is null, and then nothing was appended.
    fn put(&self, out: &mut BytesMut) -> bool;
}

impl Field for String {
    fn put(&self, out: &mut BytesMut) -> bool {
        out.put_slice(self.as_bytes());
        true
    }
}

impl Field for Bytes {
    fn put(&self, out: &mut BytesMut) -> bool {
        out.put_slice(self);
        true
    }
}

impl Field for bool {
    fn put(&self, out: &mut BytesMut) -> bool {
        out.put_u8(u8::from(*self));
        true
    }
}

impl Field for i16 {
    fn put(&self, out: &mut BytesMut) -> bool {
        out.put_i16(*self);
        true
    }
}

impl Field for i32 {
    fn put(&self, out: &mut BytesMut) -> bool {
        out.put_i32(*self);
        true
    }
}

impl Field for i64 {
    fn put(&self, out: &mut BytesMut) -> bool {
        out.put_i64(*self);
        true
    }
}

impl Field for Timestamp {
    fn put(&self, out: &mut BytesMut) -> bool {
        out.put_i64(PgTimestamp(*self).to_wire());
        true
    }
}

/// A `jsonb` object: the version of the binary form, then JSON text.
impl Field for BTreeMap<String, String> {
    fn put(&self, out: &mut BytesMut) -> bool {
        out.put_u8(1);
        let start = out.len();
        let written: Result<(), io::Error> = serde_json::to_writer(out.writer(), self).map_err(io::Error::from);
        debug_assert!(written.is_ok() && out.len() > start, "texts always have a JSON form");
        true
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut BytesMut) -> bool {
        self.as_ref().is_some_and(|value| value.put(out))
    }
}
