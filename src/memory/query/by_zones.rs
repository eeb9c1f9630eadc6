//! Pages ordered by id or time, by zone maps.
//!
//! A best-first search over the tree of zones, down to blocks of rows. It ends when no open node can contain a row that
//! sorts before the last row found, so the number of nodes that it reads depends on the page and not on the number of
//! jobs. Rows with equal keys sort by row, so the order does not depend on the page.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;

use datafusion::arrow::buffer::BooleanBuffer;

use super::budget::consume_budget;
use super::search::{PageRange, Search};
use super::select::RowSelection;
use crate::ingest::JOB_ID_BYTES;
use crate::memory::cost::{CHUNK_PROBE_MAX_ROWS, GATHER_MAX_CANDIDATES, OFFSET_MAX_NODES};
use crate::memory::storage::{
    BLOCK_ROWS, CHUNK_ROWS, GROUP_ROWS, JobChunk, JobId, Node, Tables, Zone, ZoneTree, Zones, first_row, locate,
};

/// The number of rows of a block that are compared with the last row found in one loop.
const ROWS_AT_A_TIME: usize = 32;

/// A column with zone maps.
pub(super) trait ZonedColumn: Send {
    type Value: Copy + Ord + Send + Sync;
    /// A value in the column.
    type Stored: Copy + Send + Into<Self::Value>;

    fn tree(tables: &Tables) -> &ZoneTree<Self::Value>;
    fn zones(chunk: &JobChunk) -> &Zones<Self::Value>;
    fn values(chunk: &JobChunk) -> &[Self::Stored];
}

pub(super) struct Ids;

impl ZonedColumn for Ids {
    type Value = JobId;
    type Stored = [u8; JOB_ID_BYTES];

    fn tree(tables: &Tables) -> &ZoneTree<JobId> {
        &tables.indexes.zones.ids
    }

    fn zones(chunk: &JobChunk) -> &Zones<JobId> {
        &chunk.id_zones
    }

    fn values(chunk: &JobChunk) -> &[[u8; JOB_ID_BYTES]] {
        chunk.cells.job_id.as_chunks().0
    }
}

pub(super) struct Submissions;

impl ZonedColumn for Submissions {
    type Value = i64;
    type Stored = i64;

    fn tree(tables: &Tables) -> &ZoneTree<i64> {
        &tables.indexes.zones.submitted
    }

    fn zones(chunk: &JobChunk) -> &Zones<i64> {
        &chunk.submitted_zones
    }

    fn values(chunk: &JobChunk) -> &[i64] {
        &chunk.cells.submitted
    }
}

/// The last transition time in whole seconds.
pub(super) struct LastTransitions;

impl ZonedColumn for LastTransitions {
    type Value = i64;
    type Stored = i64;

    fn tree(tables: &Tables) -> &ZoneTree<i64> {
        &tables.indexes.zones.last_transition_seconds
    }

    fn zones(chunk: &JobChunk) -> &Zones<i64> {
        &chunk.last_transition_seconds_zones
    }

    fn values(chunk: &JobChunk) -> &[i64] {
        &chunk.cells.last_transition_seconds
    }
}

/// Sort direction: the first row has the least key.
pub(super) trait SortDirection<V>: Send {
    type Key: Copy + Ord + Send;
    /// Whether blocks are read backwards: jobs are stored roughly in the order of submission.
    const REVERSE_SCAN: bool;

    fn key(value: V) -> Self::Key;
    /// The least and the greatest key of a zone.
    fn bounds(zone: Zone<V>) -> (Self::Key, Self::Key);
}

pub(super) struct Ascending;

impl<V: Copy + Ord + Send> SortDirection<V> for Ascending {
    type Key = V;
    const REVERSE_SCAN: bool = false;

    fn key(value: V) -> V {
        value
    }

    fn bounds(zone: Zone<V>) -> (V, V) {
        (zone.min, zone.max)
    }
}

pub(super) struct Descending;

impl<V: Copy + Ord + Send> SortDirection<V> for Descending {
    type Key = Reverse<V>;
    const REVERSE_SCAN: bool = true;

    fn key(value: V) -> Reverse<V> {
        Reverse(value)
    }

    fn bounds(zone: Zone<V>) -> (Reverse<V>, Reverse<V>) {
        (Reverse(zone.max), Reverse(zone.min))
    }
}

