//! The implementation of the trait.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use smol_str::SmolStr;
use tokio::sync::OnceCell;

use super::change::Change;
use super::config::ClickHouseConfig;
use super::connection::Connection;
use super::historical::Chunk;
use super::ingest::{Changes, Stored, Writer, unique_token};
use super::layout::Layout;
use super::marker::{self, Content};
use super::query::{self, Reads};
use super::row::{BytesRow, GroupRow, JobRow, PropertyRow, RunRow, SettingRow};
use super::statement::{MAX_IDS, Statement};
use super::store::Store;
use super::tables::{self, STORE};
use super::{activity, exchange, explain, record, schema};
use crate::api::JobSpec;
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::exchange::{Part, Parts};
use crate::historical::HistoricalJobs;
use crate::ingest::IngestionBatch;
use crate::model::{Job, JobGroup, Run};
use crate::odd_values::OddValues;
use crate::query::{GroupQuery, JobQuery, ReadCall};
use crate::record::{Record, text};
use crate::time::{SharedClock, Timestamp};
use crate::{Activity, Database, Explanation, Progress, ProgressFn, StoreInfo};

/// The settings of the user's profile and of tables that affect measurements.
const SETTINGS: &str = "
    SELECT name, value, toUInt8(readonly) AS readonly FROM system.settings WHERE name IN (
        'fsync_metadata', 'max_bytes_before_external_group_by', 'max_memory_usage', 'max_threads',
        'min_bytes_to_use_direct_io', 'use_query_condition_cache', 'use_uncompressed_cache')
    UNION ALL
    SELECT name, value, toUInt8(readonly) AS readonly FROM system.merge_tree_settings
    WHERE name IN ('fsync_after_insert', 'fsync_part_directory')";
/// The memory that the server has allocated. The user may not be allowed to read it.
const MEMORY: &str = "SELECT toUInt64(greatest(value, 0)) FROM system.metrics WHERE metric = 'MemoryTracking'";

/// A handle to a store.
#[derive(Debug)]
pub(crate) struct ClickHouseDatabase {
    connection: Connection,
    config: ClickHouseConfig,
    reads: Reads,
    /// Set by the first writing call, because the store need not exist before.
    store: OnceCell<Arc<Store>>,
    clock: SharedClock,
    odd: OddValues,
    closed: AtomicBool,
}

