//! PostgreSQL behind the trait.

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;

use super::config::PostgresConfig;
use super::connection::{Client, Connections};
use super::error::Attempt;
use super::layout::Layout;
use super::staging::StagedBatch;
use super::{historical, indexes, ingest, partitions, query, row, schema};
use crate::api;
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::historical::HistoricalJobs;
use crate::ingest::IngestionBatch;
use crate::model::{Job, JobGroup};
use crate::query::{GroupQuery, JobQuery};
use crate::time::SharedClock;
use crate::{Database, ProgressFn, StoreInfo};

/// A record that is read alone, by the statement that gives it and its parts' names in `NotFound`.
struct Record {
    operation: Operation,
    what: &'static str,
    of: &'static str,
    sql: fn(Layout) -> String,
}

const JOB_SPEC: Record = Record {
    operation: Operation::GetJobSpec,
    what: "spec",
    of: "job",
    sql: |layout| {
        let jobs = layout.all_jobs();
        format!(
            "SELECT coalesce(s.job_spec, j.job_spec) FROM {jobs} AS j LEFT JOIN job_spec AS s ON s.job_id = j.job_id
            WHERE j.job_id = $1"
        )
    },
};
const JOB_ERROR: Record = Record {
    operation: Operation::GetJobError,
    what: "error",
    of: "job",
    sql: |layout| {
        let jobs = layout.all_jobs();
        format!("SELECT e.error FROM {jobs} AS j JOIN job_error AS e ON e.job_id = j.job_id WHERE j.job_id = $1")
    },
};
const RUN_ERROR: Record = Record {
    operation: Operation::GetJobRunError,
    what: "error",
    of: "run",
    sql: |_| "SELECT error FROM job_run WHERE run_id = $1".to_owned(),
};
const RUN_DEBUG_MESSAGE: Record = Record {
    operation: Operation::GetJobRunDebugMessage,
    what: "debug message",
    of: "run",
    sql: |_| "SELECT debug FROM job_run WHERE run_id = $1".to_owned(),
};

/// The server's version, and the bytes of all tables of the schema with their indexes.
const STORE_INFO: &str = "
    SELECT 'PostgreSQL ' || current_setting('server_version'), coalesce(sum(pg_total_relation_size(oid)), 0)::bigint
    FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'";

/// The PostgreSQL backend. [`PostgresConfig::connect`] makes one.
#[derive(Debug)]
pub struct PostgresDatabase {
    connections: Connections,
    schema: Option<String>,
    layout: Layout,
    tuning_sql: String,
    revert_sql: String,
    clock: SharedClock,
}

impl PostgresDatabase {
    pub(super) fn new(config: &PostgresConfig, connections: Connections, clock: SharedClock) -> Self {
        Self {
            connections,
            schema: config.schema.clone(),
            layout: config.layout,
            tuning_sql: config.tuning_sql.clone(),
            revert_sql: config.revert_sql.clone(),
            clock,
        }
    }

    /// `Closed` comes before every other error of the store.
    fn open(&self, operation: Operation) -> Result<&Connections> {
        if self.connections.is_closed() {
            return Err(Error::closed(operation).with_backend(BackendKind::Postgres));
        }
        Ok(&self.connections)
    }

    /// The bytes of a record, which are never empty.
    async fn record(&self, record: &Record, id: &str) -> Result<Bytes> {
        let connections = self.open(record.operation)?;
        // No id holds a NUL character, and the server cannot be asked for one that does; whether
        // there is a schema must be found out all the same, and "" is no id either.
        let known = if id.contains('\0') { "" } else { id };
        let sql = &(record.sql)(self.layout);
        let found = connections
            .run(record.operation, |client| async move {
                let statement = client.prepare_cached(sql).await?;
                let row = client.query_opt(&statement, &[&known]).await?;
                Ok(row.map(|row| row.try_get::<_, Option<Vec<u8>>>(0)).transpose()?.flatten())
            })
            .await?;
        found.map(Bytes::from).ok_or_else(|| {
            Error::not_found(record.operation, record.what, record.of, id).with_backend(BackendKind::Postgres)
        })
    }

    async fn text(&self, record: &Record, id: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.record(record, id).await?).into_owned())
    }
}

async fn execute(client: Client, statements: &str) -> Attempt<()> {
    Ok(client.batch_execute(statements).await?)
}

