//! Broadside: one async trait over three stores for Armada Lookout.
//!
//! See [`Database`].

#![warn(missing_docs, clippy::unwrap_used)]

pub mod api;
mod base64_bytes;
#[cfg(feature = "clickhouse")]
pub mod clickhouse;
pub mod compare;
mod connect;
mod database;
mod error;
pub mod historical;
pub mod ingest;
pub mod memory;
pub mod model;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod query;
pub mod scenario;
mod time;
pub mod workload;

pub use connect::{CLICKHOUSE_URL_VARIABLE, DatabaseConfig, POSTGRES_URL_VARIABLE, ScratchStore};
pub use database::{Database, Progress, ProgressFn, StoreInfo};
pub use error::{BackendKind, Error, ErrorKind, Operation, Outcome, Result};
pub use historical::{HistoricalJobs, HistoricalJobsParams};
pub use ingest::{IngestionBatch, IngestionQuery};
pub use model::{Job, JobGroup, JobState, Run, RunState};
pub use query::{Filter, GetJobGroupsRequest, GetJobsRequest, GroupQuery, GroupedField, JobQuery, Match, Order};
pub use time::{Clock, ManualClock, SharedClock, SystemClock, Timestamp};

/// Keeps the example of the README true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
