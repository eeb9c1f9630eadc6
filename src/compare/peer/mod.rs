//! Other in-process engines to compare the memory engine with: SQLite and DuckDB.
//!
//! Each has the tables and indexes that an expert would choose, stores the same jobs and must return the same answers.
//! Only the engine's work is timed: each statement until its rows are fetched, without decoding jobs and groups from the
//! rows.

mod answer;
mod cell;
mod duckdb;
mod row;
mod schema;
mod sql;
mod sqlite;

pub use duckdb::DuckDb;
pub use sqlite::Sqlite;
