//! The rows of a page of an order, found without reading more than they need.
//!
//! Three ways, by what the order is by:
//!
//! - ids and times: blocks of rows are taken by their zones, the best bound first, and the
//!   search ends when no bound left can beat the rows that are found;
//! - queues, job sets and states: their rows are listed by an index, so the lists are gone
//!   through in order until there are enough rows;
//! - anything, when few rows are selected or most are wanted: their keys are gathered and sorted.

use datafusion::error::Result as EngineResult;

use super::by_zones::{Ascending, Descending, Ids, LastTransitions, Submissions, ZonedColumn};
use super::select::Selected;
use crate::memory::storage::{JobChunk, Node, Tables, first_row};
use crate::query::{Direction, JobOrder, JobOrderKey};

/// With at most so many candidates, gathering their keys beats any search.
pub(super) const GATHER_CANDIDATES: u64 = 512;

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

    /// Cuts the part out of a list that holds it.
    pub(super) fn of(self, mut rows: Vec<u32>) -> Vec<u32> {
        rows.truncate(self.end());
        rows.drain(..self.skip.min(rows.len()));
        rows
    }
}

/// A part of the selected rows in an order.
pub(in crate::memory) fn ordered_rows(
    tables: &Tables,
    selected: &Selected,
    order: Option<JobOrder>,
    part: Part,
) -> EngineResult<Vec<u32>> {
    let Some(JobOrder { key, direction }) = order else { return in_row_order(tables, selected, part) };
    let search = Search { tables, selected, part };
    match key {
        JobOrderKey::JobId => search.by_zones_of::<Ids>(direction),
        JobOrderKey::Submitted => search.by_zones_of::<Submissions>(direction),
        JobOrderKey::LastTransitionTime => search.by_zones_of::<LastTransitions>(direction),
        JobOrderKey::State => search.by_state(direction),
        JobOrderKey::Queue => {
            search.by_text(direction, &tables.dictionaries.queues, |chunk, at| chunk.queue().value(at))
        }
        JobOrderKey::JobSet => {
            search.by_text(direction, &tables.dictionaries.job_sets, |chunk, at| chunk.job_set().value(at))
        }
    }
}

fn in_row_order(tables: &Tables, selected: &Selected, part: Part) -> EngineResult<Vec<u32>> {
    let mut skip = part.skip;
    let mut rows = Vec::new();
    let wanted = part.take.unwrap_or(usize::MAX);
    for chunk in 0..tables.jobs.chunks().len() {
        if rows.len() >= wanted {
            break;
        }
        if !selected.may_hold(tables, Node::chunk(chunk)) {
            continue;
        }
        if skip > 0 {
            let count = selected.count(tables, Node::chunk(chunk))?;
            if count <= skip {
                skip -= count;
                continue;
            }
        }
        let of_chunk = selected.chunk(tables, chunk)?;
        rows.extend(of_chunk.iter().skip(skip).take(wanted - rows.len()).map(|at| first_row(chunk) + at as u32));
        skip = 0;
    }
    Ok(rows)
}

pub(super) struct Search<'a> {
    pub(super) tables: &'a Tables,
    pub(super) selected: &'a Selected,
    pub(super) part: Part,
}

impl Search<'_> {
    fn by_zones_of<C: ZonedColumn>(&self, direction: Direction) -> EngineResult<Vec<u32>> {
        match direction {
            Direction::Ascending => self.by_zones::<C, Ascending>(),
            Direction::Descending => self.by_zones::<C, Descending>(),
        }
    }

    /// The node of all rows; none without rows.
    pub(super) fn all(&self) -> Vec<Node> {
        self.tables.indexes.zones.ids.root().into_iter().collect()
    }

    /// Whether gathering all keys costs less than a search for so many rows.
    pub(super) fn gathers(&self, candidates: u64, wanted: usize) -> bool {
        candidates <= GATHER_CANDIDATES || wanted as u64 >= candidates / 2
    }

    /// Gathers the keys of the selected rows of nodes and sorts the first `limit`.
    pub(super) fn gathered<K: Copy + Ord>(
        &self,
        nodes: &[Node],
        key: impl Fn(&JobChunk, usize) -> K,
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
            })?;
        }
        if limit < keyed.len() {
            keyed.select_nth_unstable(limit);
            keyed.truncate(limit);
        }
        keyed.sort_unstable();
        Ok(keyed.into_iter().map(|(_, row)| row).collect())
    }

    /// Gives the selected rows of a node.
    fn visit(&self, node: Node, mut visit: impl FnMut(u32)) -> EngineResult<()> {
        if !self.selected.has_residual() {
            self.selected.visit(self.tables, node.rows(), visit);
        } else if self.selected.at_most(self.tables) <= GATHER_CANDIDATES {
            let mut rows = Vec::new();
            self.selected.visit(self.tables, node.rows(), |row| rows.push(row));
            self.selected.passing(self.tables, rows)?.into_iter().for_each(visit);
        } else {
            for chunk in self.selected.chunks_of(self.tables, node) {
                let rows = self.selected.chunk(self.tables, chunk)?;
                rows.iter().for_each(|at| visit(first_row(chunk) + at as u32));
            }
        }
        Ok(())
    }
}
