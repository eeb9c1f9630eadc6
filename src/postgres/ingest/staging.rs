//! The temporary table of a batch.

use std::collections::BTreeMap;

use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{Json, ToSql, Type};

use crate::ingest::{JobInsert, JobPatch, JobUpdate, RecordInsert, RunInsert, RunUpdate};
use crate::model::{JobState, RunState};
use crate::postgres::compression::{Compressed, Compression};
use crate::postgres::connection::Client;
use crate::postgres::error::Attempt;
use crate::postgres::row::PgTimestamp;
use crate::time::Timestamp;

/// The temporary table with all rows of a batch. A dedicated session creates it with its first batch, and each commit
/// empties it; in a shared session, each commit drops it. It is one table for all targets, because each further table
/// would have to be emptied at every commit, which costs a small batch more than the filter on `target`. Statements
/// qualify its name, because the user's schema may contain a table of that name; the prefix distinguishes it from a
/// temporary table that another client of a pooler has left in the session.
const TABLE: &str = r#"
CREATE TEMPORARY TABLE broadside_staged (
    target text COLLATE {collation} NOT NULL,
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

/// The statement that creates the table. Strings have the collation of the stored ids, because otherwise no index on
/// ids could be used.
pub(super) fn create(collation: &str, keep: bool) -> String {
    TABLE.replace("{collation}", collation).replace("{on_commit}", if keep { "DELETE ROWS" } else { "DROP" })
}

/// The value of a column.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Text(Option<&'a str>),
    Compressed(Option<Compressed<'a>>),
    Time(Option<PgTimestamp>),
    /// The ordinal of a state.
    State(Option<i16>),
    ExitCode(Option<i32>),
    Integer(Option<i64>),
    Annotations(Json<&'a BTreeMap<String, String>>),
}

impl Value<'_> {
    /// The type of the column, and the value in the form of the driver.
    fn typed(&self) -> (Type, &(dyn ToSql + Sync)) {
        match self {
            Self::Text(value) => (Type::TEXT, value),
            Self::Compressed(value) => (Type::BYTEA, value),
            Self::Time(value) => (Type::TIMESTAMP, value),
            Self::State(value) => (Type::INT2, value),
            Self::ExitCode(value) => (Type::INT4, value),
            Self::Integer(value) => (Type::INT8, value),
            Self::Annotations(value) => (Type::JSONB, value),
        }
    }
}

fn text(value: &str) -> Value<'_> {
    Value::Text(Some(value))
}

fn optional_text(value: &Option<String>) -> Value<'_> {
    Value::Text(value.as_deref())
}

fn time(value: impl Into<Option<Timestamp>>) -> Value<'static> {
    Value::Time(value.into().map(PgTimestamp))
}

/// A time in whole seconds.
fn seconds(value: impl Into<Option<Timestamp>>) -> Value<'static> {
    Value::Integer(value.into().map(Timestamp::floor_seconds))
}

fn integer(value: i64) -> Value<'static> {
    Value::Integer(Some(value))
}

fn state(ordinal: impl Into<Option<u8>>) -> Value<'static> {
    Value::State(ordinal.into().map(i16::from))
}

fn compressed(value: Option<&[u8]>, compression: Compression) -> Value<'_> {
    Value::Compressed(value.map(|value| Compressed(value, compression)))
}

/// The columns that a row sets, with their values.
type Columns<'a> = Vec<(&'static str, Value<'a>)>;

/// A row that can be staged. All rows of a type set the same columns.
pub(super) trait Staged: Sync {
    /// The id by which rows are sorted, so that all batches lock rows in the same order.
    fn id(&self) -> &str;

    fn columns(&self, compression: Compression) -> Columns<'_>;
}

/// A spec or a job error to insert.
pub(super) struct Record<'a> {
    pub target: &'static str,
    /// The column of the value.
    pub column: &'static str,
    pub insert: &'a RecordInsert,
}

impl Staged for Record<'_> {
    fn id(&self) -> &str {
        &self.insert.job_id
    }

    fn columns(&self, compression: Compression) -> Columns<'_> {
        let value = compressed(Some(&self.insert.value), compression);
        vec![("target", text(self.target)), ("job_id", text(&self.insert.job_id)), (self.column, value)]
    }
}

impl Staged for RunInsert {
    fn id(&self) -> &str {
        &self.run_id
    }

