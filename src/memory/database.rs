//! The [`Database`] of the memory engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use datafusion::prelude::SessionContext;

use super::budget::Budget;
use super::engine::Engine;
use super::error::engine_error;
use super::ingest::Store;
use super::limit::{JOB_BYTES, RUN_BYTES, batch_bytes, part_bytes};
use super::query::consume_budget_for;
use super::stats::MemoryStats;
use super::storage::{JobId, OptionalCells, RunCells, RunId, Tables};
use super::{exchange, explain, plan, read, stats};
use crate::api::JobSpec;
use crate::database::{Database, Explanation, Progress, ProgressFn, StoreInfo};
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::exchange::{Part, Parts};
use crate::historical::HistoricalJobs;
use crate::ingest::IngestionBatch;
use crate::model::{Job, JobGroup};
use crate::query::{GroupQuery, JobQuery, ReadCall};
use crate::time::{SharedClock, SystemClock};

/// A batch with more queries than this is applied on a blocking thread, so that it does not delay other tasks of the
/// executor.
const LARGE_BATCH: usize = 4096;

/// The number of queries that are applied per unit of budget.
const QUERIES_PER_UNIT: usize = 32;

/// A handle to an embedded store.
///
/// The store is dropped with its last handle. A read takes a snapshot and needs no locks afterwards; see [`Database`]
/// for the guarantees of each call.
#[derive(Debug)]
pub struct MemoryDatabase {
    engine: Arc<Engine>,
    clock: SharedClock,
    sql_budget: Arc<Budget>,
    closed: AtomicBool,
}

impl Default for MemoryDatabase {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryDatabase {
    /// Creates a store without a schema, with the system's clock.
    pub fn new() -> Self {
        let clock = Arc::new(SystemClock);
        Self { engine: Arc::default(), clock, sql_budget: Arc::default(), closed: AtomicBool::new(false) }
    }

    /// Replaces the clock, from which reads take the current time.
    pub fn with_clock(self, clock: SharedClock) -> Self {
        Self { clock, ..self }
    }

    /// Limits the size of the store, as [`stats`](Self::stats) measures it, for all handles. Beyond the limit, each
    /// ingestion batch is refused with the error `Unavailable`, also one that only updates jobs, and changes nothing.
    /// Reads continue. The caches are evicted before a batch is refused.
    ///
    /// The default is 80 % of the memory of the machine or of the control group. Batches in progress, results and the
    /// chunks that a batch copies because a snapshot refers to them take further memory.
    pub fn with_memory_limit(self, bytes: u64) -> Self {
        self.engine.limit.set_max(bytes);
        self
    }

    /// Sets the memory budget of SQL, in bytes. All sessions of this handle, and of handles that are created from it,
    /// share it.
    ///
    /// The default is half of the memory of the machine or the control group, or a quarter of what is left of a limited
    /// address space. Operators that exceed the budget spill to unnamed files in the directory of temporary files
    /// (`TMPDIR`), or fail with an error of kind `Backend`. The store, the batches of results, and what an operator
    /// computes at a time are not counted: the results of `repeat` for a batch have up to 1 GiB.
    pub fn with_sql_memory(self, bytes: u64) -> Self {
        Self { sql_budget: Arc::new(Budget::new(bytes)), ..self }
    }

