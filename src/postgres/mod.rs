//! The PostgreSQL backend: Lookout's schema, loaded as Lookout loads it.

mod config;
mod connection;
mod database;
mod error;
mod historical;
mod indexes;
mod ingest;
mod layout;
mod partitions;
mod query;
mod row;
mod schema;
mod staging;
mod tls;

pub use config::PostgresConfig;
pub use database::PostgresDatabase;
