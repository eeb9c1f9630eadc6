//! Zone maps: the minimum and maximum of blocks of rows, of groups of blocks, of chunks, of 32 chunks and so on.
//! Ordered pages prune ranges of rows by them.

use std::ops::Range;
use std::sync::Arc;

use super::located_rows::{CHUNK_BITS, CHUNK_ROWS};

/// The number of rows of a block, the smallest range with a zone.
///
/// It is small because a search for the latest transitions reads about one block per row: the transitions of jobs
/// submitted together can be hours apart.
pub(crate) const BLOCK_ROWS: usize = 1 << BLOCK_BITS;
const BLOCK_BITS: u32 = 6;
pub(crate) const GROUP_ROWS: usize = 1 << GROUP_BITS;
const GROUP_BITS: u32 = 9;
/// The number of chunks per node of the level above, and of nodes per node of the next level.
const FANOUT: usize = 1 << FANOUT_BITS;
const FANOUT_BITS: u32 = 5;

/// The minimum and the maximum of a range of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Zone<K> {
    pub(crate) min: K,
    pub(crate) max: K,
}

impl<K: Copy + Ord> Zone<K> {
    fn of(value: K) -> Self {
        Self { min: value, max: value }
    }

    fn over(zones: impl Iterator<Item = Self>) -> Option<Self> {
        zones.reduce(|a, b| Self { min: a.min.min(b.min), max: a.max.max(b.max) })
    }
}

/// The zones within a chunk. They are exact after every update.
#[derive(Debug, Clone)]
pub(crate) struct Zones<K> {
    within: Arc<ZonesWithin<K>>,
    whole: Option<Zone<K>>,
}

#[derive(Debug, Clone)]
struct ZonesWithin<K> {
    blocks: Vec<Zone<K>>,
    groups: Vec<Zone<K>>,
}

impl<K> Default for Zones<K> {
    fn default() -> Self {
        Self { within: Arc::new(ZonesWithin { blocks: Vec::new(), groups: Vec::new() }), whole: None }
    }
}

/// The part of a slice that a node of the next level covers.
fn part<T>(of: &[T], at: usize, size: usize) -> &[T] {
    &of[at * size..of.len().min((at + 1) * size)]
}

/// Replaces a value, or appends the next one.
fn put<T>(values: &mut Vec<T>, at: usize, value: T) {
    if at < values.len() { values[at] = value } else { values.push(value) }
}

impl<K: Copy + Ord> Zones<K> {
    /// The zone of all rows; `None` if there are no rows.
    pub(crate) fn whole(&self) -> Option<Zone<K>> {
        self.whole
    }

    /// The zone of a node within the chunk; `None` if it has no rows.
    pub(crate) fn zone(&self, node: Node) -> Option<Zone<K>> {
        let zones = if node.is_block() { &self.within.blocks } else { &self.within.groups };
        zones.get(node.index_in_chunk()).copied()
    }

    /// Extends the zones by the rows of the chunk from `first` on.
    pub(crate) fn append<V: Copy + Into<K>>(&mut self, values: &[V], first: usize) {
        let ZonesWithin { blocks, groups } = Arc::make_mut(&mut self.within);
        for block in first / BLOCK_ROWS..values.len().div_ceil(BLOCK_ROWS) {
            let rows = part(values, block, BLOCK_ROWS).iter();
            if let Some(zone) = Zone::over(rows.map(|&value| Zone::of(value.into()))) {
                put(blocks, block, zone);
            }
        }
        for group in first / GROUP_ROWS..values.len().div_ceil(GROUP_ROWS) {
            if let Some(zone) = Zone::over(part(blocks, group, GROUP_ROWS / BLOCK_ROWS).iter().copied()) {
                put(groups, group, zone);
            }
        }
        self.whole = Zone::over(groups.iter().copied());
    }

