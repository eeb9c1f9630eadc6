//! Broadside: one async trait with three implementations for the job store of Armada Lookout.
//!
//! Lookout stores and displays the jobs of the batch scheduler Armada. Broadside is for choosing or changing the
//! database behind it: [`Database`] is the interface of the store, implemented by an embedded engine (`memory`), by
//! PostgreSQL with Lookout's schema (`postgres`) and by ClickHouse (`clickhouse`). All of them return the same results.
//!
//! Start with [`connect()`], which opens a handle. Write with an [`IngestionBatch`] of [ingestion
//! queries](ingest), and read with a [`JobQuery`] or a [`GroupQuery`]. Both are validated before they reach a store:
//!
//! | | input | validated | executed by |
//! |---|---|---|---|
//! | writes | [`IngestionQuery`] | [`IngestionBatch`], the plan of a batch | [`Database::execute_ingestion_query_batch`] |
//! | reads | builders, or [JSON](scenario::GetJobsRequest) | [`JobQuery`], [`GroupQuery`] | [`Database::get_jobs`], [`Database::get_job_groups`] |
//!
//! | module | contents |
//! |---|---|
//! | [`query`], [`ingest`], [`model`] | the arguments and results of the calls |
//! | [`scenario`] | calls and their expected responses as JSON Lines |
//! | [`workload`] | generated jobs, and the queries of Lookout's users |
//! | [`historical`] | terminal jobs that a store generates itself |
//! | `load` (feature) | load tests |
//! | `compare` (feature) | comparisons of stores |
//!
//! ```
//! use broadside::JobQuery;
//! use broadside::query::{Direction, JobOrderKey, TextField};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> broadside::Result<()> {
//! let database = broadside::connect("memory").await?;
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
pub mod exchange;
pub mod historical;
pub mod ingest;
mod json;
#[cfg(feature = "load")]
pub mod load;
#[cfg(any(feature = "load", feature = "compare"))]
pub mod measure;
#[cfg(feature = "memory")]
pub mod memory;
pub mod model;
#[cfg(any(feature = "postgres", feature = "clickhouse"))]
mod odd_values;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod query;
#[cfg(any(feature = "postgres", feature = "clickhouse"))]
mod record;
pub mod scenario;
mod time;
#[cfg(any(feature = "postgres", feature = "clickhouse"))]
mod tls;
mod traced;
pub mod workload;

pub use api::JobSpec;
pub use connect::{CLICKHOUSE_URL_VARIABLE, DatabaseConfig, POSTGRES_URL_VARIABLE, ScratchInfo, ScratchStore, connect};
pub use database::{Activity, Database, DatabaseExt, ExplainedStatement, Explanation, Progress, ProgressFn, StoreInfo};
pub use error::{BackendKind, Error, ErrorKind, Operation, Outcome, Result};
pub use historical::{HistoricalJobs, HistoricalJobsParams};
pub use ingest::{IngestionBatch, IngestionQuery};
pub use model::{Annotations, Job, JobGroup, JobState, Run, RunState};
pub use query::{GroupQuery, JobQuery, ReadCall, ReadResult};
pub use smol_str::SmolStr;
pub use time::{Clock, ManualClock, SharedClock, SystemClock, Timestamp};

// The crates whose types are in the public API.
pub use async_trait::async_trait;
#[cfg(feature = "memory")]
pub use datafusion;
#[cfg(feature = "load")]
pub use tokio;
pub use {arrow, bytes, k8s_pb, prost, prost_types, serde_json};

/// Runs the example of the README as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