    fn columns(&self, _: Compression) -> Columns<'_> {
        vec![
            ("target", text("run")),
            ("run_id", text(&self.run_id)),
            ("job_id", text(&self.job_id)),
            ("cluster", text(&self.cluster)),
            ("node", optional_text(&self.node)),
            ("pool", optional_text(&self.pool)),
            ("leased", time(self.leased)),
            ("job_run_state", state(RunState::Leased.ordinal())),
        ]
    }
}

impl Staged for JobInsert {
    fn id(&self) -> &str {
        &self.job_id
    }

    fn columns(&self, _: Compression) -> Columns<'_> {
        vec![
            ("target", text("job")),
            ("job_id", text(&self.job_id)),
            ("queue", text(&self.queue)),
            ("owner", text(&self.owner)),
            ("jobset", text(&self.job_set)),
            ("cpu", integer(self.cpu)),
            ("memory", integer(self.memory)),
            ("ephemeral_storage", integer(self.ephemeral_storage)),
            ("gpu", integer(self.gpu)),
            ("priority", integer(self.priority)),
            ("submitted", time(self.submitted)),
            ("state", state(JobState::Queued.ordinal())),
            ("last_transition_time", time(self.submitted)),
            ("last_transition_time_seconds", seconds(self.submitted)),
            ("priority_class", optional_text(&self.priority_class)),
            // Lookout cannot read a group without a namespace.
            ("namespace", text(self.namespace.as_deref().unwrap_or_default())),
            ("annotations", Value::Annotations(Json(&self.annotations))),
        ]
    }
}

impl Staged for JobUpdate {
    fn id(&self) -> &str {
        &self.job_id
    }

    fn columns(&self, _: Compression) -> Columns<'_> {
        let JobPatch { priority, transition, latest_run_id, cancellation } = &self.if_active;
        let cancellation = cancellation.as_ref();
        vec![
            ("target", text("job update")),
            ("job_id", text(&self.job_id)),
            ("state", state(transition.map(|(state, _)| state.ordinal()))),
            ("last_transition_time", time(transition.map(|(_, time)| time))),
            ("last_transition_time_seconds", seconds(transition.map(|(_, time)| time))),
            ("priority", Value::Integer(*priority)),
            ("latest_run_id", optional_text(latest_run_id)),
            ("cancelled", time(cancellation.map(|cancellation| cancellation.time))),
            ("cancel_reason", Value::Text(cancellation.and_then(|cancellation| cancellation.reason.as_deref()))),
            ("cancel_user", Value::Text(cancellation.and_then(|cancellation| cancellation.user.as_deref()))),
            ("preempted", time(self.preempted)),
            ("preempted_seconds", seconds(self.preempted)),
        ]
    }
}

impl Staged for RunUpdate {
    fn id(&self) -> &str {
        &self.run_id
    }

    fn columns(&self, compression: Compression) -> Columns<'_> {
        vec![
            ("target", text("run update")),
            ("run_id", text(&self.run_id)),
            ("job_run_state", state(self.state.ordinal())),
            ("node", optional_text(&self.node)),
            ("pending", time(self.pending)),
            ("started", time(self.started)),
            ("finished", time(self.finished)),
            ("exit_code", Value::ExitCode(self.exit_code)),
            ("error", compressed(self.error.as_deref(), compression)),
            ("debug", compressed(self.debug.as_deref(), compression)),
        ]
    }
}

/// Copies rows into the temporary table.
pub(super) async fn copy<T: Staged>(client: &Client, rows: &[T], compression: Compression) -> Attempt<()> {
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_unstable_by_key(|row| row.id());
    let Some(first) = rows.first() else { return Ok(()) };
    let (names, types): (Vec<_>, Vec<_>) =
        first.columns(compression).iter().map(|(name, value)| (*name, value.typed().0)).unzip();
    let copy = format!("COPY pg_temp.broadside_staged ({}) FROM STDIN (FORMAT binary)", names.join(", "));
    let copy = client.prepare(&copy).await?;
    let mut writer = Box::pin(BinaryCopyInWriter::new(client.copy_in(&copy).await?, &types));
    for row in rows {
        let columns = row.columns(compression);
        let values: Vec<_> = columns.iter().map(|(_, value)| value.typed().1).collect();
        writer.as_mut().write(&values).await?;
    }
    writer.as_mut().finish().await?;
    Ok(())
}
