//! The plans of reads.

use std::sync::Arc;

use datafusion::error::Result as EngineResult;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use futures::StreamExt;

use super::error::engine_error;
use super::plan;
use super::query::GroupKey;
use super::read::TASK_CONTEXT;
use super::storage::Tables;
use crate::database::{ExplainedStatement, Explanation};
use crate::error::{Operation, Result};
use crate::query::ReadCall;

/// The plan of a read, with the metrics of its operators. Reads of single records have no plan, because they are
/// lookups by id.
pub(super) async fn explain(tables: &Arc<Tables>, call: &ReadCall) -> Result<Explanation> {
    let look_up = |table: &str, id: &str| (format!("{call:?}"), format!("IdLookup: table={table}, id={id:?}"));
    let (statement, plan) = match call {
        ReadCall::Jobs(query) => ("get_jobs".to_owned(), analyzed(plan::jobs(tables, query).await).await?),
        ReadCall::Groups(query) => {
            let key = GroupKey::new(tables, query.group_by());
            ("get_job_groups".to_owned(), analyzed(plan::groups(tables, query, &key).await).await?)
        }
        ReadCall::JobSpec(id) => look_up("job_spec", id),
        ReadCall::JobError(id) => look_up("job_error", id),
        ReadCall::JobRunError(id) | ReadCall::JobRunDebugMessage(id) => look_up("job_run", id),
    };
    Ok(Explanation { statements: vec![ExplainedStatement { statement, plan }] })
}

/// Executes a plan and formats it with its metrics.
async fn analyzed(plan: EngineResult<Arc<dyn ExecutionPlan>>) -> Result<String> {
    let text = async {
        let plan = plan?;
        let mut batches = plan.execute(0, Arc::clone(&TASK_CONTEXT))?;
        while let Some(batch) = batches.next().await {
            batch?;
        }
        EngineResult::Ok(DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(false).to_string())
    };
    text.await.map_err(|error| engine_error(Operation::Explain, error))
}
