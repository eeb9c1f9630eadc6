//! The PostgreSQL backend: Lookout's schema, loaded as Lookout loads it.

mod address;
mod config;
mod connection;
mod database;
mod error;
mod historical;
mod indexes;
mod ingest;
mod layout;
mod partitions;
mod password_file;
mod query;
mod row;
mod schema;
mod staging;
mod tls;

pub(crate) use address::URL_PREFIXES;
pub use config::PostgresConfig;
pub use database::PostgresDatabase;
