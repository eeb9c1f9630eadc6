//! The PostgreSQL backend: Lookout's schema, with batches loaded the way Lookout loads them.
//!
//! Each SQL backend has these modules; arrows of dependence point down the table.
//!
//! | module | content |
//! |---|---|
//! | `database` | the trait's implementation |
//! | `scratch` | opening handles; creating, listing and removing scratch stores |
//! | `explain` | the plans of reads |
//! | `historical` | historical jobs, generated inside the server |
//! | `ingest` | batches: the rows to write and the statements that write them |
//! | `query` | pages of jobs and groups as SQL |
//! | `record` | reads of single specs, errors and debug messages |
//! | `schema` | the tables, and the statements that create and clear them |
//! | `marker` | what a store is: its layout and version, and whether Broadside made it |
//! | `connection`, `retry` | connections, timeouts, and which failures are repeated |
//! | `settings` | the server settings that answers rely on |
//! | `row` | rows and values between Rust and the server |
//! | `statement` | SQL text with its parameters |
//! | `error` | driver and server errors as errors of the API |
//! | `layout` | the layouts of the tables |
//! | `address`, `config` | addresses, and the configuration that they contain |
//! | `tests` | the SQL of each kind of query, as snapshots |
//!
//! PostgreSQL alone has `session` and `process` (connection state, and detection of poolers), `tls`, `indexes`
//! (secondary indexes that are dropped during a bulk load) and `partitions` (partitions by day).

mod address;
mod builder;
mod config;
mod connection;
mod database;
mod error;
mod explain;
mod historical;
mod indexes;
mod ingest;
mod layout;
mod marker;
mod partitions;
mod process;
mod query;
mod record;
mod retry;
mod row;
mod schema;
mod scratch;
mod session;
mod settings;
mod statement;
#[cfg(test)]
mod tests;
mod tls;

pub(crate) use address::URL_PREFIXES;
pub use config::{PostgresConfig, SslMode};
pub use database::PostgresDatabase;
pub use layout::Layout;
pub use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts, TargetSessionAttrs};
