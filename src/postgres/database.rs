//! The implementation of the trait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use super::catalog::{self, Found};
use super::config::PostgresConfig;
use super::connection::{Client, Connections};
use super::error::{Attempt, Failure, Step};
use super::layout::{Layout, Relations};
use super::marker::{self, Lock};
use super::{activity, exchange, explain, historical, indexes, ingest, partitions, query, record, row, schema};
use crate::api::JobSpec;
use crate::error::{BackendKind, Error, ErrorKind, Operation, Outcome, Result};
use crate::exchange::{Part, Parts};
use crate::historical::HistoricalJobs;
use crate::ingest::IngestionBatch;
use crate::model::{Job, JobGroup};
use crate::odd_values::OddValues;
use crate::query::{GroupQuery, JobQuery, ReadCall};
use crate::record::{Record, text};
use crate::time::SharedClock;
use crate::{Activity, Database, Explanation, ProgressFn, StoreInfo};

/// The server's version, the size of all tables of the schema with their indexes, and that of the indexes.
const STORE_INFO: &str = "
    SELECT 'PostgreSQL ' || current_setting('server_version'), coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint,
        coalesce(sum(pg_indexes_size(c.oid)), 0)::bigint
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND relkind = 'r'";
/// The settings of the server that affect measurements.
const SETTINGS: &str = "
    SELECT name, current_setting(name) FROM pg_settings WHERE name IN (
        'autovacuum', 'checkpoint_timeout', 'effective_cache_size', 'fsync', 'full_page_writes', 'jit',
        'maintenance_work_mem', 'max_connections', 'max_parallel_workers_per_gather', 'max_wal_size',
        'random_page_cost', 'shared_buffers', 'synchronous_commit', 'wal_level', 'work_mem')";
/// The size of the server's shared memory. From version 13 on, members of `pg_read_all_stats` can read it.
const SHARED_MEMORY: &str = "SELECT sum(allocated_size)::bigint FROM pg_shmem_allocations";

/// A handle to a store.
#[derive(Debug)]
pub(crate) struct PostgresDatabase {
    connections: Connections,
    layout: Layout,
    relations: Relations,
    /// The collation of ids: "C", or the database's in tables that Lookout created.
    collation: String,
    /// Whether the next writing call must adopt the tables first.
    is_to_be_adopted: AtomicBool,
    config: PostgresConfig,
    clock: SharedClock,
    odd: OddValues,
}

impl PostgresDatabase {
    pub(super) fn new(
        config: &PostgresConfig,
        connections: Connections,
        layout: Layout,
        found: &Found,
        clock: SharedClock,
    ) -> Self {
        Self {
            connections,
            layout,
            relations: found.relations(layout),
            collation: found.collation.clone(),
            is_to_be_adopted: AtomicBool::new(config.adopt && !found.is_initialised() && found.layout().is_some()),
            config: config.clone(),
            clock,
            odd: OddValues::default(),
        }
    }

    /// The connections. `Closed` precedes all other errors.
    fn open(&self, operation: Operation) -> Result<&Connections> {
        if self.connections.is_closed() {
            return Err(Error::closed(operation).with_backend(BackendKind::Postgres));
        }
        Ok(&self.connections)
    }

    /// The connections of a writing call. Adopts the tables first if necessary.
    async fn writable(&self, operation: Operation) -> Result<&Connections> {
        let connections = self.open(operation)?;
        if self.is_to_be_adopted.load(Ordering::Relaxed) {
            self.migrate(operation).await?;
        }
        Ok(connections)
    }

