//! Pages ordered by ids and times, found by zones.
//!
//! Nodes of the tree of zones are taken by their bounds, the best first, each for its children,
//! down to blocks of rows; the search ends when no bound left can beat the rows that are found.
//! So it looks at as many nodes as the page needs, however many there are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use datafusion::error::Result as EngineResult;

use super::pause::pause;
use super::rows::ChunkRows;
use super::search::{GATHER_CANDIDATES, Part, Search};
use super::select::Selected;
use crate::memory::storage::{
    BLOCK_ROWS, CHUNK_ROWS, JobChunk, JobIdBytes, Node, Tables, Zone, ZoneTree, Zones, ids, locate,
};

/// A chunk with at most so many candidates is not looked at block by block.
const FEW_ROWS: u64 = CHUNK_ROWS as u64 / 8;
/// While nodes are this few, a skip is taken further down the tree.
const FEW_NODES: usize = 64;
/// So many candidates are looked at before it is judged whether an intersection pays.
const LOOK_AT_FIRST: u64 = 1024;

/// A column with zones.
pub(super) trait ZonedColumn: Send {
    type Value: Copy + Ord + Send + Sync;

    fn tree(tables: &Tables) -> &ZoneTree<Self::Value>;
    fn zones(chunk: &JobChunk) -> &Zones<Self::Value>;
    fn values(chunk: &JobChunk) -> &[Self::Value];
}

pub(super) struct Ids;

impl ZonedColumn for Ids {
    type Value = JobIdBytes;

    fn tree(tables: &Tables) -> &ZoneTree<JobIdBytes> {
        &tables.indexes.zones.ids
    }

    fn zones(chunk: &JobChunk) -> &Zones<JobIdBytes> {
        &chunk.id_zones
    }

    fn values(chunk: &JobChunk) -> &[JobIdBytes] {
        ids(chunk.job_id())
    }
}

pub(super) struct Submissions;

impl ZonedColumn for Submissions {
    type Value = i64;

    fn tree(tables: &Tables) -> &ZoneTree<i64> {
        &tables.indexes.zones.submitted
    }

    fn zones(chunk: &JobChunk) -> &Zones<i64> {
        &chunk.submitted_zones
    }

    fn values(chunk: &JobChunk) -> &[i64] {
        chunk.submitted().values()
    }
}

/// By whole seconds.
pub(super) struct LastTransitions;

impl ZonedColumn for LastTransitions {
    type Value = i64;

    fn tree(tables: &Tables) -> &ZoneTree<i64> {
        &tables.indexes.zones.last_transition_seconds
    }

    fn zones(chunk: &JobChunk) -> &Zones<i64> {
        &chunk.last_transition_seconds_zones
    }

    fn values(chunk: &JobChunk) -> &[i64] {
        chunk.last_transition_seconds().values()
    }
}

/// Sort direction: what comes first has the least key.
pub(super) trait Way<V>: Send {
    type Key: Copy + Ord + Send;
    /// Whether the last rows of a block most likely come first: jobs are stored about as they are submitted.
    const FROM_BEHIND: bool;

    fn key(value: V) -> Self::Key;
    /// The least and the greatest key of a zone.
    fn bounds(zone: Zone<V>) -> (Self::Key, Self::Key);
}

pub(super) struct Ascending;

impl<V: Copy + Ord + Send> Way<V> for Ascending {
    type Key = V;
    const FROM_BEHIND: bool = false;

    fn key(value: V) -> V {
        value
    }

    fn bounds(zone: Zone<V>) -> (V, V) {
        (zone.min, zone.max)
    }
}

pub(super) struct Descending;

impl<V: Copy + Ord + Send> Way<V> for Descending {
    type Key = Reverse<V>;
    const FROM_BEHIND: bool = true;

    fn key(value: V) -> Reverse<V> {
        Reverse(value)
    }

    fn bounds(zone: Zone<V>) -> (Reverse<V>, Reverse<V>) {
        (Reverse(zone.max), Reverse(zone.min))
    }
}

