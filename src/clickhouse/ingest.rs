//! A batch as rows: what it comes to, given what is stored.
//!
//! The stored rows of all ids that the batch names are read by key, the batch plan is applied to
//! them, and what changed is inserted as whole rows, one insert a table. No `ALTER … UPDATE`
//! takes part: a mutation rewrites parts, and readers see it late.
//!
//! Writing a row twice is harmless. Of two rows of the same version the later one counts, and
//! they are the same; a row of an older version never counts.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use super::connection::Connection;
use super::row::{IdRow, JobRow, RecordRow, StoredRun};
use super::schema::{JOB_COLUMNS, STORED_RUN_COLUMNS};
use super::statement::{Statement, Values};
use crate::error::{Operation, Result};
use crate::ingest::{IngestionBatch, JobPatch, JobUpdate, RecordInsert, RunUpdate};
use crate::model::JobState;

const OPERATION: Operation = Operation::ExecuteIngestionQueryBatch;

/// What is stored of the ids that a batch names.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub specs: HashSet<String>,
    pub errors: HashSet<String>,
    pub runs: HashMap<String, StoredRun>,
    pub jobs: HashMap<String, JobRow>,
}

/// The rows that a batch adds, each one whole.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub specs: Vec<RecordRow>,
    pub errors: Vec<RecordRow>,
    pub runs: Vec<StoredRun>,
    pub jobs: Vec<JobRow>,
}

impl Stored {
    /// Reads what the batch needs to know, one read a table.
    pub(super) async fn read(connection: &Connection, batch: &IngestionBatch) -> Result<Self> {
        let (specs, errors, runs, jobs) = futures::try_join!(
            records(connection, "job_spec", batch.specs()),
            records(connection, "job_error", batch.errors()),
            runs(connection, batch),
            jobs(connection, batch),
        )?;
        Ok(Self { specs, errors, runs, jobs })
    }
}

async fn records(connection: &Connection, table: &str, inserts: &[RecordInsert]) -> Result<HashSet<String>> {
    if inserts.is_empty() {
        return Ok(HashSet::new());
    }
    let mut values = Values::default();
    let ids = values.texts(inserts.iter().map(|insert| &insert.job_id));
    let statement = Statement { sql: format!("SELECT job_id AS id FROM {table} WHERE job_id IN {ids}"), values };
    let rows: Vec<IdRow> = connection.fetch(OPERATION, &statement).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

async fn runs(connection: &Connection, batch: &IngestionBatch) -> Result<HashMap<String, StoredRun>> {
    let inserted = batch.runs().iter().map(|run| run.run_id.as_str());
    let ids = distinct(inserted, batch.run_updates().iter().map(|update| update.run_id.as_str()));
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<StoredRun> =
        connection.fetch(OPERATION, &newest("job_run", STORED_RUN_COLUMNS, "run_id", ids)).await?;
    Ok(rows.into_iter().map(|row| (row.run_id.clone(), row)).collect())
}

async fn jobs(connection: &Connection, batch: &IngestionBatch) -> Result<HashMap<String, JobRow>> {
    let inserted = batch.jobs().iter().map(|job| job.job_id.as_str());
    let ids = distinct(inserted, batch.job_updates().iter().map(|update| update.job_id.as_str()));
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<JobRow> = connection.fetch(OPERATION, &newest("job", JOB_COLUMNS, "job_id", ids)).await?;
    Ok(rows.into_iter().map(|row| (row.job_id.clone(), row)).collect())
}

fn distinct<T: Eq + Hash>(first: impl Iterator<Item = T>, second: impl Iterator<Item = T>) -> HashSet<T> {
    first.chain(second).collect()
}

/// The newest version of each row of a key. For a list of keys this reads less than `FINAL`,
/// which would merge whole granules.
pub(super) fn newest<'a>(table: &str, columns: &str, key: &str, ids: impl IntoIterator<Item = &'a str>) -> Statement {
    let mut values = Values::default();
    let ids = values.texts(ids);
    let sql = format!("SELECT {columns} FROM {table} WHERE {key} IN {ids} ORDER BY version DESC LIMIT 1 BY {key}");
    Statement { sql, values }
}

