//! DataFusion plans over a snapshot.
//!
//! The physical plans of API calls are built directly, in microseconds; parsing and optimising SQL takes hundreds of
//! microseconds. SQL uses the same scan through table providers.
//!
//! | operator | output |
//! |---|---|
//! | `JobScanExec` | columns of the selected jobs, with an optional order and limit |
//! | `RecordScanExec` | columns of the tables `job_run`, `job_spec` and `job_error` |
//! | `DenseAggregateExec` | aggregates per group of its input, by dictionary codes |
//! | `GroupSortExec` | the groups of its input, with an optional order and limit |

mod aggregate;
mod columns;
mod filters;
mod group_codes;
mod group_sort;
mod job_scan;
mod properties;
mod record_scan;
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

use self::aggregate::{DenseAggregateExec, GroupCache};
pub(super) use self::columns::JOB_COLUMNS;
use self::columns::JobColumn;
use self::group_sort::GroupSortExec;
use self::job_scan::JobScanExec;
#[cfg(feature = "sql")]
pub(super) use self::session::TABLES;
pub(super) use self::session::session_context;
use self::sql_order::ScanOrder;
use super::cost::{SPARSE_GROUPS_SHARE, SPARSE_MIN_GROUPS};
use super::query::{GroupKey, PageRange, RowSelection};
use super::storage::{CachedGroups, JobColumnIndex, PartialKey, Tables};
use crate::query::{GroupQuery, JobQuery, Page};

static JOB_COLUMNS_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| job_scan::schema(&JOB_COLUMNS));

/// The plan of a page of jobs. Its output is decoded by [`row::jobs`](super::row::jobs).
pub(super) async fn jobs(tables: &Arc<Tables>, query: &JobQuery) -> EngineResult<Arc<dyn ExecutionPlan>> {
    let page = query.page();
    let selected = Arc::new(RowSelection::new(tables, query.selection()).await?);
    let scan =
        JobScanExec::new(Arc::clone(tables), selected, Arc::clone(&JOB_COLUMNS), Arc::clone(&JOB_COLUMNS_SCHEMA));
    let range = PageRange { offset: clamp(page.offset()), limit: page.limit().map(clamp) };
    Ok(Arc::new(scan.with_order(query.order().map(ScanOrder::Api), range)))
}

/// The plan of a page of groups. Its output is decoded by [`row::groups`](super::row::groups).
pub(super) async fn groups(
    tables: &Arc<Tables>,
    query: &GroupQuery,
    key: &GroupKey,
) -> EngineResult<Arc<dyn ExecutionPlan>> {
    let selection = query.selection();
    let selected = Arc::new(RowSelection::new(tables, selection).await?);
    let by = match key {
        GroupKey::Annotation(key, _) => JobColumn::Annotation(Some(*key)),
        key => key.stored().map_or(JobColumn::Annotation(None), JobColumn::from),
    };
    let aggregates = query.aggregates();
    let rows = selected.upper_bound(tables) as usize;
    let is_sparse = key.groups() > SPARSE_MIN_GROUPS && key.groups() / SPARSE_GROUPS_SHARE > rows;
    let is_cached = !is_sparse && !selection.active_job_sets() && !selected.has_residual();
    let cache = if is_cached { group_cache(tables, query) } else { None };
    // The cache contains all aggregates, independent of the aggregates that the query requests.
    let times = [JobColumnIndex::submitted, JobColumnIndex::last_transition_seconds];
    let reads_times = cache.is_some() || aggregates.submitted() || aggregates.last_transition_time().is_some();
    let times = times.into_iter().filter(|_| reads_times);
    let columns: Arc<[JobColumn]> =
        std::iter::once(by).chain(std::iter::once(JobColumnIndex::state).chain(times).map(JobColumn::from)).collect();
    let schema = job_scan::schema(&columns);
    let mut scan = JobScanExec::new(Arc::clone(tables), selected, columns, schema);
    if let Some(cache) = &cache {
        scan = scan.with_chunks(Arc::clone(&cache.scanned));
    }
    let cache = cache.map(Arc::new);
    let aggregate = DenseAggregateExec::new(Arc::new(scan), key.groups(), key.groups_nulls(), aggregates, cache);
    let aggregate = if is_sparse { aggregate.with_sparse_groups() } else { aggregate };
    let page = query.page();
    let fetch = page.limit().map(|limit| clamp(limit.saturating_add(page.offset())));
    let sort = Arc::new(GroupSortExec::new(Arc::new(aggregate), key.clone(), aggregates, query.order(), fetch));
    Ok(skipping(sort, page))
}

/// The cached aggregates of a query, and the chunks that they do not include; `None` if the query is not cached.
fn group_cache(tables: &Arc<Tables>, query: &GroupQuery) -> Option<GroupCache> {
    let predicates = query.selection().predicates().to_vec();
    let key = PartialKey { group_by: query.group_by().clone(), predicates };
    let chunks = tables.jobs.chunks();
    let all = || (0..chunks.len()).collect();
    let (totals, scanned) = match tables.indexes.partials.get(&key) {
        Some(CachedGroups::TooMany) => return None,
        None => (None, all()),
        Some(CachedGroups::Totals(totals)) => match totals.stale(chunks) {
            Some(stale) => (Some(totals), stale),
            None => (None, all()),
        },
    };
    Some(GroupCache { tables: Arc::clone(tables), key, totals, scanned: scanned.into() })
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
