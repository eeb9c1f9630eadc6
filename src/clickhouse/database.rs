//! ClickHouse behind the trait.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use smol_str::SmolStr;

use super::config::ClickHouseConfig;
use super::connection::Connection;
use super::historical::Chunk;
use super::ingest::{Changes, Stored, Writer};
use super::query::Reads;
use super::row::{BytesRow, GroupRow, InfoRow, JobRow, RunRow};
use super::schema;
use super::statement::{MOST_IDS, Statement};
use super::turns::Turns;
use crate::api;
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::historical::HistoricalJobs;
use crate::ingest::IngestionBatch;
use crate::model::{Job, JobGroup, Run};
use crate::query::{GroupQuery, JobQuery};
use crate::time::{SharedClock, Timestamp};
use crate::{Database, Progress, ProgressFn, StoreInfo};

/// The server's version, and the bytes of the database's tables with their indexes.
const STORE_INFO: &str = "
    SELECT concat('ClickHouse ', version()) AS version, sum(bytes_on_disk) AS bytes
    FROM system.parts WHERE database = currentDatabase() AND active";

/// A handle to a database on a ClickHouse server.
#[derive(Debug)]
pub struct ClickHouseDatabase {
    connection: Connection,
    config: ClickHouseConfig,
    reads: Reads,
    turns: Arc<Turns>,
    clock: SharedClock,
    closed: AtomicBool,
}

impl ClickHouseDatabase {
    pub(super) fn new(config: &ClickHouseConfig, connection: Connection, clock: SharedClock) -> Self {
        Self {
            connection,
            config: config.clone(),
            reads: Reads::of(config.layout),
            turns: Turns::of(&format!("{}{}", config.server, config.database)),
            clock,
            closed: AtomicBool::new(false),
        }
    }

    fn open(&self, operation: Operation) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed(operation).with_backend(BackendKind::ClickHouse));
        }
        Ok(())
    }
}

#[async_trait]
impl Database for ClickHouseDatabase {
    fn backend(&self) -> BackendKind {
        BackendKind::ClickHouse
    }

    async fn initialise_schema(&self) -> Result<()> {
        self.open(Operation::InitialiseSchema)?;
        schema::initialise(&self.connection, &self.config).await
    }

    async fn execute_ingestion_query_batch(&self, batch: &IngestionBatch) -> Result<()> {
        let operation = Operation::ExecuteIngestionQueryBatch;
        self.open(operation)?;
        if batch.is_empty() {
            return schema::check(&self.connection, operation).await;
        }
        let turn = self.turns.batch().await;
        let stored = Stored::read(&self.connection, batch).await?;
        let changes = Changes::new(batch, stored);
        if changes.is_empty() {
            return Ok(());
        }
        // From here on the batch goes its way even if the caller no longer waits for it.
        let (connection, layout) = (self.connection.clone(), self.config.layout);
        detached(operation, async move {
            let _tables = turn.write().await;
            Writer::new(&connection, layout).write(changes).await
        })
        .await
    }

    async fn get_jobs(&self, query: &JobQuery) -> Result<Vec<Job>> {
        let operation = Operation::GetJobs;
        self.open(operation)?;
        let _turn = self.turns.read().await;
        let rows: Vec<JobRow> = self.connection.fetch(operation, &self.reads.jobs(query)).await?;
        let mut runs: Vec<RunRow> = Vec::new();
        for rows in rows.chunks(MOST_IDS) {
            let statement = self.reads.runs(rows.iter().map(|row| row.job_id.as_str()));
            runs.extend(self.connection.fetch(operation, &statement).await?);
        }
        Ok(hydrate(rows, runs, self.clock.now()))
    }

    async fn get_job_groups(&self, query: &GroupQuery) -> Result<Vec<JobGroup>> {
        let operation = Operation::GetJobGroups;
        self.open(operation)?;
        let _turn = self.turns.read().await;
        let rows: Vec<GroupRow> = self.connection.fetch(operation, &self.reads.groups(query)).await?;
        Ok(rows.into_iter().map(|row| row.into_group(query.aggregates())).collect())
    }

    async fn get_job_spec(&self, job_id: &str) -> Result<api::Job> {
        let operation = Operation::GetJobSpec;
        let spec = self.record(operation, "job_spec", "spec", job_id).await?;
        api::Job::decode(spec).map_err(|error| {
            Error::new(ErrorKind::Backend, operation, format!("the stored spec of job {job_id:?} cannot be decoded"))
                .with_backend(BackendKind::ClickHouse)
                .with_source(error)
        })
    }