impl Rows {
    /// Applies a batch to what is stored of its ids.
    pub(super) fn new(batch: &IngestionBatch, stored: Stored) -> Self {
        Self {
            specs: unknown_records(batch.specs(), &stored.specs),
            errors: unknown_records(batch.errors(), &stored.errors),
            runs: changed_runs(batch, stored.runs),
            jobs: changed_jobs(batch, stored.jobs),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.specs.is_empty() && self.errors.is_empty() && self.runs.is_empty() && self.jobs.is_empty()
    }

    /// Inserts the rows. Jobs come last: a job that is there has all that the batch says of it.
    pub(super) async fn insert(&self, connection: &Connection) -> Result<()> {
        let mut written = false;
        let Self { specs, errors, runs, jobs } = self;
        insert(connection, "job_spec", specs, &mut written).await?;
        insert(connection, "job_error", errors, &mut written).await?;
        insert(connection, "job_run", runs, &mut written).await?;
        insert(connection, "job", jobs, &mut written).await
    }
}

/// Inserts the rows of a table, if there are any. After an earlier insert of the batch the
/// outcome of an error is never that nothing was applied.
async fn insert<T>(connection: &Connection, table: &str, rows: &[T], written: &mut bool) -> Result<()>
where
    T: clickhouse::RowOwned + clickhouse::RowWrite + for<'a> clickhouse::Row<Value<'a> = T>,
{
    if rows.is_empty() {
        return Ok(());
    }
    let inserted = connection.insert(OPERATION, table, rows).await;
    inserted.map_err(|error| if *written { error.with_unknown_outcome() } else { error })?;
    *written = true;
    Ok(())
}

fn unknown_records(inserts: &[RecordInsert], stored: &HashSet<String>) -> Vec<RecordRow> {
    inserts.iter().filter(|insert| !stored.contains(&insert.job_id)).map(RecordRow::from).collect()
}

/// A row, and whether the batch made or changed it.
struct Tracked<T> {
    row: T,
    changed: bool,
}

impl<T> Tracked<T> {
    fn stored(row: T) -> Self {
        Self { row, changed: false }
    }

    fn inserted(row: T) -> Self {
        Self { row, changed: true }
    }
}

fn changed_rows<T>(rows: HashMap<String, Tracked<T>>) -> Vec<T> {
    rows.into_values().filter(|tracked| tracked.changed).map(|tracked| tracked.row).collect()
}

fn changed_jobs(batch: &IngestionBatch, stored: HashMap<String, JobRow>) -> Vec<JobRow> {
    let mut jobs: HashMap<_, _> = stored.into_iter().map(|(id, row)| (id, Tracked::stored(row))).collect();
    for insert in batch.jobs() {
        jobs.entry(insert.job_id.clone()).or_insert_with(|| Tracked::inserted(insert.into()));
    }
    for update in batch.job_updates() {
        let Some(job) = jobs.get_mut(&update.job_id) else { continue };
        if !apply_to_job(&mut job.row, update) {
            continue;
        }
        if !job.changed {
            job.row.version += 1;
            job.changed = true;
        }
    }
    changed_rows(jobs)
}

/// Takes of the update's cases the one that the job's state calls for; whether there is one.
fn apply_to_job(job: &mut JobRow, update: &JobUpdate) -> bool {
    match update.preempted {
        _ if job.state.is_active() => apply_patch(job, &update.if_active),
        Some(time) if job.state.is_preemptible_end() => {
            job.state = JobState::Preempted;
            job.last_transition_time = time;
        }
        _ => return false,
    }
    true
}

fn apply_patch(job: &mut JobRow, patch: &JobPatch) {
    if let Some(priority) = patch.priority {
        job.priority = priority;
    }
    if let Some((state, time)) = patch.transition {
        job.state = state;
        job.last_transition_time = time;
    }
    if let Some(run_id) = &patch.latest_run_id {
        job.latest_run_id = Some(run_id.clone());
    }
    if let Some(cancellation) = &patch.cancellation {
        job.cancelled = Some(cancellation.time);
        job.cancel_reason.clone_from(&cancellation.reason);
        job.cancel_user.clone_from(&cancellation.user);
    }
}

fn changed_runs(batch: &IngestionBatch, stored: HashMap<String, StoredRun>) -> Vec<StoredRun> {
    let mut runs: HashMap<_, _> = stored.into_iter().map(|(id, row)| (id, Tracked::stored(row))).collect();
    for insert in batch.runs() {
        runs.entry(insert.run_id.clone()).or_insert_with(|| Tracked::inserted(insert.into()));
    }
    for update in batch.run_updates() {
        let Some(run) = runs.get_mut(&update.run_id) else { continue };
        apply_to_run(&mut run.row, update);
        if !run.changed {
            run.row.version += 1;
            run.changed = true;
        }
    }
    changed_rows(runs)
}

fn apply_to_run(run: &mut StoredRun, update: &RunUpdate) {
    fn set<T: Clone>(column: &mut Option<T>, value: &Option<T>) {
        if value.is_some() {
            column.clone_from(value);
        }
    }
    run.state = update.state;
    set(&mut run.node, &update.node);
    set(&mut run.pending, &update.pending);
    set(&mut run.started, &update.started);
    set(&mut run.finished, &update.finished);
    set(&mut run.exit_code, &update.exit_code);
    set(&mut run.error, &update.error);
    set(&mut run.debug, &update.debug);
}
