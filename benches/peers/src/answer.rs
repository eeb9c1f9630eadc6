//! Execution of the workload's queries by an SQL engine.

use std::collections::HashMap;
use std::time::Duration;

use smol_str::SmolStr;

use crate::cell::Cell;
use crate::row::Columns;
use crate::sql::{self, Dialect, Statement};
use broadside::Timestamp;
use broadside::model::Run;
use broadside::workload::Record;
use broadside::{Error, ReadCall, ReadResult, Result};

/// An engine that executes SQL.
pub(super) trait SqlEngine {
    const DIALECT: Dialect;

    /// The rows of a statement, and the time to execute it and fetch them.
    fn rows(&self, statement: &Statement) -> Result<(Vec<Vec<Cell>>, Duration)>;
}

/// Executes a query of the workload. Returns the result and the time of the statements.
pub(super) fn answer<E: SqlEngine>(engine: &E, query: &ReadCall, now: Timestamp) -> Result<(ReadResult, Duration)> {
    match query {
        ReadCall::Jobs(query) => jobs(engine, &sql::jobs(query, E::DIALECT), now),
        ReadCall::Groups(query) => {
            let (rows, time) = engine.rows(&sql::groups(query, E::DIALECT))?;
            let groups = rows.into_iter().map(|row| Columns::new(row).group(query));
            Ok((ReadResult::Groups(groups.collect::<Result<_>>()?), time))
        }
        ReadCall::JobSpec(id) => single(engine, query, Record::Spec, id),
        ReadCall::JobError(id) => single(engine, query, Record::Error, id),
        ReadCall::JobRunError(id) => single(engine, query, Record::RunError, id),
        ReadCall::JobRunDebugMessage(id) => single(engine, query, Record::RunDebugMessage, id),
        other => unreachable!("{other:?} is no query of a workload"),
    }
}

/// The jobs of a statement with their runs.
fn jobs(engine: &impl SqlEngine, statement: &Statement, now: Timestamp) -> Result<(ReadResult, Duration)> {
    let (rows, time) = engine.rows(statement)?;
    let mut jobs = rows.into_iter().map(|row| Columns::new(row).job()).collect::<Result<Vec<_>>>()?;
    if jobs.is_empty() {
        return Ok((ReadResult::Jobs(jobs), time));
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
    Ok((ReadResult::Jobs(jobs), time + time_of_runs))
}

fn single(engine: &impl SqlEngine, call: &ReadCall, record: Record, id: &str) -> Result<(ReadResult, Duration)> {
    let (what, of) = match record {
        Record::Spec => ("spec", "job"),
        Record::Error => ("error", "job"),
        Record::RunError => ("error", "run"),
        Record::RunDebugMessage => ("debug message", "run"),
    };
    let (rows, time) = engine.rows(&sql::record(record, id))?;
    let bytes = match rows.into_iter().next().and_then(|row| row.into_iter().next()) {
        Some(Cell::Bytes(bytes)) => bytes,
        Some(Cell::Text(text)) => text.into_bytes(),
        _ => return Err(Error::not_found(call.operation(), what, of, id)),
    };
    let answer = match record {
        Record::Spec => ReadResult::Spec(bytes.into()),
        _ => ReadResult::Text(String::from_utf8_lossy(&bytes).into_owned()),
    };
    Ok((answer, time))
}
