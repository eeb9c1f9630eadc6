//! Export and import of rows in the exchange format.
//!
//! The SQL of both is generated from the schema of the format. A table is read by expressions of its columns, and
//! written from a temporary table with the columns of the format, so that only the server converts between both.

mod export;
mod import;

pub(super) use self::export::export;
pub(super) use self::import::{check, import, submission_times};

use arrow::datatypes::DataType;

use super::catalog::Found;
use super::layout::Layout;
use crate::exchange::Table;

/// The tables with the rows of a table of the format.
fn stored_tables(table: Table, layout: Layout) -> &'static [&'static str] {
    match (table, layout) {
        (Table::Job, Layout::HotColdSplit) => &["job", "job_historical"],
        (Table::Job, _) => &["job"],
        (Table::JobRun, _) => &["job_run"],
        (Table::JobSpec, _) => &["job_spec"],
        (Table::JobError, _) => &["job_error"],
    }
}

/// The name of a column in Lookout's table.
fn stored_column(table: Table, column: &str) -> &str {
    match (table, column) {
        (Table::Job, "job_set") => "jobset",
        (Table::JobRun, "state") => "job_run_state",
        (Table::JobSpec, "spec") => "job_spec",
        (_, same) => same,
    }
}

/// Whether the stored tables have a column. Those of early migrations of Lookout, or of its main branch, lack some.
fn exists(found: &Found, layout: Layout, table: Table, column: &str) -> bool {
    stored_tables(table, layout).iter().all(|stored| found.has(stored, stored_column(table, column)))
}

/// The type of a column of the format.
fn sql_type(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "boolean",
        DataType::Int32 => "integer",
        DataType::Int64 => "bigint",
        DataType::Timestamp(..) => "timestamp",
        DataType::Binary => "bytea",
        DataType::Map(..) => "jsonb",
        _ => "text",
    }
}
