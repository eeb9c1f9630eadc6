//! Reads of a snapshot: plan, execute, decode.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::UInt32Type;
use datafusion::error::Result as EngineResult;
use datafusion::execution::TaskContext;
use futures::StreamExt;

use super::error::engine_error;
use super::groups::GroupPlan;
use super::query::consume_budget_for;
use super::storage::Tables;
use super::{plan, row};
use crate::error::{Operation, Result};
use crate::model::{Job, JobGroup};
use crate::query::{GroupQuery, JobQuery};
use crate::time::Timestamp;

/// The task context of all plans. The plans use no memory pool, disk or object store.
pub(super) static TASK_CONTEXT: LazyLock<Arc<TaskContext>> = LazyLock::new(Arc::default);

/// The number of jobs that are decoded per unit of budget.
const JOBS_PER_UNIT: usize = 64;

/// A page of jobs of a snapshot.
pub(super) async fn jobs(tables: &Arc<Tables>, query: &JobQuery, now: Timestamp) -> Result<Vec<Job>> {
    let jobs = async {
        let mut batches = plan::jobs(tables, query).await?.execute(0, Arc::clone(&TASK_CONTEXT))?;
        let mut jobs = Vec::new();
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let rows = batch.column(0).as_primitive::<UInt32Type>().values();
            let decoded = row::jobs(tables, rows, now);
            // There is usually one batch, whose vector is returned without a copy.
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
    let groups = async { GroupPlan::new(tables, query).await?.execute().await };
    groups.await.map_err(|error| engine_error(Operation::GetJobGroups, error))
}
