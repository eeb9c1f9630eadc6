//! Reads of a snapshot: plan, execute, decode.

use std::sync::{Arc, LazyLock};

use datafusion::error::Result as EngineResult;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use futures::StreamExt;

use super::error::engine_error;
use super::query::{GroupKey, consume_budget_for};
use super::storage::Tables;
use super::{decode, plan};
use crate::error::{Operation, Result};
use crate::model::{Job, JobGroup};
use crate::query::{GroupQuery, JobQuery};
use crate::time::Timestamp;

/// The context of every plan. The plans use no memory pool, disk or object store.
static TASK_CONTEXT: LazyLock<Arc<TaskContext>> = LazyLock::new(Arc::default);

/// Jobs that are decoded per unit of budget.
const JOBS_PER_UNIT: usize = 64;

/// A page of jobs of a snapshot.
pub(super) async fn jobs(tables: &Arc<Tables>, query: &JobQuery, now: Timestamp) -> Result<Vec<Job>> {
    let jobs = async {
        let mut batches = plan::jobs(tables, query).await?.execute(0, Arc::clone(&TASK_CONTEXT))?;
        let mut jobs = Vec::new();
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let decoded = decode::jobs(tables, &batch, now);
            // There is mostly one batch: keep its vector.
            if jobs.is_empty() {
                jobs = decoded
            } else {
                jobs.extend(decoded)
            }
            consume_budget_for(batch.num_rows(), JOBS_PER_UNIT).await;
        }
        EngineResult::Ok(jobs)
    };
    jobs.await.map_err(|error| engine_error(Operation::GetJobs, error))
}

/// A page of groups of a snapshot.
pub(super) async fn groups(tables: &Arc<Tables>, query: &GroupQuery) -> Result<Vec<JobGroup>> {
    let key = GroupKey::new(tables, query.group_by());
    let groups = async {
        let mut batches = plan::groups(tables, query, &key).await?.execute(0, Arc::clone(&TASK_CONTEXT))?;
        let mut groups = Vec::new();
        while let Some(batch) = batches.next().await {
            groups.extend(decode::groups(&key, &batch?, query.aggregates()));
        }
        EngineResult::Ok(groups)
    };
    groups.await.map_err(|error| engine_error(Operation::GetJobGroups, error))
}

/// The plan of a page of jobs with the metrics of its operators.
pub(super) async fn explain_jobs(tables: &Arc<Tables>, query: &JobQuery) -> Result<String> {
    analyzed(plan::jobs(tables, query).await).await
}

/// The plan of a page of groups with the metrics of its operators.
pub(super) async fn explain_groups(tables: &Arc<Tables>, query: &GroupQuery) -> Result<String> {
    let key = GroupKey::new(tables, query.group_by());
    analyzed(plan::groups(tables, query, &key).await).await
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
