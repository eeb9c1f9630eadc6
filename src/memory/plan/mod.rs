//! DataFusion plans over a snapshot.
//!
//! Calls of the API build their physical plan by hand, which costs microseconds where parsing
//! and optimising cost hundreds. SQL comes in through table providers and meets the same scan.
//!
//! | operator | what it emits |
//! |---|---|
//! | `JobScanExec` | columns of selected jobs, in an order and within a limit |
//! | `DenseAggregateExec` | the aggregates of each group of its input, by the codes of a dictionary |
//! | `GroupSortExec` | the groups of its input in an order, or the first of them |

mod aggregate;
mod columns;
mod dictionary_aggregate;
mod filters;
mod group_sort;
mod job_scan;
mod records;
mod scan;
mod session;
mod sql_order;
mod table;
#[cfg(test)]
mod tests;
#[cfg(feature = "sql")]
mod times;

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result as EngineResult;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::limit::GlobalLimitExec;

use self::aggregate::{DenseAggregateExec, KeptPartials};
pub(super) use self::columns::JOB_COLUMNS;
use self::columns::JobColumn;
use self::group_sort::GroupSortExec;
use self::job_scan::JobScanExec;
pub(super) use self::session::session_context;
use self::sql_order::ScanOrder;
use super::query::{GroupKey, Part, Selected};
use super::storage::{JobPlace, PartialKey, Tables};
use crate::query::{GroupQuery, JobQuery, Page};

static JOB_COLUMNS_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| job_scan::schema(&JOB_COLUMNS));

/// The plan of a page of jobs. Its columns are decoded by [`decode::jobs`](super::decode::jobs).
pub(super) fn jobs(tables: &Arc<Tables>, query: &JobQuery) -> EngineResult<Arc<dyn ExecutionPlan>> {
    let page = query.page();
    let selected = Arc::new(Selected::new(tables, query.selection())?);
    let scan =
        JobScanExec::new(Arc::clone(tables), selected, Arc::clone(&JOB_COLUMNS), Arc::clone(&JOB_COLUMNS_SCHEMA));
    let part = Part { skip: clamp(page.offset()), take: page.limit().map(clamp) };
    Ok(Arc::new(scan.with_part(query.order().map(ScanOrder::Api), part)))
}

/// The plan of a page of groups of a key, decoded by [`decode::groups`](super::decode::groups).
pub(super) fn groups(tables: &Arc<Tables>, query: &GroupQuery, key: &GroupKey) -> EngineResult<Arc<dyn ExecutionPlan>> {
    let selection = query.selection();
    let selected = Arc::new(Selected::new(tables, selection)?);
    let by = match key {
        GroupKey::Annotation(key, _) => JobColumn::Annotation(Some(*key)),
        key => key.stored().map_or(JobColumn::Annotation(None), JobColumn::from),
    };
    let read = [JobPlace::state, JobPlace::submitted, JobPlace::last_transition_seconds].map(JobColumn::from);
    let columns: Arc<[JobColumn]> = std::iter::once(by).chain(read).collect();
    let schema = job_scan::schema(&columns);
    let is_kept = !selection.active_job_sets() && !selected.has_residual();
    let mut scan = JobScanExec::new(Arc::clone(tables), selected, columns, schema);
    let mut kept = None;
    if is_kept {
        let partials = kept_partials(tables, query);
        scan = scan.with_chunks(Arc::clone(&partials.scanned));
        kept = Some(Arc::new(partials));
    }
    let aggregates = query.aggregates();
    let aggregate = DenseAggregateExec::new(Arc::new(scan), key.groups(), key.groups_nulls(), aggregates, kept);
    let page = query.page();
    let fetch = page.limit().map(|take| clamp(take.saturating_add(page.offset())));
    let sort = Arc::new(GroupSortExec::new(Arc::new(aggregate), key.clone(), aggregates, query.order(), fetch));
    Ok(skipping(sort, page))
}

/// The aggregates of chunks that were kept since the last call of this kind.
fn kept_partials(tables: &Arc<Tables>, query: &GroupQuery) -> KeptPartials {
    let predicates = query.selection().predicates().to_vec();
    let key = PartialKey { group_by: query.group_by().clone(), predicates };
    let mut partials = Vec::new();
    let mut scanned = Vec::new();
    for (chunk, partial) in tables.indexes.partials.get(&key, tables.jobs.chunks()).into_iter().enumerate() {
        match partial {
            Some(partial) => partials.push(partial),
            None => scanned.push(chunk),
        }
    }
    KeptPartials { tables: Arc::clone(tables), key, partials, scanned: scanned.into() }
}

fn skipping(plan: Arc<dyn ExecutionPlan>, page: Page) -> Arc<dyn ExecutionPlan> {
    if page.offset() == 0 {
        return plan;
    }
    Arc::new(GlobalLimitExec::new(plan, clamp(page.offset()), page.limit().map(clamp)))
}

fn clamp(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}