impl Search<'_> {
    pub(super) async fn by_zones<C: ZonedColumn, W: Way<C::Value>>(&self) -> EngineResult<Vec<u32>> {
        let Some(root) = C::tree(self.tables).root() else { return Ok(Vec::new()) };
        let key = |chunk: &JobChunk, at: usize| W::key(C::values(chunk)[at]);
        let candidates = self.selected.at_most(self.tables);
        if candidates <= GATHER_CANDIDATES {
            return Ok(self.part.of(self.gathered(&[root], key, self.part.end()).await?));
        }
        let (nodes, part) = self.narrowed::<C, W>(root).await?;
        let left: u64 = nodes.iter().map(|node| node.rows().len() as u64).sum();
        let found = if self.gathers(candidates.min(left), part.end()) {
            None
        } else {
            BestFirst::<C, W>::new(self, part.end()).search(&nodes).await?
        };
        Ok(part.of(match found {
            Some(rows) => rows,
            None => self.gathered(&nodes, key, part.end()).await?,
        }))
    }

    /// The nodes that can hold a row of the part, and the part of their rows that it is.
    ///
    /// Where all keys of some nodes come before all of the others, these rows are the first of
    /// the list, whatever their order; so a deep skip need only count them.
    async fn narrowed<C: ZonedColumn, W: Way<C::Value>>(&self, root: Node) -> EngineResult<(Vec<Node>, Part)> {
        let (mut nodes, mut part) = (vec![root], self.part);
        // To count rows that are narrowed takes an intersection, or a test of each.
        let counts = !self.selected.is_narrowed() && !self.selected.has_residual();
        if part.skip < if counts { BLOCK_ROWS } else { CHUNK_ROWS } {
            return Ok((nodes, part));
        }
        while nodes.len() <= FEW_NODES && !nodes.iter().any(|node| node.as_block().is_some()) {
            // A test of rows is by chunks, so it ends there.
            if self.selected.has_residual() && nodes.iter().any(|node| node.as_chunk().is_some()) {
                break;
            }
            let children = nodes.iter().flat_map(|node| node.children());
            let bounded = children.filter_map(|child| Some((bounds::<C, W>(self.tables, child)?, child)));
            (nodes, part) = self.passed(bounded.collect(), part).await?;
        }
        Ok((nodes, part))
    }

    /// Leaves out the nodes before the part and after it.
    async fn passed<K: Copy + Ord + Send>(
        &self,
        mut nodes: Vec<((K, K), Node)>,
        part: Part,
    ) -> EngineResult<(Vec<Node>, Part)> {
        nodes.sort_unstable();
        let (mut counted, mut greatest) = (0, None);
        // The last place before which all keys are less than all after, and the rows before it.
        let mut passed = (0, 0);
        let mut end = nodes.len();
        for (place, &((least, most), node)) in nodes.iter().enumerate() {
            if greatest.is_none_or(|greatest| greatest < least) {
                if counted <= part.skip {
                    passed = (place, counted);
                }
                if counted >= part.end() {
                    end = place;
                    break;
                }
            }
            counted += self.selected.count(self.tables, node).await?;
            greatest = greatest.max(Some(most));
        }
        let part = Part { skip: part.skip - passed.1, take: part.take };
        Ok((nodes[passed.0..end].iter().map(|&(_, node)| node).collect(), part))
    }
}

/// The least and the greatest key of a node's rows; none without rows.
fn bounds<C: ZonedColumn, W: Way<C::Value>>(tables: &Tables, node: Node) -> Option<(W::Key, W::Key)> {
    let zone = match node.as_block() {
        Some((chunk, block)) => C::zones(tables.jobs.chunks().get(chunk)?).blocks().get(block).copied(),
        None => C::tree(tables).zone(node),
    };
    zone.map(W::bounds)
}

/// A search that takes nodes by their bounds.
struct BestFirst<'a, C: ZonedColumn, W: Way<C::Value>> {
    tables: &'a Tables,
    selected: &'a Selected,
    limit: usize,
    open: BinaryHeap<Reverse<(W::Key, Node)>>,
    /// The best rows so far, the worst of them on top.
    best: BinaryHeap<(W::Key, u32)>,
    /// A residual is tested for all selected rows of a chunk at once.
    tested: BTreeMap<usize, ChunkRows>,
    /// How many candidates a chunk has on average.
    candidates: u64,
    /// How many candidates have been looked at.
    looked_at: u64,
}

impl<'a, C: ZonedColumn, W: Way<C::Value>> BestFirst<'a, C, W> {
    fn new(search: &Search<'a>, limit: usize) -> Self {
        let &Search { tables, selected, .. } = search;
        let candidates = selected.at_most(tables) * CHUNK_ROWS as u64 / tables.jobs.len().max(1) as u64;
        Self {
            tables,
            selected,
            limit,
            open: BinaryHeap::new(),
            best: BinaryHeap::new(),
            tested: BTreeMap::new(),
            candidates,
            looked_at: 0,
        }
    }

