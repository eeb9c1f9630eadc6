//! Pages of jobs, and the runs of their jobs.

use super::selection::Conditions;
use super::{Reads, page};
use crate::clickhouse::statement::{Statement, Values};
use crate::clickhouse::tables::{JOB_COLUMNS, RUN_COLUMNS};
use crate::query::{JobOrder, JobOrderKey, JobQuery};

/// A page of jobs, without their runs.
pub(in crate::clickhouse) fn jobs(reads: Reads, query: &JobQuery) -> Statement {
    let mut values = Values::default();
    let conditions = Conditions::of(reads, query.selection(), &mut values).sql();
    let order = query.order().map(order).unwrap_or_default();
    let page = page(query.page(), &mut values);
    let sql = format!("SELECT {JOB_COLUMNS} FROM job{}{conditions}{order}{page}", reads.merged);
    Statement { sql, values }
}

/// The runs of jobs.
pub(in crate::clickhouse) fn runs<'a>(reads: Reads, job_ids: impl IntoIterator<Item = &'a str>) -> Statement {
    let mut values = Values::default();
    let ids = values.texts(job_ids);
    Statement { sql: format!("SELECT {RUN_COLUMNS} FROM job_run{} WHERE job_id IN {ids}", reads.merged), values }
}

fn order(order: JobOrder) -> String {
    let column = match order.key {
        JobOrderKey::JobId => "job_id",
        JobOrderKey::Queue => "queue",
        JobOrderKey::JobSet => "job_set",
        JobOrderKey::State => "state",
        JobOrderKey::Submitted => "submitted",
        JobOrderKey::LastTransitionTime => "last_transition_seconds",
    };
    // Ties are ordered by id, so that consecutive pages have each job once.
    let ties = if order.key == JobOrderKey::JobId { "" } else { ", job_id" };
    format!(" ORDER BY {column} {}{ties}", order.direction)
}