impl ClickHouseDatabase {
    pub(super) fn new(config: &ClickHouseConfig, connection: Connection, clock: SharedClock) -> Self {
        Self {
            connection,
            config: config.clone(),
            reads: Reads::of(config),
            store: OnceCell::new(),
            clock,
            odd: OddValues::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Returns an error if the handle is closed.
    fn open(&self, operation: Operation) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed(operation).with_backend(BackendKind::ClickHouse));
        }
        Ok(())
    }

    /// The store, which must be writable: it has a marker, or the configuration has `adopt`.
    async fn store(&self, operation: Operation) -> Result<&Arc<Store>> {
        let found = self.store.get_or_try_init(|| async {
            match Content::read(&self.connection, operation, &self.config).await? {
                Content::Store(marker) => Ok(Store::of(&marker.id)),
                Content::Unmarked(id) if self.config.adopt => Ok(Store::of(&id)),
                Content::Unmarked(_) => Err(marker::unmarked(operation)),
                Content::Nothing => Err(Error::not_initialised(operation).with_backend(BackendKind::ClickHouse)),
            }
        });
        found.await
    }

    /// The bytes of a record; never empty.
    async fn record(&self, record: Record, id: &str) -> Result<Bytes> {
        let operation = record.operation();
        self.open(operation)?;
        let rows: Vec<BytesRow> = self.connection.fetch(operation, &record::statement(record, id)).await?;
        let found = rows.into_iter().find_map(|row| row.value);
        found.ok_or_else(|| record.not_found(BackendKind::ClickHouse, id))
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
        let store = self.store(operation).await?;
        let guard = store.write_lock.lock(batch).await;
        let read = Stored::read(&self.connection, batch);
        let (stored, ()) = tokio::try_join!(read, store.versions.synchronise(&self.connection, operation))?;
        let replaced = stored.newest_version();
        let mut changes = Changes::new(batch, stored);
        if changes.is_empty() {
            return Ok(());
        }
        changes.set_version(store.versions.draw(replaced));
        // From here on, the batch is completed even if this future is dropped.
        let (connection, layout, store) = (self.connection.clone(), self.config.layout, Arc::clone(store));
        let replicated = self.config.cluster.is_some();
        detached(operation, async move {
            let _guard = guard;
            Writer::new(&connection, layout, replicated.then_some(&store.turns)).write(changes).await
        })
        .await
    }

    async fn get_jobs(&self, query: &JobQuery) -> Result<Vec<Job>> {
        let operation = Operation::GetJobs;
        self.open(operation)?;
        let rows: Vec<JobRow> = self.connection.fetch(operation, &query::jobs(self.reads, query)).await?;
        let mut runs: Vec<RunRow> = Vec::new();
        for rows in rows.chunks(MAX_IDS) {
            let statement = query::runs(self.reads, rows.iter().map(|row| row.job_id.as_str()));
            runs.extend(self.connection.fetch(operation, &statement).await?);
        }
        Ok(hydrate(rows, runs, self.clock.now(), &self.odd))
    }

    async fn get_job_groups(&self, query: &GroupQuery) -> Result<Vec<JobGroup>> {
        let operation = Operation::GetJobGroups;
        self.open(operation)?;
        let rows: Vec<GroupRow> = self.connection.fetch(operation, &query::groups(self.reads, query)).await?;
        Ok(rows.into_iter().map(|row| row.into_group(query, &self.odd)).collect())
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
        let operation = Operation::PopulateHistoricalJobs;
        self.open(operation)?;
        let store = self.store(operation).await?;
        schema::check(&self.connection, operation).await?;
        let total = jobs.count();
        progress(Progress { done: 0, total });
        let mut chunks = Change::default();
        for chunk in Chunk::all(jobs) {
            let guard = store.write_lock.lock_store().await;
            let connection = self.connection.clone();
            let statements = chunk.statements(jobs);
            let token = (self.config.layout == Layout::Patch).then(unique_token);
            let inserted = detached(operation, async move {
                let _guard = guard;
                let mut change = Change::default();
                for statement in statements {
                    change.write(connection.execute_insert(operation, &statement, token.as_deref()).await)?;
                }
                Ok(())
            });
            chunks.write(inserted.await)?;
            progress(Progress { done: chunk.end(), total });
        }
        Ok(())
    }

    async fn export(&self, after: Option<&str>) -> Result<Parts<'static>> {
        self.open(Operation::Export)?;
        schema::check(&self.connection, Operation::Export).await?;
        Ok(exchange::export(self.connection.clone(), after))
    }

    async fn import(&self, part: &Part) -> Result<()> {
        let operation = Operation::Import;
        self.open(operation)?;
        let store = self.store(operation).await?;
        schema::check(&self.connection, operation).await?;
        exchange::check(part)?;
        let guard = store.write_lock.lock_store().await;
        let (connection, layout, part) = (self.connection.clone(), self.config.layout, part.clone());
        let token = (layout == Layout::Patch).then(unique_token);
        // From here on, the import is completed even if this future is dropped.
        detached(operation, async move {
            let _guard = guard;
            exchange::import(&connection, layout, &part, token.as_deref()).await
        })
        .await
    }

    async fn store_info(&self) -> Result<StoreInfo> {
        let operation = Operation::StoreInfo;
        self.open(operation)?;
        let rows: Vec<(String, u64, u64)> = self.connection.fetch(operation, &tables::store_info(&self.config)).await?;
        let info = rows.into_iter().next();
        let settings: Vec<SettingRow> = self.connection.fetch(operation, &Statement::plain(SETTINGS)).await?;
        let memory: Vec<u64> = match self.connection.fetch(operation, &Statement::plain(MEMORY)).await {
            Err(error) if error.kind() == ErrorKind::Backend => Vec::new(),
            rows => rows?,
        };
        Ok(StoreInfo {
            bytes: info.as_ref().map(|&(_, bytes, _)| bytes),
            index_bytes: info.as_ref().map(|&(_, _, bytes)| bytes),
            version: info.map(|(version, _, _)| version),
            server_memory: memory.first().copied(),
            settings: settings.into_iter().map(|row| (row.name, row.value)).collect(),
        })
    }

    async fn activity(&self) -> Result<Activity> {
        self.open(Operation::Activity)?;
        activity::read(&self.connection).await
    }

    async fn explain(&self, call: &ReadCall) -> Result<Explanation> {
        self.open(Operation::Explain)?;
        explain::explain(&self.connection, self.reads, call).await
    }

    async fn property(&self, key: &str) -> Result<Option<String>> {
        let operation = Operation::Property;
        self.open(operation)?;
        Ok(self.connection.fetch(operation, &record::property(key)).await?.into_iter().next())
    }

    async fn set_property(&self, key: &str, value: Option<&str>) -> Result<()> {
        let operation = Operation::Property;
        self.open(operation)?;
        let store = self.store(operation).await?;
        let Some(value) = value else {
            let delete = record::delete_property(key, self.config.cluster.as_deref());
            return self.connection.execute(operation, &delete).await;
        };
        store.versions.synchronise(&self.connection, operation).await?;
        let row = PropertyRow { key: key.to_owned(), value: value.to_owned(), version: store.versions.draw(0) };
        self.connection.insert(operation, STORE, &[row], None).await
    }

    async fn another_handle(&self) -> Result<Arc<dyn Database>> {
        Ok(Arc::new(self.config.connect(self.clock.clone()).await?))
    }

    async fn tear_down(&self) -> Result<()> {
        let operation = Operation::TearDown;
        self.open(operation)?;
        let guard = self.store(operation).await?.write_lock.lock_store().await;
        let connection = self.connection.clone();
        let statements = tables::truncate_tables(self.config.cluster.as_deref());
        detached(operation, async move {
            let _guard = guard;
            let mut change = Change::default();
            for statement in statements {
                change.write(connection.execute(operation, &statement).await)?;
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

/// Executes a future to completion even if the returned one is dropped.
async fn detached(operation: Operation, future: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    match tokio::spawn(future).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(Error::new(ErrorKind::Backend, operation, "the runtime is shutting down")
                .with_backend(BackendKind::ClickHouse)
                .with_unknown_outcome()
                .with_source(cancelled)),
        },
    }
}

/// The jobs of a page with their runs.
fn hydrate(rows: Vec<JobRow>, runs: Vec<RunRow>, now: Timestamp, odd: &OddValues) -> Vec<Job> {
    let mut runs_of: HashMap<SmolStr, Vec<Run>> = HashMap::with_capacity(rows.len());
    for mut run in runs {
        let job_id = std::mem::take(&mut run.job_id);
        let mut run = Run::from(run);
        odd.settle_run(&mut run);
        runs_of.entry(job_id).or_default().push(run);
    }
    let job = |row: JobRow| {
        let runs = runs_of.remove(&row.job_id).unwrap_or_default();
        let mut job = Job::from(row);
        odd.settle_job(&mut job);
        job.attach_runs(runs, now);
        job
    };
    rows.into_iter().map(job).collect()
}
