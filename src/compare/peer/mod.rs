//! Other in-process engines to compare the memory engine with: SQLite and DuckDB.
//!
//! Each has the tables and indexes that an expert would choose, holds the same jobs and must give
//! the same answers. Only the engine's own work is timed, statement by statement until its rows are
//! fetched; decoding jobs and groups from the rows is not.

mod duckdb;
mod row;
mod schema;
mod sql;
mod sqlite;

pub use duckdb::DuckDb;
pub use sqlite::Sqlite;

use std::collections::HashMap;
use std::time::Duration;

use prost::Message;
use smol_str::SmolStr;

use self::row::Columns;
use self::sql::{Dialect, Statement};
use crate::api;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::Run;
use crate::time::Timestamp;
use crate::workload::{Answer, Query, Record};

/// A value of a column or a parameter.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<i64> for Cell {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl From<Timestamp> for Cell {
    fn from(time: Timestamp) -> Self {
        Self::Integer(time.as_micros())
    }
}

/// An engine that takes SQL.
trait SqlEngine {
    const DIALECT: Dialect;

    /// The rows of a statement, and the time until they were fetched.
    fn rows(&self, statement: &Statement) -> Result<(Vec<Vec<Cell>>, Duration)>;
}

/// Answers a query of the workload.
fn answer<E: SqlEngine>(engine: &E, query: &Query, now: Timestamp) -> Result<(Answer, Duration)> {
    match query {
        Query::Jobs(query) => jobs(engine, &sql::jobs(query, E::DIALECT), now),
        Query::Groups(query) => {
            let (rows, time) = engine.rows(&sql::groups(query, E::DIALECT))?;
            let groups = rows.into_iter().map(|row| Columns::new(row).group(query));
            Ok((Answer::Groups(groups.collect::<Result<_>>()?), time))
        }
        Query::Record(record, id) => single(engine, *record, id),
    }
}

/// The jobs of a statement, with their runs.
fn jobs(engine: &impl SqlEngine, statement: &Statement, now: Timestamp) -> Result<(Answer, Duration)> {
    let (rows, time) = engine.rows(statement)?;
    let mut jobs = rows.into_iter().map(|row| Columns::new(row).job()).collect::<Result<Vec<_>>>()?;
    if jobs.is_empty() {
        return Ok((Answer::Jobs(jobs), time));
    }
    let (rows, time_of_runs) = engine.rows(&sql::runs(jobs.iter().map(|job| job.job_id.as_str())))?;
    let mut runs: HashMap<SmolStr, Vec<Run>> = HashMap::new();
    for row in rows {
        let (job_id, run) = Columns::new(row).run()?;
        runs.entry(job_id).or_default().push(run);
    }
    for job in &mut jobs {
        job.attach_runs(runs.remove(&job.job_id).unwrap_or_default(), now);
    }
    Ok((Answer::Jobs(jobs), time + time_of_runs))
}

fn single(engine: &impl SqlEngine, record: Record, id: &str) -> Result<(Answer, Duration)> {
    let (operation, what, of) = match record {
        Record::Spec => (Operation::GetJobSpec, "spec", "job"),
        Record::Error => (Operation::GetJobError, "error", "job"),
        Record::RunError => (Operation::GetJobRunError, "error", "run"),
        Record::RunDebugMessage => (Operation::GetJobRunDebugMessage, "debug message", "run"),
    };
    let (rows, time) = engine.rows(&sql::record(record, id))?;
    let bytes = match rows.into_iter().next().and_then(|row| row.into_iter().next()) {
        Some(Cell::Bytes(bytes)) => bytes,
        Some(Cell::Text(text)) => text.into_bytes(),
        _ => return Err(Error::not_found(operation, what, of, id)),
    };
    let answer = match record {
        Record::Spec => Answer::Spec(Box::new(api::Job::decode(bytes.as_slice()).map_err(|error| failed(&error))?)),
        _ => Answer::Text(String::from_utf8_lossy(&bytes).into_owned()),
    };
    Ok((answer, time))
}

/// Wraps the error of an engine.
fn failed(problem: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Backend, Operation::Connect, problem.to_string())
}