impl Search<'_> {
    pub(super) async fn by_zones<C: ZonedColumn, W: SortDirection<C::Value>>(&self) -> Vec<u32> {
        let Some(root) = C::tree(self.tables).root() else { return Vec::new() };
        let key = |value: C::Stored| W::key(value.into());
        let candidates = self.selected.upper_bound(self.tables);
        if candidates <= GATHER_MAX_CANDIDATES {
            return self.page.of(self.gathered(&[root], C::values, key, self.page.end()).await);
        }
        if let Some(rows) = self.few_rows().await {
            return self.page.of(self.sorted(rows, C::values, key, self.page.end()).await);
        }
        let (nodes, page) = self.narrowed::<C, W>(root).await;
        let left: u64 = nodes.iter().map(|node| node.rows().len() as u64).sum();
        page.of(if self.gathers(candidates.min(left), page.end()) {
            self.gathered(&nodes, C::values, key, page.end()).await
        } else {
            BestFirst::<C, W>::new(self, page.end()).search(&nodes).await
        })
    }

    /// The nodes that can contain a row of the page, and the offset and limit of the page within them.
    ///
    /// If all keys of some nodes are less than those of all others, their rows sort first and are only counted. Thus a
    /// large offset reads few nodes.
    async fn narrowed<C: ZonedColumn, W: SortDirection<C::Value>>(&self, root: Node) -> (Vec<Node>, PageRange) {
        let (mut nodes, mut page) = (vec![root], self.page);
        // Counting the rows of a selection requires an intersection or a test of each row.
        let counts = !self.selected.is_narrowed() && !self.selected.has_residual();
        if page.offset < if counts { GROUP_ROWS } else { CHUNK_ROWS } {
            return (nodes, page);
        }
        while nodes.len() <= OFFSET_MAX_NODES && !nodes.iter().any(|node| node.is_block()) {
            // The residual predicate is evaluated by chunk, so chunks are not divided.
            if self.selected.has_residual() && nodes.iter().any(|node| node.as_chunk().is_some()) {
                break;
            }
            let children = nodes.iter().flat_map(|node| node.children());
            let bounded = children.filter_map(|child| Some((bounds::<C, W>(self.tables, child)?, child)));
            (nodes, page) = self.passed(bounded.collect(), page).await;
        }
        (nodes, page)
    }

    /// Drops the nodes that sort entirely before or after the page.
    async fn passed<K: Copy + Ord + Send>(
        &self,
        mut nodes: Vec<((K, K), Node)>,
        page: PageRange,
    ) -> (Vec<Node>, PageRange) {
        nodes.sort_unstable();
        let (mut counted, mut max_before) = (0, None);
        // The last node before which all keys are less than all others, and the rows before it.
        let mut passed = (0, 0);
        let mut end = nodes.len();
        for (at, &((min, max), node)) in nodes.iter().enumerate() {
            if max_before.is_none_or(|before| before < min) {
                if counted <= page.offset {
                    passed = (at, counted);
                }
                if counted >= page.end() {
                    end = at;
                    break;
                }
            }
            counted += self.selected.count(self.tables, node).await;
            max_before = max_before.max(Some(max));
        }
        let page = PageRange { offset: page.offset - passed.1, limit: page.limit };
        (nodes[passed.0..end].iter().map(|&(_, node)| node).collect(), page)
    }
}

/// The least and the greatest key of a node; `None` without rows.
fn bounds<C: ZonedColumn, W: SortDirection<C::Value>>(tables: &Tables, node: Node) -> Option<(W::Key, W::Key)> {
    let zone = match node.within_chunk() {
        Some(chunk) => C::zones(tables.jobs.chunks().get(chunk)?).zone(node),
        None => C::tree(tables).zone(node),
    };
    zone.map(W::bounds)
}

type Entry<K> = (K, u32);

/// A best-first search by the bounds of nodes.
struct BestFirst<'a, C: ZonedColumn, W: SortDirection<C::Value>> {
    tables: &'a Tables,
    selected: &'a RowSelection,
    limit: usize,
    /// The nodes to examine, by the least entry that they can contain.
    open: BinaryHeap<Reverse<(Entry<W::Key>, Node)>>,
    /// A heap of the best rows so far, the last of them on top.
    best: BinaryHeap<Entry<W::Key>>,
    /// The rows of a chunk that pass the residual predicate, which is evaluated once per chunk.
    tested: BTreeMap<usize, BooleanBuffer>,
}

impl<'a, C: ZonedColumn, W: SortDirection<C::Value>> BestFirst<'a, C, W> {
    fn new(search: &Search<'a>, limit: usize) -> Self {
        let &Search { tables, selected, .. } = search;
        let (open, best) = (BinaryHeap::new(), BinaryHeap::new());
        Self { tables, selected, limit, open, best, tested: BTreeMap::new() }
    }

