//! Queries: the rows of a selection, the first rows of an order, the groups of rows.

mod answer;
mod by_lists;
mod by_zones;
mod columns;
pub(super) mod groups;
mod residual;
mod rows;
mod select;
#[cfg(test)]
mod tests;
mod top_k;
mod totals;

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::UInt32Type;

pub(super) use self::select::Selected;
pub(super) use self::top_k::{Part, ordered_rows};
use super::error::engine_error;
use super::storage::Tables;
use super::{plan, row};
use crate::error::{Operation, Result};
use crate::model::{Job, JobGroup};
use crate::query::{GroupQuery, JobQuery};
use crate::time::Timestamp;

/// A page of jobs of a snapshot.
pub(super) async fn get_jobs(tables: &Arc<Tables>, query: &JobQuery, now: Timestamp) -> Result<Vec<Job>> {
    let batches = plan::run_jobs(tables, query).await.map_err(|error| engine_error(Operation::GetJobs, error))?;
    let mut jobs = Vec::new();
    for batch in &batches {
        let rows = batch.column(0).as_primitive::<UInt32Type>().values();
        // Mostly there is one batch, whose jobs then stay where they are made.
        if jobs.is_empty() { jobs = row::jobs(tables, rows, now) } else { jobs.extend(row::jobs(tables, rows, now)) }
    }
    Ok(jobs)
}

/// A page of groups of a snapshot.
pub(super) async fn get_job_groups(tables: &Arc<Tables>, query: &GroupQuery) -> Result<Vec<JobGroup>> {
    let batches =
        plan::run_groups(tables, query).await.map_err(|error| engine_error(Operation::GetJobGroups, error))?;
    Ok(batches.iter().flat_map(|batch| row::groups(batch, query.aggregates())).collect())
}
