//! The implementation of [`Database`] by the model.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use broadside::scenario::{Call, GetJobGroupsRequest, GetJobsRequest, Response};
use broadside::{
    BackendKind, Database, Error, ErrorKind, GroupQuery, HistoricalJobs, IngestionBatch, IngestionQuery, Job, JobGroup,
    JobQuery, JobSpec, ManualClock, Operation, Progress, ProgressFn, Result, SmolStr,
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::read::OrderKey;
use super::requests::{groups_request, jobs_request};
use super::{NaiveModel, Store, validity};

impl NaiveModel {
    /// Executes the queries of a batch instead of its plan.
    ///
    /// # Errors
    ///
    /// As the call of [`Database`] and its validation.
    pub fn ingest(&self, queries: &[IngestionQuery]) -> Result<()> {
        agreed(validity::batch(queries), IngestionBatch::new(queries.iter().cloned()))?;
        self.with_store(Operation::ExecuteIngestionQueryBatch, |store| store.ingest(queries))
    }

    /// The ids of the jobs that a request selects, without its page, each with its sort key.
    ///
    /// # Errors
    ///
    /// As the call of [`Database`] and its validation.
    pub fn ranked_jobs(&self, request: &GetJobsRequest) -> Result<Vec<(OrderKey, SmolStr)>> {
        agreed(validity::jobs_request(request), JobQuery::try_from(request.clone()))?;
        self.with_store(Operation::GetJobs, |store| store.ranked_jobs(request))
    }

    /// Jobs by their ids, which must exist.
    ///
    /// # Errors
    ///
    /// As the call of [`Database`].
    pub fn jobs(&self, ids: &[SmolStr]) -> Result<Vec<Job>> {
        self.with_store(Operation::GetJobs, |store| store.jobs(ids, self.clock.now()))
    }

    fn page_of_jobs(&self, request: &GetJobsRequest) -> Result<Vec<Job>> {
        self.jobs(&page(self.ranked_jobs(request)?, request.skip, request.take))
    }

    /// The groups of a request, without its page, each with its sort key.
    ///
    /// # Errors
    ///
    /// As the call of [`Database`] and its validation.
    pub fn ranked_groups(&self, request: &GetJobGroupsRequest) -> Result<Vec<(OrderKey, JobGroup)>> {
        agreed(validity::groups_request(request), GroupQuery::try_from(request.clone()))?;
        self.with_store(Operation::GetJobGroups, |store| store.ranked_groups(request))
    }

    /// Executes a call of a scenario with its queries and requests instead of their validated forms.
    pub async fn execute_as_written(&self, call: &Call, clock: &ManualClock) -> Response {
        let value = match call {
            Call::Ingest { queries } => self.ingest(queries).map(Value::from),
            Call::GetJobs(request) => self.page_of_jobs(request).map(|jobs| json!(jobs)),
            Call::GetJobGroups(request) => {
                self.ranked_groups(request).map(|rows| json!(page(rows, request.skip, request.take)))
            }
            _ => return call.execute(self, clock).await,
        };
        value.map_or_else(|error| Response::from(&error), Response::Ok)
    }

    fn with_store<T>(&self, operation: Operation, call: impl FnOnce(&mut Store) -> T) -> Result<T> {
        self.open(operation)?;
        match &mut *self.store.lock() {
            Some(store) => Ok(call(store)),
            None => Err(Error::new(
                ErrorKind::NotInitialised,
                operation,
                "the store has no schema: call InitialiseSchema first",
            )),
        }
    }

    fn open(&self, operation: Operation) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, operation, "the handle is closed"));
        }
        Ok(())
    }

    fn text(
        &self,
        operation: Operation,
        missing: String,
        find: impl FnOnce(&Store) -> Option<Bytes>,
    ) -> Result<String> {
        let bytes = self.with_store(operation, |store| find(store))?;
        let bytes = bytes.ok_or_else(|| Error::new(ErrorKind::NotFound, operation, missing))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The result of validation. Asserts that it agrees with the model's own limits. The scenarios test the messages.
fn agreed<T: std::fmt::Debug>(is_valid: bool, validated: Result<T>) -> Result<()> {
    assert_eq!(validated.is_ok(), is_valid, "validation differs from the limits of the model: {validated:?}");
    validated.map(drop)
}

fn page<T>(rows: Vec<(OrderKey, T)>, skip: i64, take: i64) -> Vec<T> {
    let at_most = if take == 0 { usize::MAX } else { take.try_into().unwrap() };
    rows.into_iter().skip(skip.try_into().unwrap()).take(at_most).map(|(_, row)| row).collect()
}

#[async_trait]
impl Database for NaiveModel {
    fn backend(&self) -> BackendKind {
        BackendKind::Other("model")
    }

    async fn initialise_schema(&self) -> Result<()> {
        self.open(Operation::InitialiseSchema)?;
        self.store.lock().get_or_insert_default();
        Ok(())
    }

    async fn execute_ingestion_query_batch(&self, batch: &IngestionBatch) -> Result<()> {
        self.with_store(Operation::ExecuteIngestionQueryBatch, |store| store.apply(batch))
    }

    async fn get_jobs(&self, query: &JobQuery) -> Result<Vec<Job>> {
        self.page_of_jobs(&jobs_request(query))
    }

    async fn get_job_groups(&self, query: &GroupQuery) -> Result<Vec<JobGroup>> {
        let request = groups_request(query);
        Ok(page(self.ranked_groups(&request)?, request.skip, request.take))
    }

    async fn get_job_spec(&self, job_id: &str) -> Result<JobSpec> {
        let operation = Operation::GetJobSpec;
        let spec = self.with_store(operation, |store| {
            store.jobs.get(job_id)?;
            store.specs.get(job_id).cloned()
        })?;
        let missing = || Error::new(ErrorKind::NotFound, operation, format!("no spec for job {job_id:?}"));
        spec.map(JobSpec::from).ok_or_else(missing)
    }

    async fn get_job_error(&self, job_id: &str) -> Result<String> {
        self.text(Operation::GetJobError, format!("no error for job {job_id:?}"), |store| {
            store.jobs.get(job_id)?;
            store.errors.get(job_id).cloned()
        })
    }

    async fn get_job_run_error(&self, run_id: &str) -> Result<String> {
        self.text(Operation::GetJobRunError, format!("no error for run {run_id:?}"), |store| {
            store.runs.get(run_id)?.error.clone()
        })
    }

    async fn get_job_run_debug_message(&self, run_id: &str) -> Result<String> {
        self.text(Operation::GetJobRunDebugMessage, format!("no debug message for run {run_id:?}"), |store| {
            store.runs.get(run_id)?.debug.clone()
        })
    }

    async fn populate_historical_jobs(&self, jobs: &HistoricalJobs, progress: ProgressFn<'_>) -> Result<()> {
        let total = jobs.count();
        self.with_store(Operation::PopulateHistoricalJobs, |store| {
            progress(Progress { done: 0, total });
            (0..total).for_each(|i| store.insert_historical_job(jobs, i));
            progress(Progress { done: total, total });
        })
    }

    async fn another_handle(&self) -> Result<Arc<dyn Database>> {
        Ok(Arc::new(self.handle()))
    }

    async fn tear_down(&self) -> Result<()> {
        self.with_store(Operation::TearDown, |store| *store = Store::default())
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        Ok(())
    }
}