    /// The first rows of some nodes; none if they are better gathered.
    async fn search(mut self, nodes: &[Node]) -> EngineResult<Option<Vec<u32>>> {
        nodes.iter().for_each(|&node| self.push(node));
        while let Some(Reverse((least, node))) = self.open.pop() {
            if self.is_beaten(&least) {
                break;
            }
            if node.as_block().is_some() {
                self.look_at_block(node);
                continue;
            }
            if !self.selected.may_hold(self.tables, node) {
                continue;
            }
            if let Some(chunk) = node.as_chunk() {
                pause().await;
                if self.intersection_pays()
                    && self.selected.rows(self.tables).is_some_and(|rows| rows.len() <= GATHER_CANDIDATES)
                {
                    return Ok(None);
                }
                if self.look_at_few(node)? {
                    continue;
                }
                if self.selected.residual(self.tables, node).is_some() {
                    self.tested.insert(chunk, self.selected.chunk(self.tables, chunk)?);
                    self.looked_at += self.candidates;
                }
            }
            node.children().for_each(|child| self.push(child));
        }
        Ok(Some(self.best.into_sorted_vec().into_iter().map(|(_, row)| row).collect()))
    }

    /// Whether there are enough rows whose keys are no greater.
    fn is_beaten(&self, key: &W::Key) -> bool {
        self.best.len() >= self.limit && self.best.peek().is_none_or(|(worst, _)| worst <= key)
    }

    /// Whether so few of the candidates were selected that the others are better intersected.
    fn intersection_pays(&self) -> bool {
        if self.best.len() >= self.limit || self.looked_at < LOOK_AT_FIRST {
            return false;
        }
        let left = self.selected.at_most(self.tables).saturating_sub(self.looked_at);
        let wanted = (self.limit - self.best.len()) as u64;
        let expected = wanted.saturating_mul(self.looked_at) / (self.best.len() as u64).max(1);
        self.selected.intersection_pays(self.tables, left.min(expected))
    }

    /// Looks at the candidates of a chunk if they are few.
    fn look_at_few(&mut self, node: Node) -> EngineResult<bool> {
        if self.candidates > FEW_ROWS || !self.selected.has_few(node.rows(), FEW_ROWS) {
            return Ok(false);
        }
        let values = C::values(self.tables.jobs.locate(node.rows().start).0);
        let key = |row: u32| W::key(values[locate(row).1]);
        let mut rows = Vec::new();
        let mut take = |row: u32| {
            if !self.is_beaten(&key(row)) {
                rows.push(row);
            }
        };
        let looked_at = self.selected.visit(self.tables, node.rows(), &mut take);
        self.looked_at += looked_at;
        for row in self.selected.passing(self.tables, rows)? {
            offer(&mut self.best, self.limit, (key(row), row));
        }
        Ok(true)
    }

    fn look_at_block(&mut self, node: Node) {
        let rows = node.rows();
        let (chunk, first) = locate(rows.start);
        let values = C::values(&self.tables.jobs.chunks()[chunk]);
        let row_at = |at: usize| rows.start + (at - first) as u32;
        let key = |row: u32| W::key(values[locate(row).1]);
        let (best, limit) = (&mut self.best, self.limit);
        if let Some(tested) = self.tested.get(&chunk) {
            tested.block(first / BLOCK_ROWS).for_each(|at| offer(best, limit, (W::key(values[at]), row_at(at))));
        } else if best.len() < limit && self.selected.is_narrowed() {
            self.looked_at += self.selected.visit(self.tables, rows.clone(), |row| offer(best, limit, (key(row), row)));
        } else {
            // Few rows beat those that are there: only these are looked up.
            let narrowed = self.selected.is_narrowed();
            let look = |at: usize| {
                let entry = (W::key(values[at]), row_at(at));
                let is_beaten = best.len() >= limit && best.peek().is_none_or(|worst| *worst <= entry);
                if !is_beaten && (!narrowed || self.selected.admits(self.tables, entry.1)) {
                    offer(best, limit, entry);
                }
            };
            let block = first..values.len().min(first + BLOCK_ROWS);
            if W::FROM_BEHIND { block.rev().for_each(look) } else { block.for_each(look) }
        }
    }

    fn push(&mut self, node: Node) {
        if let Some((least, _)) = bounds::<C, W>(self.tables, node)
            && !self.is_beaten(&least)
        {
            self.open.push(Reverse((least, node)));
        }
    }
}

/// Keeps the least `limit` entries.
fn offer<K: Copy + Ord>(best: &mut BinaryHeap<(K, u32)>, limit: usize, entry: (K, u32)) {
    if best.len() < limit {
        best.push(entry);
    } else if let Some(mut worst) = best.peek_mut()
        && entry < *worst
    {
        *worst = entry;
    }
}