    /// The first rows of some nodes.
    async fn search(mut self, nodes: &[Node]) -> Vec<u32> {
        nodes.iter().for_each(|&node| self.push(node));
        while let Some(Reverse((least, node))) = self.open.pop() {
            if self.is_pruned(&least) {
                break;
            }
            if node.is_block() {
                self.examine_block(node);
                continue;
            }
            // The rows of a group of blocks were tested with its chunk.
            if node.within_chunk().is_none() && !self.selected.may_contain(self.tables, node) {
                continue;
            }
            if let Some(chunk) = node.as_chunk() {
                consume_budget().await;
                if self.examine_few(node) {
                    continue;
                }
                if self.selected.residual(self.tables, node).is_some() {
                    self.tested.insert(chunk, self.selected.chunk(self.tables, chunk));
                }
            }
            node.children().for_each(|child| self.push(child));
        }
        self.best.into_sorted_vec().into_iter().map(|(_, row)| row).collect()
    }

    /// Whether `limit` rows are found that sort before an entry.
    fn is_pruned(&self, entry: &Entry<W::Key>) -> bool {
        self.best.len() >= self.limit && self.best.peek().is_none_or(|worst| worst <= entry)
    }

    /// Examines the candidates of a chunk if they are few.
    fn examine_few(&mut self, node: Node) -> bool {
        if !self.selected.has_few(self.tables, node, CHUNK_PROBE_MAX_ROWS) {
            return false;
        }
        let values = C::values(self.tables.jobs.locate(node.rows().start).0);
        let key = |row: u32| W::key(values[locate(row).1].into());
        let mut rows = Vec::new();
        self.selected.visit(self.tables, node.rows(), |row| rows.push(row));
        // All keys are read before the first is compared, so that their cache misses overlap.
        let entries: Vec<Entry<W::Key>> = rows.iter().map(|&row| (key(row), row)).collect();
        let mut entries = entries.iter();
        rows.retain(|_| entries.next().is_some_and(|entry| !self.is_pruned(entry)));
        for row in self.selected.passing(self.tables, rows) {
            offer(&mut self.best, self.limit, (key(row), row));
        }
        true
    }

    fn examine_block(&mut self, node: Node) {
        let rows = node.rows();
        let (chunk, first) = locate(rows.start);
        let tables = self.tables;
        let values = C::values(&tables.jobs.chunks()[chunk]);
        let (best, limit) = (&mut self.best, self.limit);
        if let Some(tested) = self.tested.get(&chunk) {
            let of_block = tested.slice(first, BLOCK_ROWS.min(tested.len() - first));
            for at in of_block.set_indices().map(|at| first + at) {
                offer(best, limit, (W::key(values[at].into()), first_row(chunk) + at as u32));
            }
        } else if best.len() < limit && self.selected.is_narrowed() {
            let key = |row: u32| W::key(values[locate(row).1].into());
            self.selected.visit(tables, rows, |row| offer(best, limit, (key(row), row)));
        } else {
            let end = values.len().min(first + BLOCK_ROWS);
            let parts = (first..end).step_by(ROWS_AT_A_TIME).map(|start| start..end.min(start + ROWS_AT_A_TIME));
            let examine = |part| self.examine_rows(chunk, values, part);
            if W::REVERSE_SCAN { parts.rev().for_each(examine) } else { parts.for_each(examine) }
        }
    }

    /// Examines rows of a chunk. Few of them sort before the rows found, and only these are looked up in the selection.
    fn examine_rows(&mut self, chunk: usize, values: &[C::Stored], part: Range<usize>) {
        if let Some((worst, _)) = self.best.peek().filter(|_| self.best.len() >= self.limit) {
            // There is no branch per row, so that the comparison is vectorised.
            let precedes = |any: bool, &value: &C::Stored| any | (W::key(value.into()) <= *worst);
            if !values[part.clone()].iter().fold(false, precedes) {
                return;
            }
        }
        let narrowed = self.selected.is_narrowed();
        let look = |at: usize| {
            let entry = (W::key(values[at].into()), first_row(chunk) + at as u32);
            if !self.is_pruned(&entry) && (!narrowed || self.selected.contains_row(self.tables, entry.1)) {
                offer(&mut self.best, self.limit, entry);
            }
        };
        if W::REVERSE_SCAN { part.rev().for_each(look) } else { part.for_each(look) }
    }

    fn push(&mut self, node: Node) {
        let Some((least, _)) = bounds::<C, W>(self.tables, node) else { return };
        let least = (least, node.rows().start);
        if !self.is_pruned(&least) {
            self.open.push(Reverse((least, node)));
        }
    }
}

/// Pushes an entry to a heap of the `limit` least entries.
fn offer<K: Copy + Ord>(best: &mut BinaryHeap<Entry<K>>, limit: usize, entry: Entry<K>) {
    if best.len() < limit {
        best.push(entry);
    } else if let Some(mut worst) = best.peek_mut()
        && entry < *worst
    {
        *worst = entry;
    }
}
