//! The postgres backend.

use async_trait::async_trait;

use crate::api;
use crate::error::{BackendKind, Result};
use crate::historical::HistoricalJobs;
use crate::ingest::IngestionBatch;
use crate::model::{Job, JobGroup};
use crate::query::{GroupQuery, JobQuery};
use crate::time::SharedClock;
use crate::{Database, ProgressFn};

/// Configuration of the postgres backend.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PostgresConfig {}

/// The postgres backend.
#[derive(Debug)]
pub struct PostgresDatabase {
    _clock: SharedClock,
}

#[async_trait]
impl Database for PostgresDatabase {
    fn backend(&self) -> BackendKind {
        BackendKind::Postgres
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

impl PostgresConfig {
    /// From a URL.
    pub fn from_url(_url: &url::Url) -> Result<Self> {
        unimplemented!()
    }

    /// Opens a handle.
    pub async fn connect(&self, clock: SharedClock) -> Result<PostgresDatabase> {
        Ok(PostgresDatabase { _clock: clock })
    }

    /// Makes a namespace of this name and gives the configuration that leads to it.
    pub async fn create_scratch(&self, _name: &str) -> Result<Self> {
        unimplemented!()
    }

    /// Drops the namespace with all that is in it.
    pub async fn drop_scratch(&self) -> Result<()> {
        unimplemented!()
    }
}

impl PostgresConfig {
    /// From libpq's keys.
    pub fn from_pairs(_pairs: &std::collections::BTreeMap<String, String>) -> Result<Self> {
        unimplemented!()
    }

    /// From libpq's `key=value` text.
    pub fn from_key_values(_text: &str) -> Result<Self> {
        unimplemented!()
    }
}