    /// Updates the zone of the row at `at`, whose value was `old` and is now `values[at]`.
    pub(crate) fn update(&mut self, values: &[K], at: usize, old: K) {
        let (block, group) = (at / BLOCK_ROWS, at / GROUP_ROWS);
        let (before, new) = (self.within.blocks[block], values[at]);
        let zone = if old == before.min || old == before.max {
            let rows = part(values, block, BLOCK_ROWS).iter();
            Zone::over(rows.map(|&value| Zone::of(value))).unwrap_or(before)
        } else {
            Zone { min: before.min.min(new), max: before.max.max(new) }
        };
        if zone == before {
            return;
        }
        let ZonesWithin { blocks, groups } = Arc::make_mut(&mut self.within);
        blocks[block] = zone;
        let before = groups[group];
        let zone = Zone::over(part(blocks, group, GROUP_ROWS / BLOCK_ROWS).iter().copied()).unwrap_or(before);
        if zone != before {
            groups[group] = zone;
            self.whole = Zone::over(groups.iter().copied());
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        (self.within.blocks.capacity() + self.within.groups.capacity()) * size_of::<Zone<K>>()
    }
}

/// A range of rows with a zone: a block, a group of blocks, a chunk, or 32 nodes of the level below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node {
    level: u32,
    at: u32,
}

impl Node {
    const CHUNK_LEVEL: u32 = 2;

    /// The base-2 logarithm of the number of rows of the nodes of a level.
    const fn row_bits(level: u32) -> u32 {
        match level {
            0 => BLOCK_BITS,
            1 => GROUP_BITS,
            _ => CHUNK_BITS + FANOUT_BITS * (level - Self::CHUNK_LEVEL),
        }
    }

    pub(crate) fn chunk(at: usize) -> Self {
        Self { level: Self::CHUNK_LEVEL, at: at as u32 }
    }

    pub(crate) fn block_of(row: u32) -> Self {
        Self { level: 0, at: row >> BLOCK_BITS }
    }

    pub(crate) fn is_block(self) -> bool {
        self.level == 0
    }

    /// The index of the chunk, if the node is a block or a group of blocks.
    pub(crate) fn within_chunk(self) -> Option<usize> {
        (self.level < Self::CHUNK_LEVEL).then(|| (self.at >> (CHUNK_BITS - Self::row_bits(self.level))) as usize)
    }

    /// The index of a block or group of blocks among those of its chunk.
    fn index_in_chunk(self) -> usize {
        self.at as usize & ((CHUNK_ROWS >> Self::row_bits(self.level)) - 1)
    }

    /// The index of the chunk, if the node is a chunk.
    pub(crate) fn as_chunk(self) -> Option<usize> {
        (self.level == Self::CHUNK_LEVEL).then_some(self.at as usize)
    }

    /// The nodes of the level below. The last ones may not exist.
    pub(crate) fn children(self) -> impl Iterator<Item = Self> {
        let below = self.level.checked_sub(1);
        below.into_iter().flat_map(move |level| {
            let bits = Self::row_bits(self.level) - Self::row_bits(level);
            let first = self.at << bits;
            (first..first + (1 << bits)).map(move |at| Self { level, at })
        })
    }

    /// The rows. The last ones may not exist.
    pub(crate) fn rows(self) -> Range<u32> {
        let bits = Self::row_bits(self.level);
        // The range of the root may exceed the greatest row id.
        let first = |at: u64| u32::try_from(at << bits).unwrap_or(u32::MAX);
        first(self.at.into())..first(u64::from(self.at) + 1)
    }
}

/// The zones of all chunks, of groups of 32 chunks and so on, up to one of all rows.
///
/// They are stored outside the chunks: a search reads many of them, and would otherwise fetch each chunk.
#[derive(Debug, Clone)]
pub(crate) struct ZoneTree<K> {
    /// The levels, from the chunks up. The last level has one node.
    levels: Vec<Arc<Vec<Zone<K>>>>,
}

impl<K> Default for ZoneTree<K> {
    fn default() -> Self {
        Self { levels: Vec::new() }
    }
}

impl<K: Copy + Ord> ZoneTree<K> {
    /// Sets the zone of an existing chunk or of the next one.
    pub(crate) fn set(&mut self, chunk: usize, zone: Zone<K>) {
        let (mut at, mut zone) = (chunk, zone);
        for level in 0.. {
            if level == self.levels.len() {
                self.levels.push(Arc::default());
            }
            if self.levels[level].get(at) == Some(&zone) {
                return;
            }
            let zones = Arc::make_mut(&mut self.levels[level]);
            put(zones, at, zone);
            if zones.len() == 1 {
                return;
            }
            at /= FANOUT;
            let Some(over) = Zone::over(part(zones, at, FANOUT).iter().copied()) else { return };
            zone = over;
        }
    }

