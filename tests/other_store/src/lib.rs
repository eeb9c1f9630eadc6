//! A store in hash maps: a minimal implementation of [`Database`] with the semantics of the backends.
//!
//! Every read scans all jobs.

mod groups;
mod jobs;
mod tables;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use broadside::bytes::Bytes;
use broadside::{
    BackendKind, Database, Error, GroupQuery, HistoricalJobs, IngestionBatch, Job, JobGroup, JobQuery, JobSpec,
    Operation, Progress, ProgressFn, Result, SharedClock, async_trait,
};
use tables::Tables;

/// A handle to a store in hash maps.
#[derive(Debug)]
pub struct HashMapStore {
    /// `None` before the schema is initialised.
    tables: Arc<Mutex<Option<Tables>>>,
    clock: SharedClock,
    closed: AtomicBool,
}

impl HashMapStore {
    /// Creates a new store without a schema, and returns a handle.
    pub fn new(clock: SharedClock) -> Self {
        Self { tables: Arc::default(), clock, closed: AtomicBool::new(false) }
    }

    fn with_store<T>(&self, operation: Operation, call: impl FnOnce(&mut Option<Tables>) -> Result<T>) -> Result<T> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed(operation));
        }
        call(&mut self.tables.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_tables<T>(&self, operation: Operation, call: impl FnOnce(&mut Tables) -> T) -> Result<T> {
        self.with_store(operation, |tables| tables.as_mut().map(call).ok_or_else(|| Error::not_initialised(operation)))
    }

    /// A record as a string; `missing` is the error if it does not exist.
    fn text(
        &self,
        operation: Operation,
        missing: Error,
        find: impl FnOnce(&Tables) -> Option<&Bytes>,
    ) -> Result<String> {
        let bytes = self.with_tables(operation, |tables| find(tables).cloned())?;
        Ok(String::from_utf8_lossy(&bytes.ok_or(missing)?).into_owned())
    }
}

#[async_trait]
impl Database for HashMapStore {
    fn backend(&self) -> BackendKind {
        BackendKind::Other("hash maps")
    }

    async fn initialise_schema(&self) -> Result<()> {
        self.with_store(Operation::InitialiseSchema, |tables| {
            tables.get_or_insert_default();
            Ok(())
        })
    }

    async fn execute_ingestion_query_batch(&self, batch: &IngestionBatch) -> Result<()> {
        self.with_tables(Operation::ExecuteIngestionQueryBatch, |tables| tables.apply(batch))
    }

    async fn get_jobs(&self, query: &JobQuery) -> Result<Vec<Job>> {
        let now = self.clock.now();
        self.with_tables(Operation::GetJobs, |tables| tables.page_of_jobs(query, now))
    }

    async fn get_job_groups(&self, query: &GroupQuery) -> Result<Vec<JobGroup>> {
        self.with_tables(Operation::GetJobGroups, |tables| tables.page_of_groups(query))
    }

    async fn get_job_spec(&self, job_id: &str) -> Result<JobSpec> {
        let operation = Operation::GetJobSpec;
        let spec = self.with_tables(operation, |tables| tables.spec(job_id).cloned())?;
        spec.map(JobSpec::from).ok_or_else(|| Error::not_found(operation, "spec", "job", job_id))
    }

    async fn get_job_error(&self, job_id: &str) -> Result<String> {
        let operation = Operation::GetJobError;
        let missing = Error::not_found(operation, "error", "job", job_id);
        self.text(operation, missing, |tables| tables.job_error(job_id))
    }

    async fn get_job_run_error(&self, run_id: &str) -> Result<String> {
        let operation = Operation::GetJobRunError;
        let missing = Error::not_found(operation, "error", "run", run_id);
        self.text(operation, missing, |tables| tables.run_error(run_id))
    }

    async fn get_job_run_debug_message(&self, run_id: &str) -> Result<String> {
        let operation = Operation::GetJobRunDebugMessage;
        let missing = Error::not_found(operation, "debug message", "run", run_id);
        self.text(operation, missing, |tables| tables.run_debug_message(run_id))
    }

    async fn populate_historical_jobs(&self, jobs: &HistoricalJobs, progress: ProgressFn<'_>) -> Result<()> {
        let total = jobs.count();
        progress(Progress { done: 0, total });
        self.with_tables(Operation::PopulateHistoricalJobs, |tables| {
            (0..total).for_each(|i| tables.insert_historical(jobs, i));
        })?;
        progress(Progress { done: total, total });
        Ok(())
    }

    async fn another_handle(&self) -> Result<Arc<dyn Database>> {
        Ok(Arc::new(Self { tables: Arc::clone(&self.tables), ..Self::new(Arc::clone(&self.clock)) }))
    }

    async fn tear_down(&self) -> Result<()> {
        self.with_tables(Operation::TearDown, |tables| *tables = Tables::default())
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        Ok(())
    }
}
