//! The embedded engine: Arrow record batches, roaring bitmaps and DataFusion plans in one process.
//!
//! Each module uses only modules above it:
//!
//! | module | contents |
//! |---|---|
//! | `cost` | the thresholds for the choice of an access path |
//! | `storage` | tables of record batches, dictionaries, indexes |
//! | `ingest` | the changes of the tables by a batch of ingestion |
//! | `limit` | the limit of the size of a store |
//! | `budget` | the memory pool of SQL, and the files to which operators spill |
//! | `engine` | the writer and the snapshots of its readers |
//! | `query` | the rows of a selection, the top k rows of an order, the accumulators of groups |
//! | `schema` | the SQL tables: schemas and columns |
//! | `plan` | DataFusion plans and table providers over a snapshot |
//! | `groups` | groups of jobs, with their aggregates |
//! | `row` | jobs and runs from record batches |
//! | `read` | reads of a snapshot: plan, execute, decode |
//! | `explain` | the plans of reads, with the metrics of their operators |
//! | `exchange` | exports of a snapshot |
//! | `sql_planner`, `sql_names`, `sql_cancel`, `sql` | sessions that plan and execute SQL over a snapshot |
//! | `database` | the implementation of the trait |

mod budget;
mod cost;
mod database;
mod engine;
mod error;
mod exchange;
mod explain;
mod groups;
mod ingest;
mod limit;
mod plan;
mod query;
mod read;
mod row;
mod schema;
#[cfg(feature = "sql")]
mod sql;
#[cfg(feature = "sql")]
mod sql_cancel;
#[cfg(feature = "sql")]
mod sql_names;
#[cfg(feature = "sql")]
mod sql_planner;
#[cfg(feature = "sql")]
mod sql_syntax;
mod stats;
mod storage;
#[cfg(test)]
mod tests;

pub use database::MemoryDatabase;
#[cfg(feature = "sql")]
pub use sql::{SqlAnswer, SqlSession};
pub use stats::{MemoryStats, MemoryUse};