#[async_trait]
impl Database for PostgresDatabase {
    fn backend(&self) -> BackendKind {
        BackendKind::Postgres
    }

    async fn initialise_schema(&self) -> Result<()> {
        let operation = Operation::InitialiseSchema;
        let (schema, layout) = (self.schema.as_deref(), self.layout);
        let connections = self.open(operation)?;
        connections.transact(operation, |client| schema::migrate(client, schema, layout)).await?;
        indexes::restore(connections, operation).await?;
        connections.run(operation, |client| execute(client, &self.tuning_sql)).await
    }

    async fn execute_ingestion_query_batch(&self, batch: &IngestionBatch) -> Result<()> {
        let operation = Operation::ExecuteIngestionQueryBatch;
        let connections = self.open(operation)?;
        if batch.is_empty() {
            return connections.run(operation, schema::check).await;
        }
        if self.layout == Layout::PartitionBySubmitted {
            let times = batch.jobs().iter().map(|job| job.submitted);
            partitions::ensure(connections, operation, self.schema.as_deref(), times).await?;
        }
        let staged = StagedBatch::new(batch);
        connections.transact(operation, |client| ingest::apply(client, self.layout, &staged)).await
    }

    async fn get_jobs(&self, query: &JobQuery) -> Result<Vec<Job>> {
        let connections = self.open(Operation::GetJobs)?;
        let statement = &query::jobs(query, self.layout);
        connections
            .run(Operation::GetJobs, |client| async move {
                let rows = statement.run(&client).await?;
                let now = self.clock.now();
                rows.iter().map(|row| row::job(row, now)).collect()
            })
            .await
    }

    async fn get_job_groups(&self, query: &GroupQuery) -> Result<Vec<JobGroup>> {
        let connections = self.open(Operation::GetJobGroups)?;
        let statement = &query::groups(query, self.layout);
        connections
            .run(Operation::GetJobGroups, |client| async move {
                statement.run(&client).await?.iter().map(|row| query::group(query, row)).collect()
            })
            .await
    }

    async fn get_job_spec(&self, job_id: &str) -> Result<api::Job> {
        let spec = self.record(&JOB_SPEC, job_id).await?;
        api::Job::decode(spec).map_err(|error| {
            Error::new(ErrorKind::Backend, Operation::GetJobSpec, format!("the spec of job {job_id:?} is no api.Job"))
                .with_backend(BackendKind::Postgres)
                .with_source(error)
        })
    }

    async fn get_job_error(&self, job_id: &str) -> Result<String> {
        self.text(&JOB_ERROR, job_id).await
    }

    async fn get_job_run_error(&self, run_id: &str) -> Result<String> {
        self.text(&RUN_ERROR, run_id).await
    }

    async fn get_job_run_debug_message(&self, run_id: &str) -> Result<String> {
        self.text(&RUN_DEBUG_MESSAGE, run_id).await
    }

    async fn populate_historical_jobs(&self, jobs: &HistoricalJobs, progress: ProgressFn<'_>) -> Result<()> {
        let operation = Operation::PopulateHistoricalJobs;
        let connections = self.open(operation)?;
        connections.run(operation, schema::check).await?;
        if self.layout == Layout::PartitionBySubmitted && jobs.count() > 0 {
            partitions::ensure(connections, operation, self.schema.as_deref(), jobs.bases().iter().copied()).await?;
        }
        historical::populate(connections, self.layout, jobs, progress).await
    }

    async fn store_info(&self) -> Result<StoreInfo> {
        let connections = self.open(Operation::StoreInfo)?;
        connections
            .run(Operation::StoreInfo, |client| async move {
                let row = client.query_one(STORE_INFO, &[]).await?;
                let bytes: i64 = row.try_get(1)?;
                Ok(StoreInfo { version: Some(row.try_get(0)?), bytes: u64::try_from(bytes).ok() })
            })
            .await
    }

    async fn tear_down(&self) -> Result<()> {
        let operation = Operation::TearDown;
        let connections = self.open(operation)?;
        connections.transact(operation, |client| execute(client, self.layout.clear())).await?;
        indexes::restore(connections, operation).await?;
        connections.run(operation, |client| execute(client, &self.revert_sql)).await
    }

    async fn close(&self) -> Result<()> {
        self.connections.close();
        Ok(())
    }
}
