//! A search for the rows of a page, and gathering them all, which any search falls back to.

use datafusion::error::Result as EngineResult;

use super::pause::pause;
use super::select::Selected;
use crate::memory::storage::{JobChunk, Node, Tables, first_row};

/// With at most so many candidates, gathering their keys beats any search.
pub(super) const GATHER_CANDIDATES: u64 = 512;

/// So many rows are looked up in the indexes before other tasks get their turn.
const ROWS_AT_A_TIME: u32 = 1 << 20;

/// Which rows of an ordered list: from `skip` on, `take` of them (all, without a number).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::memory) struct Part {
    pub(in crate::memory) skip: usize,
    pub(in crate::memory) take: Option<usize>,
}

impl Part {
    /// How many rows from the start of the list hold the part.
    pub(super) fn end(self) -> usize {
        self.take.map_or(usize::MAX, |take| self.skip.saturating_add(take))
    }

    /// How many rows the part has of a list of so many.
    pub(in crate::memory) fn of_count(self, rows: usize) -> usize {
        rows.saturating_sub(self.skip).min(self.take.unwrap_or(usize::MAX))
    }

    /// Cuts the part out of a list that holds it.
    pub(super) fn of(self, mut rows: Vec<u32>) -> Vec<u32> {
        rows.truncate(self.end());
        rows.drain(..self.skip.min(rows.len()));
        rows
    }
}

pub(super) struct Search<'a> {
    pub(super) tables: &'a Tables,
    pub(super) selected: &'a Selected,
    pub(super) part: Part,
}

impl Search<'_> {
    /// The node of all rows; none without rows.
    pub(super) fn all(&self) -> Vec<Node> {
        self.tables.indexes.zones.ids.root().into_iter().collect()
    }

    /// Whether gathering all keys costs less than a search for so many rows.
    pub(super) fn gathers(&self, candidates: u64, wanted: usize) -> bool {
        candidates <= GATHER_CANDIDATES || wanted as u64 >= candidates / 2
    }

    /// Gathers the keys of the selected rows of nodes and sorts the first `limit`.
    pub(super) async fn gathered<K: Copy + Ord + Send>(
        &self,
        nodes: &[Node],
        key: impl Fn(&JobChunk, usize) -> K + Send + Sync,
        limit: usize,
    ) -> EngineResult<Vec<u32>> {
        let left: u64 = nodes.iter().map(|node| node.rows().len() as u64).sum();
        if self.selected.intersection_pays(self.tables, left.min(self.selected.at_most(self.tables))) {
            self.selected.rows(self.tables);
        }
        let mut keyed: Vec<(K, u32)> = Vec::new();
        for &node in nodes {
            self.visit(node, |row| {
                let (chunk, at) = self.tables.jobs.locate(row);
                keyed.push((key(chunk, at), row));
            })
            .await?;
        }
        if limit < keyed.len() {
            keyed.select_nth_unstable(limit);
            keyed.truncate(limit);
        }
        keyed.sort_unstable();
        Ok(keyed.into_iter().map(|(_, row)| row).collect())
    }

    /// Gives the selected rows of a node.
    async fn visit(&self, node: Node, mut visit: impl FnMut(u32) + Send) -> EngineResult<()> {
        if !self.selected.has_residual() {
            let rows = node.rows();
            let end = rows.end.min(self.tables.jobs.len() as u32);
            for start in (rows.start..end).step_by(ROWS_AT_A_TIME as usize) {
                pause().await;
                self.selected.visit(self.tables, start..end.min(start.saturating_add(ROWS_AT_A_TIME)), &mut visit);
            }
        } else if self.selected.at_most(self.tables) <= GATHER_CANDIDATES {
            let mut rows = Vec::new();
            self.selected.visit(self.tables, node.rows(), |row| rows.push(row));
            self.selected.passing(self.tables, rows)?.into_iter().for_each(visit);
        } else {
            for chunk in self.selected.chunks_of(self.tables, node) {
                pause().await;
                let rows = self.selected.chunk(self.tables, chunk)?;
                rows.iter().for_each(|at| visit(first_row(chunk) + at as u32));
            }
        }
        Ok(())
    }
}