    async fn get_job_error(&self, job_id: &str) -> Result<String> {
        self.record(Operation::GetJobError, "job_error", "error", job_id).await.map(text)
    }

    async fn get_job_run_error(&self, run_id: &str) -> Result<String> {
        self.run_message(Operation::GetJobRunError, "error", "error", run_id).await
    }

    async fn get_job_run_debug_message(&self, run_id: &str) -> Result<String> {
        self.run_message(Operation::GetJobRunDebugMessage, "debug", "debug message", run_id).await
    }

    async fn populate_historical_jobs(&self, jobs: &HistoricalJobs, progress: ProgressFn<'_>) -> Result<()> {
        let operation = Operation::PopulateHistoricalJobs;
        self.open(operation)?;
        schema::check(&self.connection, operation).await?;
        let total = jobs.count();
        progress(Progress { done: 0, total });
        for chunk in Chunk::all(jobs) {
            let turn = self.turns.batch().await;
            let connection = self.connection.clone();
            let statements = chunk.statements(jobs);
            detached(operation, async move {
                let _tables = turn.write().await;
                for statement in statements {
                    connection.execute_insert(operation, &statement).await?;
                }
                Ok(())
            })
            .await?;
            progress(Progress { done: chunk.end(), total });
        }
        Ok(())
    }

    async fn store_info(&self) -> Result<StoreInfo> {
        let operation = Operation::StoreInfo;
        self.open(operation)?;
        let rows: Vec<InfoRow> = self.connection.fetch(operation, &Statement::plain(STORE_INFO)).await?;
        let info = |row: InfoRow| StoreInfo { version: Some(row.version), bytes: Some(row.bytes) };
        Ok(rows.into_iter().next().map(info).unwrap_or_default())
    }

    async fn tear_down(&self) -> Result<()> {
        let operation = Operation::TearDown;
        self.open(operation)?;
        let turn = self.turns.batch().await;
        let connection = self.connection.clone();
        let statements = schema::truncate_tables(self.config.cluster.as_deref());
        detached(operation, async move {
            let _tables = turn.write().await;
            for statement in statements {
                connection.execute(operation, &statement).await?;
            }
            Ok(())
        })
        .await
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        Ok(())
    }
}

impl ClickHouseDatabase {
    async fn record(&self, operation: Operation, table: &str, what: &str, job_id: &str) -> Result<Bytes> {
        self.open(operation)?;
        let _turn = self.turns.read().await;
        let rows: Vec<BytesRow> = self.connection.fetch(operation, &Reads::record(table, job_id)).await?;
        rows.into_iter()
            .find_map(|row| row.value)
            .ok_or_else(|| Error::not_found(operation, what, "job", job_id).with_backend(BackendKind::ClickHouse))
    }

    async fn run_message(&self, operation: Operation, column: &str, what: &str, run_id: &str) -> Result<String> {
        self.open(operation)?;
        let _turn = self.turns.read().await;
        let rows: Vec<BytesRow> = self.connection.fetch(operation, &Reads::run_message(column, run_id)).await?;
        rows.into_iter()
            .find_map(|row| row.value)
            .map(text)
            .ok_or_else(|| Error::not_found(operation, what, "run", run_id).with_backend(BackendKind::ClickHouse))
    }
}

/// Runs a future to its end even if this one is dropped.
async fn detached(operation: Operation, future: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    match tokio::spawn(future).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(Error::new(ErrorKind::Backend, operation, "the runtime shuts down")
                .with_backend(BackendKind::ClickHouse)
                .with_unknown_outcome()
                .with_source(cancelled)),
        },
    }
}

fn text(bytes: Bytes) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Gives each job of a page its runs.
fn hydrate(rows: Vec<JobRow>, runs: Vec<RunRow>, now: Timestamp) -> Vec<Job> {
    let mut runs_of: HashMap<SmolStr, Vec<Run>> = HashMap::with_capacity(rows.len());
    for mut run in runs {
        runs_of.entry(std::mem::take(&mut run.job_id)).or_default().push(run.into());
    }
    let job = |row: JobRow| {
        let runs = runs_of.remove(&row.job_id).unwrap_or_default();
        let mut job = Job::from(row);
        job.attach_runs(runs, now);
        job
    };
    rows.into_iter().map(job).collect()
}