    async fn migrate(&self, operation: Operation) -> Result<()> {
        let (connections, layout, adopt) = (&self.connections, self.layout, self.config.adopt);
        let schema = connections.schema();
        connections.transact(operation, |client| schema::migrate(client, schema, layout, adopt)).await?;
        self.is_to_be_adopted.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Replaces an error of a missing table or a wrong marker by one that describes the state of the store.
    async fn diagnosed<T>(&self, result: Result<T>) -> Result<T> {
        let Err(error) = result else { return result };
        if error.outcome() != Outcome::NotApplied
            || !matches!(error.kind(), ErrorKind::NotInitialised | ErrorKind::WrongStore)
        {
            return Err(error);
        }
        let (operation, schema, layout) = (error.operation(), self.connections.schema(), self.layout);
        let inspect = |client: Client| async move { catalog::inspect(&client, schema).await };
        let found = self.connections.run(operation, inspect).await?;
        let reads_only = !WRITES.contains(&operation);
        let checked = found.check(layout).and_then(|()| if reads_only { Ok(()) } else { found.check_writable(false) });
        checked.map_err(|failure| failure.into_error(operation.into()))?;
        if found.made_in() != Some(layout) || !(reads_only || found.is_initialised_in(layout)) {
            return Err(Error::not_initialised(operation).with_backend(BackendKind::Postgres));
        }
        let message = "a table of the store is missing".to_owned();
        Err(Error::new(ErrorKind::Backend, operation, message).with_backend(BackendKind::Postgres))
    }

    /// The bytes of a record. They are empty if Lookout has stored an empty text.
    async fn record(&self, record: Record, id: &str) -> Result<Bytes> {
        let operation = record.operation();
        let connections = self.open(operation)?;
        let (layout, sql) = (self.layout, &record::statement(record, &self.relations));
        let found = connections.run(operation, |client| record::read(client, layout, sql, id)).await;
        self.diagnosed(found).await?.map(Bytes::from).ok_or_else(|| record.not_found(BackendKind::Postgres, id))
    }

    /// Executes the statements of a key of the configuration. They may change settings, so the session is closed
    /// afterwards.
    async fn execute(&self, step: Step, key: &'static str, statements: &[String]) -> Result<()> {
        if statements.is_empty() {
            return Ok(());
        }
        let execute = |client: Client| async move {
            client.mark_dirty();
            for statement in statements {
                client.batch_execute(statement).await.map_err(|error| Failure::Configured(key, error))?;
            }
            Ok(())
        };
        self.connections.run(step, execute).await
    }

    async fn apply(&self, batch: &IngestionBatch) -> Result<()> {
        let operation = Operation::ExecuteIngestionQueryBatch;
        let connections = self.writable(operation).await?;
        let (layout, compression) = (self.layout, self.config.compression);
        if batch.is_empty() {
            let check = |client: Client| async move { marker::guard(&client, layout, Lock::None).await };
            return connections.run(operation, check).await;
        }
        if layout == Layout::PartitionBySubmitted {
            let times = batch.jobs().iter().map(|job| job.submitted);
            partitions::ensure(connections, operation, times).await?;
        }
        connections
            .transact(operation, |client| ingest::apply(client, layout, &self.collation, compression, batch))
            .await
    }

    async fn populate(&self, jobs: &HistoricalJobs, progress: ProgressFn<'_>) -> Result<()> {
        let operation = Operation::PopulateHistoricalJobs;
        let connections = self.writable(operation).await?;
        let layout = self.layout;
        connections.run(operation, |client| async move { marker::guard(&client, layout, Lock::None).await }).await?;
        if layout == Layout::PartitionBySubmitted && jobs.count() > 0 {
            partitions::ensure(connections, operation, jobs.bases().iter().copied()).await?;
        }
        historical::populate(connections, layout, &self.collation, self.config.compression, jobs, progress).await
    }

    async fn import_part(&self, part: &Part) -> Result<()> {
        let operation = Operation::Import;
        let connections = self.writable(operation).await?;
        let layout = self.layout;
        connections.run(operation, |client| async move { marker::guard(&client, layout, Lock::None).await }).await?;
        exchange::check(part, layout)?;
        if layout == Layout::PartitionBySubmitted {
            partitions::ensure(connections, operation, exchange::submission_times(part)).await?;
        }
        let (schema, collation, compression) = (connections.schema(), &self.collation, self.config.compression);
        let import = |client: Client| exchange::import(client, schema, layout, collation, compression, part);
        connections.transact(operation, import).await
    }

    async fn clear(&self) -> Result<()> {
        let operation = Operation::TearDown;
        let connections = self.writable(operation).await?;
        let layout = self.layout;
        let mut step = Step::from(operation);
        let many = |client: Client| async move { partitions::are_many(&client).await };
        if layout == Layout::PartitionBySubmitted && connections.run(operation, many).await? {
            partitions::drop_all(connections, operation, partitions::drop_with_keys).await?;
            step = Step::after(operation, "the jobs are removed, but not their runs, specs and errors");
        }
        let clear = |client: Client| async move {
            marker::guard(&client, layout, Lock::Reads).await?;
            let statements = format!("TRUNCATE {}; {}", layout.tables(), marker::clear_properties());
            Ok(client.batch_execute(&statements).await?)
        };
        connections.transact(step, clear).await
    }
}

/// The calls that write.
const WRITES: [Operation; 6] = [
    Operation::ExecuteIngestionQueryBatch,
    Operation::Import,
    Operation::PopulateHistoricalJobs,
    Operation::TearDown,
    Operation::Property,
    Operation::Analyse,
];

#[async_trait]
impl Database for PostgresDatabase {
    fn backend(&self) -> BackendKind {
        BackendKind::Postgres
    }

