//! SQLite in memory.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql, Transaction, params, params_from_iter};

use crate::answer::{SqlEngine, answer};
use crate::cell::{Cell, failed};
use crate::schema::{ANNOTATION, JOB, JOB_ERROR, JOB_RUN, JOB_SPEC, create};
use crate::sql::{Dialect, Statement};
use broadside::Result;
use broadside::StoreInfo;
use broadside::Timestamp;
use broadside::compare::Target;
use broadside::ingest::{IngestionBatch, JobInsert, JobPatch, JobUpdate, RunInsert, RunUpdate};
use broadside::model::{JobState, RunState, StateSet};
use broadside::{ReadCall, ReadResult};

/// Each kind of page has an index in its order if possible. Tables that are read only by their key are clustered by it
/// (WITHOUT ROWID), except those with long rows.
const INDEXES: &str = "
    CREATE UNIQUE INDEX job_by_id ON job (job_id);
    CREATE INDEX job_by_queue_id ON job (queue, job_id);
    CREATE INDEX job_by_queue_state ON job (queue, state, job_id);
    CREATE INDEX job_by_queue_priority ON job (queue, priority, job_id);
    CREATE INDEX job_by_queue_job_set ON job (queue, job_set, state);
    CREATE INDEX job_by_job_set ON job (job_set);
    CREATE INDEX job_by_state ON job (state, submitted);
    CREATE INDEX job_by_submitted ON job (submitted);
    CREATE INDEX job_by_last_transition_time ON job (last_transition_time_seconds);
    CREATE INDEX job_active ON job (queue, job_set) WHERE state IN ({active});
    CREATE UNIQUE INDEX run_by_id ON job_run (run_id);
    CREATE INDEX run_by_job ON job_run (job_id);
    CREATE INDEX run_by_node ON job_run (cluster, node, job_id);";
/// The capacity of the statement cache; greater than the number of distinct statements.
const CACHED_STATEMENTS: usize = 512;

/// An in-memory SQLite database.
#[derive(Debug)]
pub struct Sqlite {
    connection: Mutex<Connection>,
    now: Timestamp,
}

impl Sqlite {
    /// Creates an empty database whose clock is fixed at `now`.
    ///
    /// # Errors
    ///
    /// Those of SQLite.
    pub fn new(now: Timestamp) -> Result<Self> {
        let connection = Connection::open_in_memory().map_err(|error| failed(&error))?;
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        let tables = [
            create(JOB, ""),
            create(JOB_RUN, ""),
            create(ANNOTATION, ", PRIMARY KEY (key, value, job_id)") + " WITHOUT ROWID",
            create(JOB_SPEC, ", PRIMARY KEY (job_id)") + " WITHOUT ROWID",
            create(JOB_ERROR, ", PRIMARY KEY (job_id)") + " WITHOUT ROWID",
        ];
        let statements = format!("PRAGMA journal_mode = MEMORY; {};{INDEXES}", tables.join(";"))
            .replace("{active}", &StateSet::ACTIVE.ordinals());
        connection.execute_batch(&statements).map_err(|error| failed(&error))?;
        Ok(Self { connection: Mutex::new(connection), now })
    }
}

#[async_trait]
impl Target for Sqlite {
    fn name(&self) -> &str {
        "sqlite"
    }

    async fn ingest(&self, batch: &IngestionBatch) -> Result<Duration> {
        let mut connection = self.connection.lock();
        let started = Instant::now();
        apply(&mut connection, batch).map_err(|error| failed(&error))?;
        Ok(started.elapsed())
    }

    async fn finish_ingestion(&self) -> Result<()> {
        self.connection.lock().execute_batch("ANALYZE").map_err(|error| failed(&error))
    }

    async fn answer(&self, query: &ReadCall) -> Result<(ReadResult, Duration)> {
        answer(self, query, self.now)
    }

    async fn info(&self) -> Result<StoreInfo> {
        let pages = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
        let bytes: i64 =
            self.connection.lock().query_row(pages, [], |row| row.get(0)).map_err(|error| failed(&error))?;
        let version = format!("SQLite {}, in memory", rusqlite::version());
        let mut info = StoreInfo::default();
        (info.version, info.bytes) = (Some(version), u64::try_from(bytes).ok());
        Ok(info)
    }
}

impl SqlEngine for Sqlite {
    const DIALECT: Dialect = Dialect::Sqlite;

    fn rows(&self, statement: &Statement) -> Result<(Vec<Vec<Cell>>, Duration)> {
        let connection = self.connection.lock();
        let started = Instant::now();
        let rows = fetch(&connection, statement).map_err(|error| failed(&error))?;
        Ok((rows, started.elapsed()))
    }
}

fn fetch(connection: &Connection, statement: &Statement) -> rusqlite::Result<Vec<Vec<Cell>>> {
    let mut prepared = connection.prepare_cached(&statement.sql)?;
    let columns = prepared.column_count();
    let mut rows = prepared.query(params_from_iter(&statement.parameters))?;
    let mut fetched = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = (0..columns).map(|at| Ok(cell(row.get_ref(at)?)));
        fetched.push(cells.collect::<rusqlite::Result<_>>()?);
    }
    Ok(fetched)
}

/// No column contains floats.
fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null | ValueRef::Real(_) => Cell::Null,
        ValueRef::Integer(integer) => Cell::Integer(integer),
        ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Integer(integer) => ToSqlOutput::Owned(Value::Integer(*integer)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

/// Applies a batch in a transaction: the inserts, then the updates.
fn apply(connection: &mut Connection, batch: &IngestionBatch) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for (sql, records) in [
        ("INSERT OR IGNORE INTO job_spec VALUES (?, ?)", batch.specs()),
        ("INSERT OR IGNORE INTO job_error VALUES (?, ?)", batch.errors()),
    ] {
        let mut insert = transaction.prepare_cached(sql)?;
        for record in records {
            insert.execute(params![record.job_id, record.value.as_ref()])?;
        }
    }
    insert_runs(&transaction, batch.runs())?;
    insert_jobs(&transaction, batch.jobs())?;
    for update in batch.run_updates() {
        update_run(&transaction, update)?;
    }
    for update in batch.job_updates() {
        update_job(&transaction, update)?;
    }
    transaction.commit()
}

