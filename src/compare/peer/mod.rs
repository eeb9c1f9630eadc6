//! Other in-process engines for comparisons with the memory engine: SQLite and DuckDB.
//!
//! Each has suitable tables and indexes, stores the same jobs, and must return the same results. Only the execution of
//! statements is timed, until all rows are fetched, without decoding jobs and groups.

mod answer;
mod cell;
mod duckdb;
mod row;
mod schema;
mod sql;
mod sqlite;

pub use duckdb::DuckDb;
pub use sqlite::Sqlite;
