//! The temporary table of a batch.

use std::pin::Pin;

use tokio_postgres::Error as DriverError;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{Json, Type};

use crate::ingest::{JobInsert, JobPatch, JobUpdate, RecordInsert, RunInsert, RunUpdate};
use crate::model::{JobState, RunState};
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

/// A column of the table and its type.
type Column = (&'static str, Type);

const TARGET: Column = ("target", Type::TEXT);
const JOB_ID: Column = ("job_id", Type::TEXT);
const RUN_ID: Column = ("run_id", Type::TEXT);
const CLUSTER: Column = ("cluster", Type::TEXT);
const NODE: Column = ("node", Type::TEXT);
const POOL: Column = ("pool", Type::TEXT);
const RUN_STATE: Column = ("job_run_state", Type::INT2);
const STATE: Column = ("state", Type::INT2);
const PRIORITY: Column = ("priority", Type::INT8);
const TRANSITION_TIME: Column = ("last_transition_time", Type::TIMESTAMP);
const TRANSITION_SECONDS: Column = ("last_transition_time_seconds", Type::INT8);

/// A COPY in progress.
type Writer<'a> = Pin<&'a mut BinaryCopyInWriter>;

/// A kind of row that can be staged: the columns that it sets, and their values in the same order.
pub(super) trait Staged: Sync {
    const COLUMNS: &'static [Column];

    /// The id by which rows are sorted, so that all batches lock rows in the same order.
    fn id(&self) -> &str;

    /// Writes the values.
    fn write(&self, writer: Writer<'_>) -> impl Future<Output = Result<(), DriverError>> + Send;
}

/// A spec to insert.
pub(super) struct Spec<'a>(pub &'a RecordInsert);

impl Staged for Spec<'_> {
    const COLUMNS: &'static [Column] = &[TARGET, JOB_ID, ("job_spec", Type::BYTEA)];

    fn id(&self) -> &str {
        &self.0.job_id
    }

    async fn write(&self, writer: Writer<'_>) -> Result<(), DriverError> {
        writer.write(&[&"spec", &self.0.job_id, &self.0.value.as_ref()]).await
    }
}

/// A job error to insert.
pub(super) struct JobError<'a>(pub &'a RecordInsert);

impl Staged for JobError<'_> {
    const COLUMNS: &'static [Column] = &[TARGET, JOB_ID, ("error", Type::BYTEA)];

    fn id(&self) -> &str {
        &self.0.job_id
    }

    async fn write(&self, writer: Writer<'_>) -> Result<(), DriverError> {
        writer.write(&[&"error", &self.0.job_id, &self.0.value.as_ref()]).await
    }
}

impl Staged for RunInsert {
    const COLUMNS: &'static [Column] =
        &[TARGET, RUN_ID, JOB_ID, CLUSTER, NODE, POOL, ("leased", Type::TIMESTAMP), RUN_STATE];

    fn id(&self) -> &str {
        &self.run_id
    }

    async fn write(&self, writer: Writer<'_>) -> Result<(), DriverError> {
        let state = i16::from(RunState::Leased.ordinal());
        let leased = PgTimestamp(self.leased);
        writer
            .write(&[&"run", &self.run_id, &self.job_id, &self.cluster, &self.node, &self.pool, &leased, &state])
            .await
    }
}

impl Staged for JobInsert {
    const COLUMNS: &'static [Column] = &[
        TARGET,
        JOB_ID,
        ("queue", Type::TEXT),
        ("owner", Type::TEXT),
        ("jobset", Type::TEXT),
        ("cpu", Type::INT8),
        ("memory", Type::INT8),
        ("ephemeral_storage", Type::INT8),
        ("gpu", Type::INT8),
        PRIORITY,
        ("submitted", Type::TIMESTAMP),
        STATE,
        TRANSITION_TIME,
        TRANSITION_SECONDS,
        ("priority_class", Type::TEXT),
        ("namespace", Type::TEXT),
        ("annotations", Type::JSONB),
    ];

    fn id(&self) -> &str {
        &self.job_id
    }

    async fn write(&self, writer: Writer<'_>) -> Result<(), DriverError> {
        let submitted = PgTimestamp(self.submitted);
        writer
            .write(&[
                &"job",
                &self.job_id,
                &self.queue,
                &self.owner,
                &self.job_set,
                &self.cpu,
                &self.memory,
                &self.ephemeral_storage,
                &self.gpu,
                &self.priority,
                &submitted,
                &i16::from(JobState::Queued.ordinal()),
                &submitted,
                &self.submitted.floor_seconds(),
                &self.priority_class,
                &self.namespace,
                &Json(&self.annotations),
            ])
            .await
    }
}