fn insert_runs(transaction: &Transaction<'_>, runs: &[RunInsert]) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT OR IGNORE INTO job_run (run_id, job_id, cluster, node, pool, leased, state) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?;
    for run in runs {
        let state = RunState::Leased.ordinal();
        insert.execute(params![
            run.run_id,
            run.job_id,
            run.cluster,
            run.node,
            run.pool,
            run.leased.as_micros(),
            state
        ])?;
    }
    Ok(())
}

fn insert_jobs(transaction: &Transaction<'_>, jobs: &[JobInsert]) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT OR IGNORE INTO job (job_id, queue, owner, namespace, job_set, cpu, memory, ephemeral_storage, gpu, priority, \
         priority_class, submitted, state, last_transition_time, last_transition_time_seconds, annotations) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let mut annotate = transaction.prepare_cached("INSERT INTO annotation VALUES (?, ?, ?)")?;
    for job in jobs {
        if insert_job(&mut insert, job)? == 1 {
            for (key, value) in &job.annotations {
                annotate.execute(params![key, value, job.job_id])?;
            }
        }
    }
    Ok(())
}

fn insert_job(insert: &mut CachedStatement<'_>, job: &JobInsert) -> rusqlite::Result<usize> {
    let annotations = serde_json::to_string(&job.annotations)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let submitted = job.submitted.as_micros();
    insert.execute(params![
        job.job_id,
        job.queue,
        job.owner,
        job.namespace,
        job.job_set,
        job.cpu,
        job.memory,
        job.ephemeral_storage,
        job.gpu,
        job.priority,
        job.priority_class,
        submitted,
        JobState::Queued.ordinal(),
        submitted,
        job.submitted.floor_seconds(),
        annotations,
    ])
}

/// The assignments of an update. They contain only the changed columns, because SQLite updates every index of an
/// assigned column.
#[derive(Default)]
struct Assignments {
    columns: Vec<&'static str>,
    values: Vec<Cell>,
}

impl Assignments {
    fn set(&mut self, column: &'static str, value: impl Into<Cell>) {
        self.columns.push(column);
        self.values.push(value.into());
    }

    fn set_if_some(&mut self, column: &'static str, value: Option<impl Into<Cell>>) {
        if let Some(value) = value {
            self.set(column, value);
        }
    }

    /// Updates the row with an id if a condition holds. Returns whether a row was updated.
    fn apply(
        mut self,
        transaction: &Transaction<'_>,
        table: &str,
        condition: &str,
        id: &str,
    ) -> rusqlite::Result<bool> {
        if self.columns.is_empty() {
            return Ok(false);
        }
        let columns: Vec<_> = self.columns.iter().map(|column| format!("{column} = ?")).collect();
        let sql = format!("UPDATE {table} SET {} WHERE {condition}", columns.join(", "));
        self.values.push(id.into());
        Ok(transaction.prepare_cached(&sql)?.execute(params_from_iter(self.values))? > 0)
    }
}

fn update_run(transaction: &Transaction<'_>, update: &RunUpdate) -> rusqlite::Result<()> {
    let mut set = Assignments::default();
    set.set("state", i64::from(update.state.ordinal()));
    set.set_if_some("node", update.node.as_ref());
    set.set_if_some("pending", update.pending);
    set.set_if_some("started", update.started);
    set.set_if_some("finished", update.finished);
    set.set_if_some("exit_code", update.exit_code.map(i64::from));
    set.set_if_some("error", update.error.as_ref().map(|bytes| Cell::Bytes(bytes.to_vec())));
    set.set_if_some("debug", update.debug.as_ref().map(|bytes| Cell::Bytes(bytes.to_vec())));
    set.apply(transaction, "job_run", "run_id = ?", &update.run_id)?;
    Ok(())
}

fn update_job(transaction: &Transaction<'_>, update: &JobUpdate) -> rusqlite::Result<()> {
    let with_state = |states: StateSet| format!("job_id = ? AND state IN ({})", states.ordinals());
    let active = with_state(StateSet::ACTIVE);
    if assignments(&update.if_active).apply(transaction, "job", &active, &update.job_id)? {
        return Ok(());
    }
    let mut set = Assignments::default();
    if let Some(time) = update.preempted {
        set_transition(&mut set, JobState::Preempted, time);
    }
    set.apply(transaction, "job", &with_state(StateSet::PREEMPTIBLE_ENDS), &update.job_id)?;
    Ok(())
}

fn assignments(patch: &JobPatch) -> Assignments {
    let mut set = Assignments::default();
    set.set_if_some("priority", patch.priority);
    if let Some((state, time)) = patch.transition {
        set_transition(&mut set, state, time);
    }
    set.set_if_some("latest_run_id", patch.latest_run_id.as_ref());
    if let Some(cancellation) = &patch.cancellation {
        set.set("cancelled", cancellation.time);
        set.set("cancel_reason", cancellation.reason.as_ref());
        set.set("cancel_user", cancellation.user.as_ref());
    }
    set
}

fn set_transition(set: &mut Assignments, state: JobState, time: Timestamp) {
    set.set("state", i64::from(state.ordinal()));
    set.set("last_transition_time", time);
    set.set("last_transition_time_seconds", time.floor_seconds());
}
