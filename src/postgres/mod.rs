//! The PostgreSQL backend: Lookout's schema, with batches loaded the way Lookout loads them.
//!
//! Each SQL backend has these modules. A module depends only on those below it.
//!
//! | module | content |
//! |---|---|
//! | `database` | the trait's implementation |
//! | `scratch` | opening handles; creating, listing and removing scratch stores |
//! | `activity`, `explain` | the activity of the server, and the plans of reads |
//! | `exchange` | rows in the exchange format |
//! | `historical` | historical jobs, generated in the server |
//! | `ingest` | batches: the rows to write and the statements that write them |
//! | `query` | pages of jobs and groups as SQL |
//! | `record` | reads of single specs, errors and debug messages |
//! | `schema` | the tables, and the statements that create and clear them |
//! | `catalog` | identification of stores by their tables, and the layouts in which they can be read and written |
//! | `marker` | the marker of a store: layout, version and creator |
//! | `connection`, `retry`, `tls` | connections, timeouts, retries and TLS |
//! | `settings` | the server settings that results depend on |
//! | `row` | conversion of rows and values |
//! | `compression` | the compression of specs, errors and debug messages |
//! | `statement` | SQL text with its parameters |
//! | `error` | conversion of errors of the driver and the server |
//! | `layout` | the layouts of the tables |
//! | `address`, `config` | addresses and the configuration |
//! | `tests` | the SQL of each kind of query, as snapshots |
//!
//! PostgreSQL alone has `session` and `process` (connection state, and detection of poolers), `hosts` (the choice of a
//! server among several), `password_file`, `indexes` (secondary indexes that are dropped during a bulk load) and
//! `partitions` (partitions by day).

mod activity;
mod address;
mod catalog;
mod compression;
mod config;
mod connection;
mod database;
mod error;
mod exchange;
mod explain;
mod historical;
mod hosts;
mod indexes;
mod ingest;
mod layout;
mod marker;
mod partitions;
mod password_file;
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
pub use config::PostgresConfig;
