//! The embedded engine: Arrow columns, roaring bitmaps and DataFusion plans in one process.
//!
//! | module | what it holds |
//! |---|---|
//! | `storage` | tables of chunks in Arrow's layout, dictionaries, indexes |
//! | `engine` | the one writer and the snapshots of its readers |
//! | `ingest` | how a batch plan changes the tables |
//! | `query` | the rows of a selection, the first rows of an order, groups |
//! | `plan` | DataFusion plans and tables over a snapshot |
//! | `decode` | record batches as jobs, runs and groups |
//! | `read` | reads of a snapshot: plan, batches, decoding |
//! | `schema` | the tables as SQL sees them |
//! | `sql` | statements over a snapshot, and their answers |

mod config;
mod database;
mod decode;
mod engine;
mod error;
mod ingest;
mod plan;
mod query;
mod read;
mod schema;
#[cfg(feature = "sql")]
mod sql;
mod stats;
mod storage;
#[cfg(test)]
mod tests;

pub use config::MemoryConfig;
pub use database::MemoryDatabase;
#[cfg(feature = "sql")]
pub use sql::{SqlAnswer, SqlSession};
pub use stats::{MemoryStats, MemoryUse};