    async fn initialise_schema(&self) -> Result<()> {
        let operation = Operation::InitialiseSchema;
        let connections = self.open(operation)?;
        self.migrate(operation).await?;
        let step = Step::after(operation, "the tables exist");
        indexes::restore(connections, self.layout, step).await?;
        self.execute(step, "tuning_sql", &self.config.tuning_sql).await
    }

    async fn execute_ingestion_query_batch(&self, batch: &IngestionBatch) -> Result<()> {
        self.diagnosed(self.apply(batch).await).await
    }

    async fn get_jobs(&self, query: &JobQuery) -> Result<Vec<Job>> {
        let connections = self.open(Operation::GetJobs)?;
        let (layout, statement) = (self.layout, &query::jobs(query, &self.relations, self.config.queries));
        let read = |client: Client| async move {
            let rows = query::fetch(&client, layout, statement).await?;
            let now = self.clock.now();
            rows.iter().map(|row| row::job(row, now, &self.odd)).collect()
        };
        self.diagnosed(connections.run(Operation::GetJobs, read).await).await
    }

    async fn get_job_groups(&self, query: &GroupQuery) -> Result<Vec<JobGroup>> {
        let connections = self.open(Operation::GetJobGroups)?;
        let (layout, statement) = (self.layout, &query::groups(query, &self.relations, self.config.queries));
        let read = |client: Client| async move {
            let rows = query::fetch(&client, layout, statement).await?;
            rows.iter().map(|row| query::group(query, row, &self.odd)).collect()
        };
        self.diagnosed(connections.run(Operation::GetJobGroups, read).await).await
    }

    async fn get_job_spec(&self, job_id: &str) -> Result<JobSpec> {
        self.record(Record::JobSpec, job_id).await.map(JobSpec::from)
    }

    async fn get_job_error(&self, job_id: &str) -> Result<String> {
        Ok(text(&self.record(Record::JobError, job_id).await?))
    }

    async fn get_job_run_error(&self, run_id: &str) -> Result<String> {
        Ok(text(&self.record(Record::RunError, run_id).await?))
    }

    async fn get_job_run_debug_message(&self, run_id: &str) -> Result<String> {
        Ok(text(&self.record(Record::RunDebugMessage, run_id).await?))
    }

    async fn populate_historical_jobs(&self, jobs: &HistoricalJobs, progress: ProgressFn<'_>) -> Result<()> {
        self.diagnosed(self.populate(jobs, progress).await).await
    }

