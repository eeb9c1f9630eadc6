//! A store whose writes and reads fail, wait or lose data.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use broadside::{
    Activity, BackendKind, Database, GroupQuery, HistoricalJobs, IngestionBatch, Job, JobGroup, JobQuery, JobSpec,
    Progress, ReadCall, Result,
};

use super::backends::Backend;

/// A fault of a store.
#[async_trait]
pub trait Fault: Debug + Send + Sync {
    /// Executes a batch.
    async fn batch(&self, store: &dyn Database, batch: &IngestionBatch) -> Result<()> {
        store.execute_ingestion_query_batch(batch).await
    }

    /// Reads the activity of the server.
    async fn activity(&self, store: &dyn Database) -> Result<Activity> {
        store.activity().await
    }

    /// Called before each read.
    async fn read(&self, call: ReadCall) -> Result<()> {
        drop(call);
        Ok(())
    }
}

/// A store with a fault. It has no properties.
#[derive(Debug)]
pub struct Faulty<F> {
    inner: Arc<dyn Database>,
    fault: Arc<F>,
}

impl<F> Faulty<F> {
    /// The memory engine with a fault.
    pub async fn memory(fault: Arc<F>) -> Self {
        Self { inner: Backend::MEMORY.open().await.unwrap().database.clone(), fault }
    }
}

#[async_trait]
impl<F: Fault + 'static> Database for Faulty<F> {
    fn backend(&self) -> BackendKind {
        self.inner.backend()
    }

    async fn initialise_schema(&self) -> Result<()> {
        self.inner.initialise_schema().await
    }

    async fn execute_ingestion_query_batch(&self, batch: &IngestionBatch) -> Result<()> {
        self.fault.batch(&*self.inner, batch).await
    }

    async fn get_jobs(&self, query: &JobQuery) -> Result<Vec<Job>> {
        self.fault.read(ReadCall::Jobs(query.clone())).await?;
        self.inner.get_jobs(query).await
    }

    async fn get_job_groups(&self, query: &GroupQuery) -> Result<Vec<JobGroup>> {
        self.fault.read(ReadCall::Groups(query.clone())).await?;
        self.inner.get_job_groups(query).await
    }

    async fn get_job_spec(&self, job_id: &str) -> Result<JobSpec> {
        self.fault.read(ReadCall::JobSpec(job_id.to_owned())).await?;
        self.inner.get_job_spec(job_id).await
    }

    async fn get_job_error(&self, job_id: &str) -> Result<String> {
        self.inner.get_job_error(job_id).await
    }

    async fn get_job_run_error(&self, run_id: &str) -> Result<String> {
        self.inner.get_job_run_error(run_id).await
    }

    async fn get_job_run_debug_message(&self, run_id: &str) -> Result<String> {
        self.inner.get_job_run_debug_message(run_id).await
    }

    async fn populate_historical_jobs(
        &self,
        jobs: &HistoricalJobs,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<()> {
        self.inner.populate_historical_jobs(jobs, progress).await
    }

    async fn activity(&self) -> Result<Activity> {
        self.fault.activity(&*self.inner).await
    }

    async fn another_handle(&self) -> Result<Arc<dyn Database>> {
        Ok(Arc::new(Self { inner: self.inner.another_handle().await?, fault: self.fault.clone() }))
    }

    async fn tear_down(&self) -> Result<()> {
        self.inner.tear_down().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
