//! The rows of a page, in order.
//!
//! The strategy depends on the sort key:
//!
//! - the latest transitions: the index of recent transitions, if it has enough selected rows;
//! - ids and times: a best-first search by zone maps;
//! - queues, job sets and states: their posting lists, in the order of the values;
//! - any key, if few rows are selected or the offset plus the limit is a large part of them: a sort of all keys.

use super::budget::consume_budget;
use super::by_zones::{Ascending, Descending, Ids, LastTransitions, Submissions, ZonedColumn};
use super::search::{PageRange, Search};
use super::select::RowSelection;
use crate::memory::cost::GATHER_MAX_CANDIDATES;
use crate::memory::storage::{Node, Tables, first_row};
use crate::query::{Direction, JobOrder, JobOrderKey};

/// The rows of a page in an order, or in row order if there is none. Rows with equal keys are in row order, so that
/// consecutive pages of a snapshot have each row once.
pub(in crate::memory) async fn ordered_rows(
    tables: &Tables,
    selected: &RowSelection,
    order: Option<JobOrder>,
    page: PageRange,
) -> Vec<u32> {
    let Some(JobOrder { key, direction }) = order else { return in_row_order(tables, selected, page).await };
    let search = Search { tables, selected, page };
    match key {
        JobOrderKey::JobId => search.by_zones_of::<Ids>(direction).await,
        JobOrderKey::Submitted => search.by_zones_of::<Submissions>(direction).await,
        JobOrderKey::LastTransitionTime => {
            let recent = if direction == Direction::Descending { search.by_recent_transitions() } else { None };
            match recent {
                Some(rows) => rows,
                None => search.by_zones_of::<LastTransitions>(direction).await,
            }
        }
        JobOrderKey::State => search.by_state(direction).await,
        JobOrderKey::Queue => search.by_text(direction, &tables.dictionaries.queues, |chunk| &chunk.cells.queue).await,
        JobOrderKey::JobSet => {
            search.by_text(direction, &tables.dictionaries.job_sets, |chunk| &chunk.cells.job_set).await
        }
    }
}

/// How [`ordered_rows`] finds the rows of a page, for EXPLAIN. A search that finds more or fewer rows than estimated
/// decides otherwise.
pub(in crate::memory) fn order_method(
    tables: &Tables,
    selected: &RowSelection,
    JobOrder { key, direction }: JobOrder,
    page: PageRange,
) -> &'static str {
    let search = Search { tables, selected, page };
    let candidates = selected.upper_bound(tables);
    let is_few = candidates <= GATHER_MAX_CANDIDATES;
    match (key, direction) {
        _ if is_few => "sort",
        (JobOrderKey::State, _) => "bitmaps",
        _ if search.gathers(candidates, page.end()) => "sort",
        (JobOrderKey::Queue | JobOrderKey::JobSet, _) => "posting lists",
        (JobOrderKey::LastTransitionTime, Direction::Descending) => "recent transitions or zone maps",
        _ if search.expects_few_rows() => "sort",
        _ => "zone maps",
    }
}

async fn in_row_order(tables: &Tables, selected: &RowSelection, page: PageRange) -> Vec<u32> {
    let mut offset = page.offset;
    let mut rows = Vec::new();
    let wanted = page.limit.unwrap_or(usize::MAX);
    for chunk in 0..tables.jobs.chunks().len() {
        if rows.len() >= wanted {
            break;
        }
        consume_budget().await;
        if !selected.may_contain(tables, Node::chunk(chunk)) {
            continue;
        }
        if offset > 0 {
            let count = selected.count(tables, Node::chunk(chunk)).await;
            if count <= offset {
                offset -= count;
                continue;
            }
        }
        let of_chunk = selected.chunk(tables, chunk);
        rows.extend(
            of_chunk.set_indices().skip(offset).take(wanted - rows.len()).map(|at| first_row(chunk) + at as u32),
        );
        offset = 0;
    }
    rows
}

impl Search<'_> {
    /// The rows of a page of the latest transitions; `None` if the index of recent transitions has too few of them.
    fn by_recent_transitions(&self) -> Option<Vec<u32>> {
        let (tables, end) = (self.tables, self.page.end());
        if self.selected.has_residual() {
            return None;
        }
        let latest = tables.indexes.recent_transitions.latest(|row| tables.jobs.last_transition_seconds(row));
        // An estimate that assumes that the selected rows are evenly distributed.
        let share = self.selected.upper_bound(tables) as f64 / tables.jobs.len() as f64;
        if (latest.len() as f64 * share) < end as f64 {
            return None;
        }
        let selected = latest.iter().copied().filter(|&row| self.selected.contains_row(tables, row));
        let rows: Vec<u32> = selected.take(end).collect();
        (rows.len() == end).then(|| self.page.of(rows))
    }

    async fn by_zones_of<C: ZonedColumn>(&self, direction: Direction) -> Vec<u32> {
        match direction {
            Direction::Ascending => self.by_zones::<C, Ascending>().await,
            Direction::Descending => self.by_zones::<C, Descending>().await,
        }
    }
}
