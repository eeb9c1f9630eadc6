//! The search for the rows of a page, and the fallback, which gathers and sorts all keys.

use super::budget::consume_budget;
use super::select::RowSelection;
use crate::memory::cost::{GATHER_MAX_CANDIDATES, GATHER_SHARE};
use crate::memory::storage::{JobChunk, LocatedRows, Node, Tables, by_window, first_row};
use crate::query::Page;

/// The number of rows that are examined between two yields to the executor.
const ROWS_AT_A_TIME: u32 = 1 << 20;
/// The number of rows whose keys are gathered in one call.
const ROWS_PER_GATHER: usize = 1024;

/// The offset and limit of a page. Without a limit, the page extends to the last row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::memory) struct PageRange {
    pub(in crate::memory) offset: usize,
    pub(in crate::memory) limit: Option<usize>,
}

impl PageRange {
    pub(in crate::memory) fn end(self) -> usize {
        self.limit.map_or(usize::MAX, |limit| self.offset.saturating_add(limit))
    }

    /// The number of rows of the page, out of `rows` ordered rows.
    pub(in crate::memory) fn of_count(self, rows: usize) -> usize {
        rows.saturating_sub(self.offset).min(self.limit.unwrap_or(usize::MAX))
    }

    /// Applies the offset and limit to the first [`end`](Self::end) rows.
    pub(in crate::memory) fn of<T>(self, mut rows: Vec<T>) -> Vec<T> {
        rows.truncate(self.end());
        rows.drain(..self.offset.min(rows.len()));
        rows
    }
}

impl From<Page> for PageRange {
    fn from(page: Page) -> Self {
        let clamp = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
        Self { offset: clamp(page.offset()), limit: page.limit().map(clamp) }
    }
}

/// A search for the rows of a page.
pub(super) struct Search<'a> {
    pub(super) tables: &'a Tables,
    pub(super) selected: &'a RowSelection,
    pub(super) page: PageRange,
}

impl Search<'_> {
    /// The node of all rows; empty if there are no rows.
    pub(super) fn all(&self) -> Vec<Node> {
        self.tables.indexes.zones.ids.root().into_iter().collect()
    }

    /// Whether gathering all keys costs less than a search for `wanted` rows.
    pub(super) fn gathers(&self, candidates: u64, wanted: usize) -> bool {
        candidates <= GATHER_MAX_CANDIDATES || wanted as u64 >= candidates / GATHER_SHARE
    }

    /// Whether few rows are estimated. A residual predicate would be evaluated on all candidates.
    pub(super) fn expects_few_rows(&self) -> bool {
        !self.selected.has_residual() && self.selected.estimate(self.tables) <= GATHER_MAX_CANDIDATES
    }

    /// The selected rows, ascending, if they are few; `None` if more are estimated or found.
    ///
    /// Correlated predicates, like those of a cluster and of its nodes, select more rows than estimated. The search
    /// ends once the rows exceed [`GATHER_MAX_CANDIDATES`] in proportion to the windows read.
    pub(super) async fn few_rows(&self) -> Option<Vec<u32>> {
        if !self.expects_few_rows() {
            return None;
        }
        let all = self.tables.jobs.len() as u32;
        let mut rows = Vec::new();
        for part in by_window(0..all) {
            consume_budget().await;
            let known = part.end;
            self.selected.visit(self.tables, part, |row| rows.push(row));
            if rows.len() as u64 * u64::from(all) > GATHER_MAX_CANDIDATES * u64::from(known) {
                return None;
            }
        }
        Some(rows)
    }

    /// The first `limit` selected rows of nodes, ordered by the keys of their values in a column.
    pub(super) async fn gathered<V: Copy + Send, K: Copy + Ord + Send>(
        &self,
        nodes: &[Node],
        column: impl Fn(&JobChunk) -> &[V] + Send,
        key: impl Fn(V) -> K + Send,
        limit: usize,
    ) -> Vec<u32> {
        let mut rows = Vec::new();
        for &node in nodes {
            self.visit(node, |row| rows.push(row)).await;
        }
        self.sorted(rows, column, key, limit).await
    }

    /// The first `limit` of some rows, ordered by the keys of their values in a column.
    pub(super) async fn sorted<V: Copy + Send, K: Copy + Ord + Send>(
        &self,
        rows: Vec<u32>,
        column: impl Fn(&JobChunk) -> &[V] + Send,
        key: impl Fn(V) -> K + Send,
        limit: usize,
    ) -> Vec<u32> {
        let mut keyed: Vec<(K, u32)> = Vec::with_capacity(rows.len());
        for rows in rows.chunks(ROWS_PER_GATHER) {
            consume_budget().await;
            let values = LocatedRows::new(self.tables.jobs.chunks(), rows).read(|chunk| {
                let values = column(chunk);
                |at| values[at]
            });
            keyed.extend(values.into_iter().map(&key).zip(rows.iter().copied()));
        }
        drop(rows);
        if limit < keyed.len() {
            keyed.select_nth_unstable(limit);
            keyed.truncate(limit);
        }
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, row)| row).collect()
    }

    /// Visits the selected rows of a node.
    async fn visit(&self, node: Node, mut visit: impl FnMut(u32) + Send) {
        if !self.selected.has_residual() {
            let rows = node.rows();
            let end = rows.end.min(self.tables.jobs.len() as u32);
            for start in (rows.start..end).step_by(ROWS_AT_A_TIME as usize) {
                consume_budget().await;
                self.selected.visit(self.tables, start..end.min(start.saturating_add(ROWS_AT_A_TIME)), &mut visit);
            }
        } else if self.selected.upper_bound(self.tables) <= GATHER_MAX_CANDIDATES {
            let mut rows = Vec::new();
            self.selected.visit(self.tables, node.rows(), |row| rows.push(row));
            self.selected.passing(self.tables, rows).into_iter().for_each(visit);
        } else {
            for chunk in self.selected.chunks_of(self.tables, node) {
                consume_budget().await;
                let rows = self.selected.chunk(self.tables, chunk);
                rows.set_indices().for_each(|at| visit(first_row(chunk) + at as u32));
            }
        }
    }
}
