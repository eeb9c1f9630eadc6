//! DataFusion plans over a snapshot.
//!
//! Calls of the API build their physical plan by hand, which costs microseconds where parsing
//! and optimising cost hundreds. SQL comes in through table providers and meets the same scan.

mod filters;
mod groups;
mod jobs;
mod records;
mod scan;
mod session;
mod table;

use std::sync::{Arc, LazyLock};

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result as EngineResult;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::{ExecutionPlan, collect};

use self::groups::GroupSource;
use self::jobs::{JobSource, ROW_SCHEMA};
use self::scan::ScanExec;
pub(super) use self::session::session_context;
use super::query::{self, Part, Selected};
use super::storage::Tables;
use crate::query::{GroupQuery, JobQuery};

/// What every plan runs in. The plans use no memory pool, disk or object store of it.
static TASK_CONTEXT: LazyLock<Arc<TaskContext>> = LazyLock::new(Arc::default);

/// Runs the plan of a page of jobs; the batches hold row ids.
pub(super) async fn run_jobs(tables: &Arc<Tables>, query: &JobQuery) -> EngineResult<Vec<RecordBatch>> {
    let page = query.page();
    let source = JobSource {
        tables: Arc::clone(tables),
        selected: Arc::new(Selected::new(tables, query.selection())?),
        order: query.order(),
        part: Part { skip: clamp(page.skip()), take: page.take().map(clamp) },
    };
    run(Arc::new(ScanExec::new(Arc::new(source), Arc::clone(&ROW_SCHEMA)))).await
}

/// Runs the plan of a page of groups.
pub(super) async fn run_groups(tables: &Arc<Tables>, query: &GroupQuery) -> EngineResult<Vec<RecordBatch>> {
    let page = query.page();
    let source = GroupSource {
        tables: Arc::clone(tables),
        selected: Arc::new(Selected::new(tables, query.selection())?),
        query: query.clone(),
        limit: page.take().map(|take| clamp(take.saturating_add(page.skip()))),
    };
    let groups = Arc::new(ScanExec::new(Arc::new(source), Arc::new(query::groups::schema(query.aggregates()))));
    if page.skip() == 0 {
        return run(groups).await;
    }
    run(Arc::new(GlobalLimitExec::new(groups, clamp(page.skip()), page.take().map(clamp)))).await
}

async fn run(plan: Arc<dyn ExecutionPlan>) -> EngineResult<Vec<RecordBatch>> {
    collect(plan, Arc::clone(&TASK_CONTEXT)).await
}

fn clamp(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}
