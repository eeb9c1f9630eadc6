//! The plans of reads.

use std::sync::Arc;
use std::time::Instant;

use datafusion::error::Result as EngineResult;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::metrics::Time;
use futures::StreamExt;

use super::error::engine_error;
use super::groups::GroupPlan;
use super::plan;
use super::read::TASK_CONTEXT;
use super::storage::Tables;
use crate::database::{Database, ExplainedStatement, Explanation};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::query::{GroupQuery, JobQuery, ReadCall};

/// The plan of a read of a snapshot of the store, with the metrics of its operators. Reads of single records are lookups
/// by id.
pub(super) async fn explain(database: &dyn Database, tables: &Arc<Tables>, call: &ReadCall) -> Result<Explanation> {
    let look_up = async |table: &str, id: &str| {
        let metrics = look_up(database, call).await?;
        Ok::<_, Error>((format!("{call:?}"), format!("IdLookup: table={table}, id={id:?}, {metrics}")))
    };
    let (statement, plan) = match call {
        ReadCall::Jobs(query) => ("get_jobs".to_owned(), explained(jobs(tables, query).await)?),
        ReadCall::Groups(query) => ("get_job_groups".to_owned(), explained(groups(tables, query).await)?),
        ReadCall::JobSpec(id) => look_up("job_spec", id).await?,
        ReadCall::JobError(id) => look_up("job_error", id).await?,
        ReadCall::JobRunError(id) | ReadCall::JobRunDebugMessage(id) => look_up("job_run", id).await?,
    };
    Ok(Explanation { statements: vec![ExplainedStatement { statement, plan }] })
}

/// The metrics of the read of a single record.
async fn look_up(database: &dyn Database, call: &ReadCall) -> Result<String> {
    let (start, elapsed) = (Instant::now(), Time::new());
    let rows = match call.execute(database).await {
        Ok(found) => found.rows(),
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    elapsed.add_elapsed(start);
    Ok(format!("metrics=[output_rows={rows}, elapsed_compute={elapsed}]"))
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
