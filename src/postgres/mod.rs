//! The PostgreSQL backend: Lookout's schema, loaded as Lookout loads it.

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
mod partitions;
mod password_file;
mod process;
mod query;
mod record;
mod row;
mod schema;
mod scratch;
mod session;
mod settings;
mod staging;
mod store;
mod tls;

pub(crate) use address::URL_PREFIXES;
pub use config::{PostgresConfig, SslMode};
pub use database::PostgresDatabase;
pub use layout::Layout;
pub use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts, TargetSessionAttrs};
