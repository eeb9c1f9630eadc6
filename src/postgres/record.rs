//! Records that are read alone, each by a statement with the id as its parameter.

use super::connection::Client;
use super::error::Attempt;
use super::layout::Layout;
use super::store::{self, UNSPLIT};
use crate::error::Operation;

/// A record that is read alone, by the statement that gives it and its parts' names in `NotFound`.
pub(super) struct Record {
    pub operation: Operation,
    pub what: &'static str,
    pub of: &'static str,
    pub sql: fn(Layout) -> String,
}

pub(super) const JOB_SPEC: Record = Record {
    operation: Operation::GetJobSpec,
    what: "spec",
    of: "job",
    sql: |layout| {
        let jobs = layout.all_jobs();
        format!(
            "SELECT coalesce(s.job_spec, j.job_spec) FROM {jobs} AS j LEFT JOIN job_spec AS s ON s.job_id = j.job_id
            WHERE j.job_id = $1"
        )
    },
};
pub(super) const JOB_ERROR: Record = Record {
    operation: Operation::GetJobError,
    what: "error",
    of: "job",
    sql: |layout| {
        let jobs = layout.all_jobs();
        format!("SELECT e.error FROM {jobs} AS j JOIN job_error AS e ON e.job_id = j.job_id WHERE j.job_id = $1")
    },
};
pub(super) const RUN_ERROR: Record = Record {
    operation: Operation::GetJobRunError,
    what: "error",
    of: "run",
    sql: |_| "SELECT error FROM job_run WHERE run_id = $1".to_owned(),
};
pub(super) const RUN_DEBUG_MESSAGE: Record = Record {
    operation: Operation::GetJobRunDebugMessage,
    what: "debug message",
    of: "run",
    sql: |_| "SELECT debug FROM job_run WHERE run_id = $1".to_owned(),
};

/// The bytes of a record; none if there are none.
pub(super) async fn read(client: Client, layout: Layout, sql: &str, id: &str) -> Attempt<Option<Vec<u8>>> {
    let statement = client.prepare(sql).await?;
    let row = client.query_opt(&statement, &[&known_id(id)]).await?;
    let found = row.map(|row| row.try_get::<_, Option<Vec<u8>>>(0)).transpose()?.flatten();
    // What is found is right in any layout.
    if found.is_none() && layout == Layout::Lookout && !client.query_one(UNSPLIT, &[]).await?.try_get::<_, bool>(0)? {
        return Err(store::split());
    }
    Ok(found)
}

/// No id holds a NUL character, and the server cannot be asked for one that does; whether
/// there is a schema must be found out all the same, and "" is no id either.
pub(super) fn known_id(id: &str) -> &str {
    if id.contains('\0') { "" } else { id }
}
