//! The embedded engine.

use async_trait::async_trait;

use crate::api;
use crate::error::{BackendKind, Result};
use crate::historical::HistoricalJobs;
use crate::ingest::IngestionBatch;
use crate::model::{Job, JobGroup};
use crate::query::{GroupQuery, JobQuery};
use crate::time::SharedClock;
use crate::{Database, ProgressFn};

/// Configuration of the memory engine.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct MemoryConfig {}

/// The embedded engine.
#[derive(Debug)]
pub struct MemoryDatabase {
    _clock: SharedClock,
}

impl MemoryDatabase {
    /// An empty store without a schema.
    pub fn new(_config: &MemoryConfig, clock: SharedClock) -> Self {
        Self { _clock: clock }
    }
}

#[async_trait]
impl Database for MemoryDatabase {
    fn backend(&self) -> BackendKind {
        BackendKind::Memory
    }
    async fn initialise_schema(&self) -> Result<()> {
        unimplemented!()
    }
    async fn execute_ingestion_query_batch(&self, _batch: &IngestionBatch) -> Result<()> {
        unimplemented!()
    }
    async fn get_jobs(&self, _query: &JobQuery) -> Result<Vec<Job>> {
        unimplemented!()
    }
    async fn get_job_groups(&self, _query: &GroupQuery) -> Result<Vec<JobGroup>> {
        unimplemented!()
    }
    async fn get_job_spec(&self, _job_id: &str) -> Result<api::Job> {
        unimplemented!()
    }
    async fn get_job_error(&self, _job_id: &str) -> Result<String> {
        unimplemented!()
    }
    async fn get_job_run_error(&self, _run_id: &str) -> Result<String> {
        unimplemented!()
    }
    async fn get_job_run_debug_message(&self, _run_id: &str) -> Result<String> {
        unimplemented!()
    }
    async fn populate_historical_jobs(&self, _jobs: &HistoricalJobs, _progress: ProgressFn<'_>) -> Result<()> {
        unimplemented!()
    }
    async fn tear_down(&self) -> Result<()> {
        unimplemented!()
    }
    async fn close(&self) -> Result<()> {
        unimplemented!()
    }
}
