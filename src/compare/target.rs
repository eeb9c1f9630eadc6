//! The interface of a compared store.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::database::{Database, StoreInfo};
use crate::error::Result;
use crate::ingest::IngestionBatch;
use crate::query::{ReadCall, ReadResult};

/// A store that a comparison loads and queries. It measures its own time, so that it can exclude the overhead of its
/// driver.
#[async_trait]
pub trait Target: fmt::Debug + Send + Sync {
    /// The name in tables and results.
    fn name(&self) -> &str;

    /// Whether the store supports updates of stored jobs. If not, it ingests only complete lifecycles, and the other
    /// ingestions are omitted.
    fn supports_updates(&self) -> bool {
        true
    }

    /// Applies a batch and returns the elapsed time.
    async fn ingest(&self, batch: &IngestionBatch) -> Result<Duration>;

    /// Completes the ingestion, for example by building indexes or statistics. Called once, before the first query.
    async fn finish_ingestion(&self) -> Result<()> {
        Ok(())
    }

    /// Executes a query and returns its result and the elapsed time.
    async fn answer(&self, query: &ReadCall) -> Result<(ReadResult, Duration)>;

    /// The version and the size of the store.
    async fn info(&self) -> Result<StoreInfo>;
}

/// A backend of Broadside as a target.
#[derive(Debug)]
pub struct Backend {
    name: String,
    database: Arc<dyn Database>,
}

impl Backend {
    /// Creates a target from a handle to an initialised store, with a unique name.
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

    async fn finish_ingestion(&self) -> Result<()> {
        self.database.analyse().await
    }

    async fn answer(&self, query: &ReadCall) -> Result<(ReadResult, Duration)> {
        let started = Instant::now();
        let answer = query.execute(self.database.as_ref()).await?;
        Ok((answer, started.elapsed()))
    }

    async fn info(&self) -> Result<StoreInfo> {
        self.database.store_info().await
    }
}