    /// The node of all rows; `None` if there are no rows.
    pub(crate) fn root(&self) -> Option<Node> {
        Some(Node { level: Node::CHUNK_LEVEL + self.levels.len().checked_sub(1)? as u32, at: 0 })
    }

    /// The zone of a chunk or of a node above.
    pub(crate) fn zone(&self, node: Node) -> Option<Zone<K>> {
        self.levels.get(node.level.checked_sub(Node::CHUNK_LEVEL)? as usize)?.get(node.at as usize).copied()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.levels.iter().map(|level| level.capacity() * size_of::<Zone<K>>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_of_zones_stays_exact_under_appends_and_updates() {
        let mut tree = ZoneTree::default();
        assert_eq!(tree.root(), None);
        let mut chunks: Vec<i64> = Vec::new();
        for step in 0..3000usize {
            // Two new chunks, then one whose zone changes.
            let at = if step % 3 < 2 { chunks.len() } else { step * 7919 % chunks.len() };
            let value = (step * 104_729 % 1000) as i64;
            if at == chunks.len() {
                chunks.push(value)
            } else {
                chunks[at] = value
            }
            tree.set(at, Zone { min: value, max: value + 5 });
        }
        let (mut nodes, mut leaves) = (vec![tree.root().unwrap()], 0);
        while let Some(node) = nodes.pop() {
            let rows = node.rows();
            if rows.start as usize / CHUNK_ROWS >= chunks.len() {
                assert_eq!(tree.zone(node), None);
                continue;
            }
            let of = &chunks[rows.start as usize / CHUNK_ROWS..chunks.len().min(rows.end as usize / CHUNK_ROWS)];
            let zone = Zone { min: *of.iter().min().unwrap(), max: of.iter().max().unwrap() + 5 };
            assert_eq!(tree.zone(node), Some(zone), "{node:?}");
            leaves += usize::from(node.as_chunk().is_some());
            nodes.extend(node.children().filter(|child| child.within_chunk().is_none()));
        }
        assert_eq!((leaves, chunks.len()), (2000, 2000));
    }

    #[test]
    fn nodes_have_row_ranges() {
        assert_eq!(Node::chunk(3).rows(), 3 * CHUNK_ROWS as u32..4 * CHUNK_ROWS as u32);
        let end = 2 * CHUNK_ROWS as u32;
        let group = Node::chunk(1).children().last().unwrap();
        assert_eq!(group.rows(), end - GROUP_ROWS as u32..end);
        assert_eq!((group.within_chunk(), group.index_in_chunk(), group.as_chunk()), (Some(1), 15, None));
        let block = group.children().last().unwrap();
        assert_eq!(block.rows(), end - BLOCK_ROWS as u32..end);
        assert_eq!((block.within_chunk(), block.index_in_chunk(), block.is_block()), (Some(1), 127, true));
        assert_eq!(block.children().count(), 0);
        assert!(Node { level: 3, at: 2 }.children().eq((64..96).map(Node::chunk)));
        // With more than 32^3 chunks, the rows of the root exceed `u32`.
        assert_eq!(Node { level: 6, at: 0 }.rows(), 0..u32::MAX);
    }

    #[test]
    fn zones_stay_exact_under_appends_and_updates() {
        let mut values: Vec<i64> = Vec::new();
        let mut zones = Zones::default();
        for part in 0..7 {
            let first = values.len();
            values.extend((0..150).map(|at| (at * 7919 + part * 31) % 1000));
            zones.append(&values, first);
        }
        for (at, new) in [(0, -5), (300, 2000), (300, 10), (0, 500), (1049, 77)] {
            let old = std::mem::replace(&mut values[at], new);
            zones.update(&values, at, old);
        }
        let groups: Vec<Node> = Node::chunk(0).children().collect();
        for node in groups.iter().flat_map(|group| group.children()).chain(groups.iter().copied()) {
            let rows = node.rows().start as usize..values.len().min(node.rows().end as usize);
            let zone = values.get(rows).and_then(|rows| Zone::over(rows.iter().map(|&value| Zone::of(value))));
            assert_eq!(zones.zone(node), zone, "{node:?}");
        }
        assert_eq!(zones.whole(), Zone::over(values.iter().map(|&value| Zone::of(value))));
    }
}