    async fn export(&self, after: Option<&str>) -> Result<Parts<'static>> {
        let connections = self.open(Operation::Export)?;
        self.diagnosed(exchange::export(connections, self.layout, after).await).await
    }

    async fn import(&self, part: &Part) -> Result<()> {
        self.diagnosed(self.import_part(part).await).await
    }

    async fn store_info(&self) -> Result<StoreInfo> {
        let connections = self.open(Operation::StoreInfo)?;
        let schema = connections.schema();
        connections
            .run(Operation::StoreInfo, |client| async move {
                let row = client.query_one(STORE_INFO, &[&schema]).await?;
                let bytes = |column| Ok::<_, Failure>(u64::try_from(row.try_get::<_, i64>(column)?).ok());
                let settings = client.query(SETTINGS, &[]).await?;
                let settings = settings.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
                Ok(StoreInfo {
                    version: Some(row.try_get(0)?),
                    bytes: bytes(1)?,
                    index_bytes: bytes(2)?,
                    server_memory: shared_memory(&client).await?,
                    settings: settings.collect::<Attempt<_>>()?,
                })
            })
            .await
    }

    async fn activity(&self) -> Result<Activity> {
        let connections = self.open(Operation::Activity)?;
        let schema = connections.schema();
        connections.run(Operation::Activity, |client| activity::read(client, schema)).await
    }

    async fn analyse(&self) -> Result<()> {
        let connections = self.writable(Operation::Analyse).await?;
        let layout = self.layout;
        let analyse = |client: Client| async move {
            marker::guard(&client, layout, Lock::None).await?;
            Ok(client.batch_execute(&format!("ANALYZE {}", layout.tables())).await?)
        };
        self.diagnosed(connections.run(Operation::Analyse, analyse).await).await
    }

    async fn explain(&self, call: &ReadCall) -> Result<Explanation> {
        let connections = self.open(Operation::Explain)?;
        let (relations, queries) = (&self.relations, self.config.queries);
        let explain = |client| explain::explain(client, relations, queries, call);
        let explained = connections.run(Operation::Explain, explain).await;
        self.diagnosed(explained).await
    }

    async fn property(&self, key: &str) -> Result<Option<String>> {
        let connections = self.open(Operation::Property)?;
        self.diagnosed(connections.run(Operation::Property, |client| marker::property(client, key)).await).await
    }

    async fn set_property(&self, key: &str, value: Option<&str>) -> Result<()> {
        let connections = self.writable(Operation::Property).await?;
        let layout = self.layout;
        let set = |client: Client| async move {
            marker::guard(&client, layout, Lock::Layout).await?;
            marker::set_property(&client, key, value).await
        };
        self.diagnosed(connections.transact(Operation::Property, set).await).await
    }

    async fn job_count(&self) -> Result<u64> {
        let connections = self.open(Operation::JobCount)?;
        let schema = connections.schema();
        connections.run(Operation::JobCount, |client| catalog::job_count(client, schema)).await
    }

    async fn another_handle(&self) -> Result<Arc<dyn Database>> {
        Ok(Arc::new(self.config.connect(self.clock.clone()).await?))
    }

    async fn tear_down(&self) -> Result<()> {
        self.diagnosed(self.clear().await).await?;
        let step = Step::after(Operation::TearDown, "all data are removed");
        indexes::restore(&self.connections, self.layout, step).await?;
        self.execute(step, "revert_sql", &self.config.revert_sql).await
    }

    async fn close(&self) -> Result<()> {
        self.connections.close();
        Ok(())
    }
}

/// `None` if the server does not have this view, or the user may not read it.
async fn shared_memory(client: &Client) -> Attempt<Option<u64>> {
    match client.query_one(SHARED_MEMORY, &[]).await.map_err(Failure::from) {
        Ok(row) => Ok(u64::try_from(row.try_get::<_, i64>(0)?).ok()),
        Err(failure) if failure.is_undefined() || failure.is_forbidden() => Ok(None),
        Err(failure) => Err(failure),
    }
}
