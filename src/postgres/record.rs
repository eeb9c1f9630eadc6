//! Reads of single records: specs, errors and debug messages.

use super::compression::decompress;
use super::connection::Client;
use super::error::Attempt;
use super::layout::{Layout, Relations};
use super::marker::{self, UNSPLIT};
use crate::record::Record;

/// The statement that reads a record; its parameter is the id.
pub(super) fn statement(record: Record, relations: &Relations) -> String {
    let jobs = &relations.jobs;
    match record {
        Record::JobSpec => format!(
            "SELECT coalesce(s.job_spec, j.job_spec) FROM {jobs} AS j LEFT JOIN job_spec AS s ON s.job_id = j.job_id
            WHERE j.job_id = $1"
        ),
        Record::JobError => {
            format!("SELECT e.error FROM {jobs} AS j JOIN job_error AS e ON e.job_id = j.job_id WHERE j.job_id = $1")
        }
        Record::RunError => "SELECT error FROM job_run WHERE run_id = $1".to_owned(),
        Record::RunDebugMessage => "SELECT debug FROM job_run WHERE run_id = $1".to_owned(),
    }
}

/// The bytes of a record; `None` if it does not exist.
pub(super) async fn read(client: Client, layout: Layout, sql: &str, id: &str) -> Attempt<Option<Vec<u8>>> {
    // A job that Lookout's conversion has duplicated has several rows.
    let stored: Vec<Option<Vec<u8>>> = client.column(sql, &[&known_id(id)]).await?;
    let found = stored.into_iter().flatten().find(|stored| !stored.is_empty()).map(decompress).transpose()?;
    // The check is needed only without a record, because a record that was found exists in every layout.
    if found.is_none() && layout == Layout::Lookout && client.column::<bool>(UNSPLIT, &[]).await? != [true] {
        return Err(marker::split());
    }
    Ok(found)
}

/// The id to look up. The protocol cannot send a NUL and no stored id contains one, so such an id is replaced by "",
/// which is not a stored id either. The statement then still checks that the tables exist.
pub(super) fn known_id(id: &str) -> &str {
    if id.contains('\0') { "" } else { id }
}