impl Staged for JobUpdate {
    const COLUMNS: &'static [Column] = &[
        TARGET,
        JOB_ID,
        STATE,
        TRANSITION_TIME,
        TRANSITION_SECONDS,
        PRIORITY,
        ("latest_run_id", Type::TEXT),
        ("cancelled", Type::TIMESTAMP),
        ("cancel_reason", Type::TEXT),
        ("cancel_user", Type::TEXT),
        ("preempted", Type::TIMESTAMP),
        ("preempted_seconds", Type::INT8),
    ];

    fn id(&self) -> &str {
        &self.job_id
    }

    async fn write(&self, writer: Writer<'_>) -> Result<(), DriverError> {
        let JobPatch { priority, transition, latest_run_id, cancellation } = &self.if_active;
        let cancellation = cancellation.as_ref();
        writer
            .write(&[
                &"job update",
                &self.job_id,
                &transition.map(|(state, _)| i16::from(state.ordinal())),
                &transition.map(|(_, time)| PgTimestamp(time)),
                &transition.map(|(_, time)| time.floor_seconds()),
                priority,
                latest_run_id,
                &cancellation.map(|cancellation| PgTimestamp(cancellation.time)),
                &cancellation.and_then(|cancellation| cancellation.reason.as_deref()),
                &cancellation.and_then(|cancellation| cancellation.user.as_deref()),
                &self.preempted.map(PgTimestamp),
                &self.preempted.map(Timestamp::floor_seconds),
            ])
            .await
    }
}

impl Staged for RunUpdate {
    const COLUMNS: &'static [Column] = &[
        TARGET,
        RUN_ID,
        RUN_STATE,
        NODE,
        ("pending", Type::TIMESTAMP),
        ("started", Type::TIMESTAMP),
        ("finished", Type::TIMESTAMP),
        ("exit_code", Type::INT4),
        ("error", Type::BYTEA),
        ("debug", Type::BYTEA),
    ];

    fn id(&self) -> &str {
        &self.run_id
    }

    async fn write(&self, writer: Writer<'_>) -> Result<(), DriverError> {
        writer
            .write(&[
                &"run update",
                &self.run_id,
                &i16::from(self.state.ordinal()),
                &self.node,
                &self.pending.map(PgTimestamp),
                &self.started.map(PgTimestamp),
                &self.finished.map(PgTimestamp),
                &self.exit_code,
                &self.error.as_deref(),
                &self.debug.as_deref(),
            ])
            .await
    }
}

/// Copies rows into the temporary table.
pub(super) async fn copy<T: Staged>(client: &Client, rows: &[T]) -> Attempt<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_unstable_by_key(|row| row.id());
    let columns: Vec<_> = T::COLUMNS.iter().map(|(name, _)| *name).collect();
    let types: Vec<_> = T::COLUMNS.iter().map(|(_, of_type)| of_type.clone()).collect();
    let copy = format!("COPY pg_temp.broadside_staged ({}) FROM STDIN (FORMAT binary)", columns.join(", "));
    let copy = client.prepare(&copy).await?;
    let mut writer = Box::pin(BinaryCopyInWriter::new(client.copy_in(&copy).await?, &types));
    for row in rows {
        row.write(writer.as_mut()).await?;
    }
    writer.as_mut().finish().await?;
    Ok(())
}
