//! The plans of reads.

use std::sync::Arc;

use datafusion::error::Result as EngineResult;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use futures::StreamExt;

use super::error::engine_error;
use super::groups::GroupPlan;
use super::plan;
use super::read::TASK_CONTEXT;
use super::storage::Tables;
use crate::database::{ExplainedStatement, Explanation};
use crate::error::{Operation, Result};
use crate::query::{GroupQuery, JobQuery, ReadCall};

/// The plan of a read, with the metrics of its operators. Reads of single records have no plan, because they are
/// lookups by id.
pub(super) async fn explain(tables: &Arc<Tables>, call: &ReadCall) -> Result<Explanation> {
    let look_up = |table: &str, id: &str| (format!("{call:?}"), format!("IdLookup: table={table}, id={id:?}"));
    let (statement, plan) = match call {
        ReadCall::Jobs(query) => ("get_jobs".to_owned(), explained(jobs(tables, query).await)?),
        ReadCall::Groups(query) => ("get_job_groups".to_owned(), explained(groups(tables, query).await)?),
        ReadCall::JobSpec(id) => look_up("job_spec", id),
        ReadCall::JobError(id) => look_up("job_error", id),
        ReadCall::JobRunError(id) | ReadCall::JobRunDebugMessage(id) => look_up("job_run", id),
    };
    Ok(Explanation { statements: vec![ExplainedStatement { statement, plan }] })
}

fn explained(plan: EngineResult<String>) -> Result<String> {
    plan.map_err(|error| engine_error(Operation::Explain, error))
}

/// Executes the plan of a page of jobs and formats it with its metrics.
async fn jobs(tables: &Arc<Tables>, query: &JobQuery) -> EngineResult<String> {
    let plan = plan::jobs(tables, query).await?;
    let mut batches = plan.execute(0, Arc::clone(&TASK_CONTEXT))?;
    while let Some(batch) = batches.next().await {
        batch?;
    }
    Ok(DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(false).to_string())
}

/// Executes the plan of a page of groups and formats it with its metrics.
async fn groups(tables: &Arc<Tables>, query: &GroupQuery) -> EngineResult<String> {
    let plan = GroupPlan::new(tables, query).await?;
    plan.execute().await?;
    Ok(plan.to_string())
}
