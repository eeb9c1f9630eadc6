//! Pages of jobs.

use super::selection::{LatestRun, from_where};
use crate::postgres::config::Queries;
use crate::postgres::layout::Relations;
use crate::postgres::row::{JOB_COLUMNS, RUN_COLUMNS};
use crate::postgres::statement::{Statement, Values};
use crate::query::{Direction, JobOrder, JobOrderKey, JobQuery, Predicate, TextField, TextTest};

/// A page of jobs, each with all its runs, in one statement and therefore one snapshot.
pub(in crate::postgres) fn jobs(query: &JobQuery, relations: &Relations, queries: Queries) -> Statement {
    let mut values = Values::default();
    let selection = query.selection();
    let latest_run = if selection.uses_latest_run() { LatestRun::Required } else { LatestRun::Unused };
    let source = from_where(selection, None, relations, queries, latest_run, &mut values);
    let page = values.page(query.page());
    let sql = format!(
        "SELECT {}, runs.list\nFROM (\nSELECT {}, j.last_transition_time_seconds{source}{}{page}\n) AS page\n\
         CROSS JOIN LATERAL (\nSELECT json_agg(json_build_array({})) AS list\nFROM {} AS r\n\
         WHERE r.job_id = page.job_id\n) AS runs{}",
        columns("page", JOB_COLUMNS),
        columns("j", JOB_COLUMNS),
        order("j", query, queries),
        columns("r", RUN_COLUMNS),
        relations.runs,
        order("page", query, queries),
    );
    Statement { sql, values }
}

fn columns(table: &str, columns: &[&str]) -> String {
    columns.iter().map(|column| format!("{table}.{column}")).collect::<Vec<_>>().join(", ")
}

/// An order that an index has. Texts are ordered by bytes in databases of any collation.
fn order(table: &str, query: &JobQuery, queries: Queries) -> String {
    let Some(JobOrder { key, direction }) = query.order() else { return String::new() };
    let lookouts = match key {
        JobOrderKey::JobId => "job_id",
        JobOrderKey::Queue => "queue",
        JobOrderKey::JobSet => "jobset",
        JobOrderKey::State => "state",
        JobOrderKey::Submitted => "submitted",
        JobOrderKey::LastTransitionTime => "last_transition_time_seconds",
    };
    // For one queue, the indexes that begin with the queue have these orders.
    let order = match (queries, key) {
        (Queries::Lookout, _) => format!("{lookouts} {direction}"),
        // Ties of this index are ordered by id, so that consecutive pages have each job once.
        (_, JobOrderKey::LastTransitionTime) if !is_of_one_queue(query) => {
            format!("last_transition_time {direction}, {table}.job_id {direction}")
        }
        (_, JobOrderKey::JobSet) if !is_of_one_queue(query) => match direction {
            Direction::Ascending => "jobset USING ~<~".to_owned(),
            Direction::Descending => "jobset USING ~>~".to_owned(),
        },
        (_, JobOrderKey::JobId | JobOrderKey::Queue | JobOrderKey::JobSet) => {
            format!("{lookouts} COLLATE \"C\" {direction}")
        }
        (_, JobOrderKey::State | JobOrderKey::Submitted | JobOrderKey::LastTransitionTime) => {
            format!("{lookouts} {direction}")
        }
    };
    format!("\nORDER BY {table}.{order}")
}

fn is_of_one_queue(query: &JobQuery) -> bool {
    let is_exact = |predicate: &Predicate| matches!(predicate, Predicate::Text(TextField::Queue, TextTest::Exact(_)));
    query.selection().predicates().iter().any(is_exact)
}
