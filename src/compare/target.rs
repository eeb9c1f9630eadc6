//! What is compared: anything that takes the workload's batches and answers its queries.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::database::{Database, StoreInfo};
use crate::error::Result;
use crate::ingest::IngestionBatch;
use crate::workload::{Answer, Query};

/// A store that a comparison loads and queries. It times its own work, so that what a driver
/// needs to get at it can be left out.
#[async_trait]
pub trait Target: fmt::Debug + Send + Sync {
    /// What the store is called in tables and results.
    fn name(&self) -> &str;

    /// Whether the store takes updates of jobs that it holds already. If not, it is given
    /// whole lives alone, and the operations that need more are left out.
    fn takes_updates(&self) -> bool {
        true
    }

    /// Applies a batch and gives the time that it took.
    async fn ingest(&self, batch: &IngestionBatch) -> Result<Duration>;

    /// Prepares for reading: called once, after all that is ingested.
    async fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// Runs a query and gives its answer and the time that it took.
    async fn answer(&self, query: &Query) -> Result<(Answer, Duration)>;

    /// What the store says of itself.
    async fn info(&self) -> Result<StoreInfo>;
}

/// A backend of Broadside as a target.
#[derive(Debug)]
pub struct Backend {
    name: String,
    database: Arc<dyn Database>,
}

impl Backend {
    /// A handle to an initialised store, under a name that no other target has.
    pub fn new(name: impl Into<String>, database: Arc<dyn Database>) -> Self {
        Self { name: name.into(), database }
    }
}

#[async_trait]
impl Target for Backend {
    fn name(&self) -> &str {
        &self.name
    }

    async fn ingest(&self, batch: &IngestionBatch) -> Result<Duration> {
        let started = Instant::now();
        self.database.execute_ingestion_query_batch(batch).await?;
        Ok(started.elapsed())
    }

    async fn answer(&self, query: &Query) -> Result<(Answer, Duration)> {
        let started = Instant::now();
        let answer = query.run(self.database.as_ref()).await?;
        Ok((answer, started.elapsed()))
    }

    async fn info(&self) -> Result<StoreInfo> {
        self.database.store_info().await
    }
}
