//! The stored rows of the ids of a batch.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use smol_str::SmolStr;

use super::OPERATION;
use crate::clickhouse::connection::Connection;
use crate::clickhouse::row::{JobRow, StoredRun};
use crate::clickhouse::statement::{MAX_IDS, Statement, Values};
use crate::clickhouse::tables::{JOB_COLUMNS, STORED_RUN_COLUMNS};
use crate::error::Result;
use crate::ingest::{IngestionBatch, RecordInsert};

/// The ids of jobs with a spec and of jobs with an error, and the rows of runs and jobs by id.
#[derive(Debug, Default)]
pub(in crate::clickhouse) struct Stored {
    pub(super) specs: HashSet<SmolStr>,
    pub(super) errors: HashSet<SmolStr>,
    pub(super) runs: HashMap<SmolStr, StoredRun>,
    pub(super) jobs: HashMap<SmolStr, JobRow>,
}

impl Stored {
    /// Reads the rows for a batch.
    pub(in crate::clickhouse) async fn read(connection: &Connection, batch: &IngestionBatch) -> Result<Self> {
        let (specs, errors, runs, jobs) = futures::try_join!(
            records(connection, "job_spec", batch.specs()),
            records(connection, "job_error", batch.errors()),
            runs(connection, batch),
            jobs(connection, batch),
        )?;
        Ok(Self { specs, errors, runs, jobs })
    }

    /// The highest version of the rows that the batch may replace.
    pub(in crate::clickhouse) fn newest_version(&self) -> u64 {
        let runs = self.runs.values().map(|run| run.version);
        runs.chain(self.jobs.values().map(|job| job.version)).max().unwrap_or_default()
    }
}

async fn records(connection: &Connection, table: &str, inserts: &[RecordInsert]) -> Result<HashSet<SmolStr>> {
    let mut ids = HashSet::new();
    for inserts in inserts.chunks(MAX_IDS) {
        let found: Vec<String> = connection.fetch(OPERATION, &known(table, inserts)).await?;
        ids.extend(found.into_iter().map(SmolStr::from));
    }
    Ok(ids)
}

async fn runs(connection: &Connection, batch: &IngestionBatch) -> Result<HashMap<SmolStr, StoredRun>> {
    let inserted = batch.runs().iter().map(|run| run.run_id.as_str());
    let ids = distinct(inserted, batch.run_updates().iter().map(|update| update.run_id.as_str()));
    let mut runs = HashMap::new();
    for ids in ids.chunks(MAX_IDS) {
        let statement = newest("job_run", STORED_RUN_COLUMNS, "run_id", ids);
        let rows: Vec<StoredRun> = connection.fetch(OPERATION, &statement).await?;
        runs.extend(rows.into_iter().map(|row| (row.run_id.clone(), row)));
    }
    Ok(runs)
}

async fn jobs(connection: &Connection, batch: &IngestionBatch) -> Result<HashMap<SmolStr, JobRow>> {
    let inserted = batch.jobs().iter().map(|job| job.job_id.as_str());
    let ids = distinct(inserted, batch.job_updates().iter().map(|update| update.job_id.as_str()));
    let mut jobs = HashMap::new();
    for ids in ids.chunks(MAX_IDS) {
        let rows: Vec<JobRow> = connection.fetch(OPERATION, &newest("job", JOB_COLUMNS, "job_id", ids)).await?;
        jobs.extend(rows.into_iter().map(|row| (row.job_id.clone(), row)));
    }
    Ok(jobs)
}

/// The distinct ids of both lists.
fn distinct<T: Copy + Eq + Hash>(first: impl Iterator<Item = T>, second: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    first.chain(second).filter(|&id| seen.insert(id)).collect()
}

/// The statement that selects the ids of jobs with a record.
pub(in crate::clickhouse) fn known(table: &str, inserts: &[RecordInsert]) -> Statement {
    let mut values = Values::default();
    let ids = values.texts(inserts.iter().map(|insert| &insert.job_id));
    Statement { sql: format!("SELECT job_id FROM {table} WHERE job_id IN {ids}"), values }
}

/// The statement that reads the newest version of rows by key. It reads less than `FINAL`, which merges whole granules.
pub(in crate::clickhouse) fn newest(table: &str, columns: &str, key: &str, ids: &[&str]) -> Statement {
    let mut values = Values::default();
    let ids = values.texts(ids);
    let sql = format!("SELECT {columns} FROM {table} WHERE {key} IN {ids} ORDER BY version DESC LIMIT 1 BY {key}");
    Statement { sql, values }
}