    /// Creates another handle to the same store. Each handle is closed separately.
    pub fn handle(&self) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
            clock: Arc::clone(&self.clock),
            sql_budget: Arc::clone(&self.sql_budget),
            closed: AtomicBool::new(false),
        }
    }

    /// A DataFusion session over the state after the last whole batch, with the read-only tables `job`, `job_run`,
    /// `job_spec` and `job_error`.
    ///
    /// `target_partitions` is the number of cores that the process may use. Scans of few rows, with a limit or in an order
    /// have one partition.
    ///
    /// DataFrames and statements are planned and executed on the caller's stack, which a deeply nested expression can
    /// overflow: use a `SqlSession` for untrusted statements.
    ///
    /// # Errors
    ///
    /// `Closed` or `NotInitialised`.
    pub async fn session_context(&self) -> Result<SessionContext> {
        let tables = self.snapshot(Operation::Connect).await?;
        let context = self.sql_budget.runtime().and_then(|runtime| plan::session_context(&tables, runtime));
        context.map_err(|error| engine_error(Operation::Connect, error))
    }

    /// A session for SQL statements over the state after the last whole batch.
    ///
    /// # Errors
    ///
    /// `Closed` or `NotInitialised`.
    #[cfg(feature = "sql")]
    pub async fn sql_session(&self) -> Result<super::SqlSession> {
        super::SqlSession::new(self.session_context().await?)
    }

    /// The memory usage of the columns and indexes of the store.
    ///
    /// # Errors
    ///
    /// `Closed` or `NotInitialised`.
    pub async fn stats(&self) -> Result<MemoryStats> {
        self.measure(Operation::Connect).await
    }

    async fn measure(&self, operation: Operation) -> Result<MemoryStats> {
        let tables = self.snapshot(operation).await?;
        let writer_bytes = self.engine.inspect(Store::writer_bytes).await.unwrap_or_default();
        Ok(stats::measure(&tables, writer_bytes).await)
    }

    fn check_open(&self, operation: Operation) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed(operation).with_backend(BackendKind::Memory));
        }
        Ok(())
    }

    /// Checks that a batch of an estimated size fits into the limit of the store.
    async fn check_memory(&self, operation: Operation, batch: u64) -> Result<()> {
        let limit = &self.engine.limit;
        if limit.admits(batch) {
            return Ok(());
        }
        if !limit.is_exact() {
            let mut bytes = self.measure(operation).await?.total_bytes();
            if bytes.saturating_add(batch) > limit.max() {
                self.snapshot(operation).await?.evict_caches(0);
                bytes = self.measure(operation).await?.total_bytes();
            }
            limit.set_measured(bytes);
            if limit.admits(batch) {
                return Ok(());
            }
        }
        let message = format!("the store would exceed its memory limit of {} bytes", limit.max());
        Err(Error::new(ErrorKind::Unavailable, operation, message).with_backend(BackendKind::Memory))
    }

    async fn snapshot(&self, operation: Operation) -> Result<Arc<Tables>> {
        self.check_open(operation)?;
        self.engine.read().await.ok_or_else(|| not_initialised(operation))
    }

    async fn run_message(
        &self,
        operation: Operation,
        what: &str,
        run_id: &str,
        column: impl Fn(&RunCells) -> &OptionalCells<u32>,
    ) -> Result<String> {
        let tables = self.snapshot(operation).await?;
        let found = RunId::new(run_id).and_then(|id| tables.run_row(&id)).and_then(|row| {
            let (chunk, at) = tables.runs.locate(row);
            column(&chunk.cells).get(at).map(|index| tables.records.run_messages.get(index))
        });
        let bytes = found.ok_or_else(|| not_found(operation, what, "run", run_id))?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

fn not_initialised(operation: Operation) -> Error {
    Error::not_initialised(operation).with_backend(BackendKind::Memory)
}

fn not_found(operation: Operation, what: &str, entity: &str, id: &str) -> Error {
    Error::not_found(operation, what, entity, id).with_backend(BackendKind::Memory)
}

/// The id of a job that exists.
fn existing_job(tables: &Tables, job_id: &str) -> Option<JobId> {
    JobId::new(job_id).filter(|id| tables.job_row(id).is_some())
}

#[async_trait]
impl Database for MemoryDatabase {
    fn backend(&self) -> BackendKind {
        BackendKind::Memory
    }

    async fn initialise_schema(&self) -> Result<()> {
        self.check_open(Operation::InitialiseSchema)?;
        self.engine.initialise().await;
        Ok(())
    }

    async fn execute_ingestion_query_batch(&self, batch: &IngestionBatch) -> Result<()> {
        let operation = Operation::ExecuteIngestionQueryBatch;
        self.check_open(operation)?;
        self.check_memory(operation, batch_bytes(batch)).await?;
        let applied = if batch.query_count() <= LARGE_BATCH {
            consume_budget_for(batch.query_count(), QUERIES_PER_UNIT).await;
            self.engine.write(|store| store.apply(batch)).await
        } else {
            let batch = batch.clone();
            self.engine.write_blocking(move |store| store.apply(&batch)).await
        };
        applied.unwrap_or_else(|| Err(not_initialised(operation)))
    }

    async fn get_jobs(&self, query: &JobQuery) -> Result<Vec<Job>> {
        let tables = self.snapshot(Operation::GetJobs).await?;
        read::jobs(&tables, query, self.clock.now()).await
    }

    async fn get_job_groups(&self, query: &GroupQuery) -> Result<Vec<JobGroup>> {
        let tables = self.snapshot(Operation::GetJobGroups).await?;
        read::groups(&tables, query).await
    }

    async fn get_job_spec(&self, job_id: &str) -> Result<JobSpec> {
        let operation = Operation::GetJobSpec;
        let tables = self.snapshot(operation).await?;
        let spec = existing_job(&tables, job_id).and_then(|id| tables.records.specs.get(&id));
        spec.cloned().map(JobSpec::from).ok_or_else(|| not_found(operation, "spec", "job", job_id))
    }

    async fn get_job_error(&self, job_id: &str) -> Result<String> {
        let operation = Operation::GetJobError;
        let tables = self.snapshot(operation).await?;
        let error = existing_job(&tables, job_id)
            .and_then(|id| tables.records.errors.get(&id))
            .ok_or_else(|| not_found(operation, "error", "job", job_id))?;
        Ok(String::from_utf8_lossy(error).into_owned())
    }

    async fn get_job_run_error(&self, run_id: &str) -> Result<String> {
        self.run_message(Operation::GetJobRunError, "error", run_id, |cells| &cells.error).await
    }

    async fn get_job_run_debug_message(&self, run_id: &str) -> Result<String> {
        self.run_message(Operation::GetJobRunDebugMessage, "debug message", run_id, |cells| &cells.debug).await
    }

    async fn populate_historical_jobs(&self, jobs: &HistoricalJobs, progress: ProgressFn<'_>) -> Result<()> {
        let operation = Operation::PopulateHistoricalJobs;
        let total = jobs.count();
        let mut done: u64 = 0;
        loop {
            self.check_open(operation)?;
            let end = total.min(done.saturating_add(jobs.chunk_size()));
            self.check_memory(operation, (end - done).saturating_mul((JOB_BYTES + RUN_BYTES) as u64)).await?;
            let populated = if end - done <= LARGE_BATCH as u64 {
                consume_budget_for((end - done) as usize, QUERIES_PER_UNIT).await;
                self.engine.write(|store| store.populate(jobs, done..end)).await
            } else {
                let jobs = jobs.clone();
                self.engine.write_blocking(move |store| store.populate(&jobs, done..end)).await
            };
            populated.unwrap_or_else(|| Err(not_initialised(operation)))?;
            if done == 0 {
                progress(Progress { done, total });
            }
            done = end;
            progress(Progress { done, total });
            if done == total {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    async fn export(&self, after: Option<&str>) -> Result<Parts<'static>> {
        exchange::export(self.snapshot(Operation::Export).await?, after)
    }

    async fn import(&self, part: &Part) -> Result<()> {
        let operation = Operation::Import;
        self.check_open(operation)?;
        self.check_memory(operation, part_bytes(part)).await?;
        let imported = if part.rows() <= LARGE_BATCH {
            consume_budget_for(part.rows(), QUERIES_PER_UNIT).await;
            self.engine.write(|store| store.import(part)).await
        } else {
            let part = part.clone();
            self.engine.write_blocking(move |store| store.import(&part)).await
        };
        imported.unwrap_or_else(|| Err(not_initialised(operation)))
    }

    async fn store_info(&self) -> Result<StoreInfo> {
        let version = concat!("Broadside ", env!("CARGO_PKG_VERSION")).to_owned();
        let bytes = self.stats().await?.total_bytes();
        Ok(StoreInfo { version: Some(version), bytes: Some(bytes), ..StoreInfo::default() })
    }

    async fn explain(&self, call: &ReadCall) -> Result<Explanation> {
        explain::explain(self, &self.snapshot(Operation::Explain).await?, call).await
    }

    async fn property(&self, key: &str) -> Result<Option<String>> {
        Ok(self.snapshot(Operation::Property).await?.properties.get(key).cloned())
    }

    async fn set_property(&self, key: &str, value: Option<&str>) -> Result<()> {
        self.check_open(Operation::Property)?;
        let set = self.engine.write(|store| store.set_property(key, value)).await;
        set.ok_or_else(|| not_initialised(Operation::Property))
    }

    async fn another_handle(&self) -> Result<Arc<dyn Database>> {
        Ok(Arc::new(self.handle()))
    }

    async fn tear_down(&self) -> Result<()> {
        self.check_open(Operation::TearDown)?;
        if self.engine.clear().await { Ok(()) } else { Err(not_initialised(Operation::TearDown)) }
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        Ok(())
    }
}
