//! Rows on their way to the temporary table: its columns, and PostgreSQL's binary COPY format.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::row::PgTimestamp;
use crate::ingest::{IngestionBatch, JobInsert, JobPatch, JobUpdate, RecordInsert, RunInsert, RunUpdate};
use crate::model::{JobState, RunState};
use crate::time::Timestamp;

/// The temporary table that holds a batch's rows, of whatever part. A session of its own makes one with its first
/// batch, and every commit empties it; in a shared session, every commit drops it. It is one table for all
/// parts because emptying has its price for each table, and a small batch pays it in full. Its name says the schema
/// wherever it is used, for a user's schema may have a table of that name.
const TABLE: &str = r#"
CREATE TEMPORARY TABLE staged (
    part text COLLATE {collation} NOT NULL,
    job_id text COLLATE {collation},
    run_id text COLLATE {collation},
    job_spec bytea,
    error bytea,
    debug bytea,
    queue text COLLATE {collation},
    owner text COLLATE {collation},
    jobset text COLLATE {collation},
    cpu bigint,
    memory bigint,
    ephemeral_storage bigint,
    gpu bigint,
    priority bigint,
    submitted timestamp,
    state smallint,
    last_transition_time timestamp,
    last_transition_time_seconds bigint,
    preempted timestamp,
    preempted_seconds bigint,
    priority_class text COLLATE {collation},
    namespace text COLLATE {collation},
    annotations jsonb,
    latest_run_id text COLLATE {collation},
    cancelled timestamp,
    cancel_reason text COLLATE {collation},
    cancel_user text COLLATE {collation},
    cluster text COLLATE {collation},
    node text COLLATE {collation},
    pool text COLLATE {collation},
    job_run_state smallint,
    leased timestamp,
    pending timestamp,
    started timestamp,
    finished timestamp,
    exit_code integer
) ON COMMIT {on_commit}"#;

/// The statement that makes the table, with the collation that the stored ids have: else no index of theirs would serve.
pub(super) fn table(collation: &str, keep: bool) -> String {
    TABLE.replace("{collation}", collation).replace("{on_commit}", if keep { "DELETE ROWS" } else { "DROP" })
}

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
            specs: encode(batch.specs(), |spec| &spec.job_id, spec),
            errors: encode(batch.errors(), |error| &error.job_id, error),
            runs: encode(batch.runs(), |run| &run.run_id, run),
            jobs: encode(batch.jobs(), |job| &job.job_id, job),
            job_updates: encode(batch.job_updates(), |update| &update.job_id, job_update),
            run_updates: encode(batch.run_updates(), |update| &update.run_id, run_update),
        }
    }
}

pub(super) const COPY_SPECS: &str = "COPY pg_temp.staged (part, job_id, job_spec) FROM STDIN (FORMAT binary)";

fn spec(rows: &mut CopyRows, spec: &RecordInsert) {
    rows.push(&[&"spec", &spec.job_id, &spec.value]);
}

pub(super) const COPY_ERRORS: &str = "COPY pg_temp.staged (part, job_id, error) FROM STDIN (FORMAT binary)";

fn error(rows: &mut CopyRows, error: &RecordInsert) {
    rows.push(&[&"error", &error.job_id, &error.value]);
}

pub(super) const COPY_RUNS: &str =
    "COPY pg_temp.staged (part, run_id, job_id, cluster, node, pool, leased, job_run_state) FROM STDIN (FORMAT binary)";

fn run(rows: &mut CopyRows, run: &RunInsert) {
    let state = i16::from(RunState::Leased.ordinal());
    rows.push(&[&"run", &run.run_id, &run.job_id, &run.cluster, &run.node, &run.pool, &run.leased, &state]);
}

pub(super) const COPY_JOBS: &str = "COPY pg_temp.staged (part, job_id, queue, owner, jobset, cpu, memory, ephemeral_storage, \
     gpu, priority, submitted, state, last_transition_time, last_transition_time_seconds, priority_class, namespace, \
     annotations) FROM STDIN (FORMAT binary)";

fn job(rows: &mut CopyRows, job: &JobInsert) {
    rows.push(&[
        &"job",
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

pub(super) const COPY_JOB_UPDATES: &str = "COPY pg_temp.staged (part, job_id, state, last_transition_time, \
     last_transition_time_seconds, priority, latest_run_id, cancelled, cancel_reason, cancel_user, preempted, \
     preempted_seconds) FROM STDIN (FORMAT binary)";

fn job_update(rows: &mut CopyRows, update: &JobUpdate) {
    let JobPatch { priority, transition, latest_run_id, cancellation } = &update.if_active;
    let cancellation = cancellation.as_ref();
    rows.push(&[
        &"job update",
        &update.job_id,
        &transition.map(|(state, _)| i16::from(state.ordinal())),
        &transition.map(|(_, time)| time),
        &transition.map(|(_, time)| time.floor_seconds()),
        priority,
        latest_run_id,
        &cancellation.map(|cancellation| cancellation.time),
        &cancellation.and_then(|cancellation| cancellation.reason.as_deref()),
        &cancellation.and_then(|cancellation| cancellation.user.as_deref()),
        &update.preempted,
        &update.preempted.map(Timestamp::floor_seconds),
    ]);
}

pub(super) const COPY_RUN_UPDATES: &str = "COPY pg_temp.staged (part, run_id, job_run_state, node, pending, started, \
     finished, exit_code, error, debug) FROM STDIN (FORMAT binary)";

fn run_update(rows: &mut CopyRows, update: &RunUpdate) {
    rows.push(&[
        &"run update",
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
            self.0.put_i32(NULL_LENGTH);
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
const NULL_LENGTH: i32 = -1;

/// A value of a column in PostgreSQL's binary form.
trait Field {
    /// Appends the value; false if it is null, and then nothing was appended.
    fn put(&self, out: &mut BytesMut) -> bool;
}

impl Field for &str {
    fn put(&self, out: &mut BytesMut) -> bool {
        out.put_slice(self.as_bytes());
        true
    }
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
        // Texts always have a JSON form and the buffer always has room, so this cannot fail.
        let _ = serde_json::to_writer(out.writer(), self);
        true
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut BytesMut) -> bool {
        self.as_ref().is_some_and(|value| value.put(out))
    }
}
