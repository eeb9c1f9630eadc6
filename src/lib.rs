//! Broadside: one async trait over three stores for Armada Lookout.
//!
//! Lookout keeps and shows the jobs of the batch scheduler Armada, millions of them. Broadside is
//! for those who must choose or change the database under it: the same realistic work goes into
//! each candidate through [`Database`], and what comes out can be compared call by call.
//!
//! Data flows one way, and is validated once, before any backend:
//!
//! | | as it comes | validated | then |
//! |---|---|---|---|
//! | writes | [`IngestionQuery`] | [`IngestionBatch`], the plan of a batch | a backend's `ingest` |
//! | reads | builders, or [JSON](scenario::GetJobsRequest) | [`JobQuery`], [`GroupQuery`] | a backend's `query` |
//!
//! Each backend ([`memory`], `postgres`, `clickhouse`) is a folder of the same shape: `config`,
//! `schema`, `ingest`, `query`, `row` and `error`. [`DatabaseConfig`] leads from a word or a URL to
//! a handle. [`scenario`] reads, runs and writes calls as JSON Lines, [`workload`] makes up jobs and
//! the queries that users run, [`historical`] fills a store with jobs that have ended, and [`load`] tests it
//! under sustained load.
//!
//! ```
//! use std::sync::Arc;
//! use broadside::query::{Direction, JobOrderKey, TextField};
//! use broadside::{Database, DatabaseConfig, JobQuery, SystemClock};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> broadside::Result<()> {
//! let config: DatabaseConfig = "memory".parse()?;
//! let database: Arc<dyn Database> = config.connect(Arc::new(SystemClock)).await?;
//! database.initialise_schema().await?;
//! let newest = JobQuery::new()
//!     .filter(TextField::Queue.equals("risk"))
//!     .order_by(JobOrderKey::Submitted, Direction::Descending)
//!     .limit(100);
//! assert!(database.get_jobs(&newest).await?.is_empty());
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs, clippy::unwrap_used)]

#[cfg(any(feature = "postgres", feature = "clickhouse"))]
mod address;
pub mod api;
mod base64_bytes;
#[cfg(feature = "clickhouse")]
pub mod clickhouse;
#[cfg(feature = "compare")]
pub mod compare;
mod connect;
mod database;
mod error;
pub mod historical;
pub mod ingest;
mod json;
#[cfg(feature = "load")]
pub mod load;
#[cfg(any(feature = "load", feature = "compare"))]
pub mod measure;
pub mod memory;
pub mod model;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod query;
pub mod scenario;
mod time;
mod traced;
pub mod workload;

pub use connect::{CLICKHOUSE_URL_VARIABLE, DatabaseConfig, POSTGRES_URL_VARIABLE, ScratchInfo, ScratchStore};
pub use database::{Database, ExplainedStatement, Explanation, Progress, ProgressFn, StoreInfo};
pub use error::{BackendKind, Error, ErrorKind, Operation, Outcome, Result};
pub use historical::{HistoricalJobs, HistoricalJobsParams};
pub use ingest::{IngestionBatch, IngestionQuery};
pub use model::{Annotations, Job, JobGroup, JobState, Run, RunState};
pub use query::{GroupQuery, JobQuery, ReadCall};
pub use smol_str::SmolStr;
pub use time::{Clock, ManualClock, SharedClock, SystemClock, Timestamp};

// The crates whose types are in the public API.
pub use async_trait::async_trait;
#[cfg(feature = "clickhouse")]
pub use url;
pub use {arrow, bytes, datafusion, k8s_pb, prost, prost_types};

/// Keeps the example of the README true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
