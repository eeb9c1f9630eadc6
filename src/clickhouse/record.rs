//! Reads of single records: specs, errors, debug messages and properties.

use super::statement::{Statement, Values};
use super::tables::{STORE, local};
use crate::record::Record;

/// The statement that reads the record with an id.
pub(super) fn statement(record: Record, id: &str) -> Statement {
    match record {
        Record::JobSpec => of_job("job_spec", id),
        Record::JobError => of_job("job_error", id),
        Record::RunError => of_run("error", id),
        Record::RunDebugMessage => of_run("debug", id),
    }
}

/// A record of an existing job.
fn of_job(table: &str, job_id: &str) -> Statement {
    let mut values = Values::default();
    let id = values.text(job_id);
    let sql = format!(
        "SELECT value FROM {table} WHERE job_id = {id} \
         AND (SELECT count() FROM job WHERE job_id = {id}) > 0 ORDER BY version DESC LIMIT 1"
    );
    Statement { sql, values }
}

/// The error or debug message of a run.
fn of_run(column: &str, run_id: &str) -> Statement {
    let mut values = Values::default();
    let id = values.text(run_id);
    let sql = format!("SELECT {column} AS value FROM job_run WHERE run_id = {id} ORDER BY version DESC LIMIT 1");
    Statement { sql, values }
}

/// The statement that reads a property of the store.
pub(super) fn property(key: &str) -> Statement {
    let mut values = Values::default();
    let key = values.text(key);
    let sql = format!("SELECT value FROM {STORE} WHERE key = {key} ORDER BY version DESC LIMIT 1");
    Statement { sql, values }
}

/// The statement that deletes all versions of a property.
pub(super) fn delete_property(key: &str, cluster: Option<&str>) -> Statement {
    let mut values = Values::default();
    let key = values.text(key);
    Statement { sql: format!("DELETE FROM {} WHERE key = {key}", local(STORE, cluster)), values }
}
