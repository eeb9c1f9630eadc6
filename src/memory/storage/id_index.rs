//! Hash indexes from ids to rows, and from texts to codes.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use parking_lot::RwLock;

/// The number of shards of an index of ids. The growth of a shard with a million entries takes a few milliseconds.
const SHARDS: usize = 64;

/// A hash index from ids to rows, shared by the writer and all snapshots.
///
/// Rows are only added and the id of a row never changes, so one table serves every version: a snapshot ignores rows
/// that it does not have. The table contains rows and a part of their hashes, and ids are compared in the id column. It
/// is split into shards, each with its own lock, so that a reader waits for the growth of at most one shard.
///
/// A lookup in a large table misses the cache: twice in a general hash table, for its control bytes and its entry, and
/// once here. [`find_all`](Self::find_all) overlaps the misses of many lookups. An id takes 11 to 21 bytes.
#[derive(Debug)]
pub(crate) struct IdIndex {
    shards: Box<[RwLock<Shard>]>,
    hasher: RandomState,
}

impl Default for IdIndex {
    fn default() -> Self {
        Self::with_shards(SHARDS)
    }
}

impl IdIndex {
    /// An index with a number of shards, which must be a power of two.
    pub(crate) fn with_shards(shards: usize) -> Self {
        Self { shards: (0..shards).map(|_| RwLock::default()).collect(), hasher: RandomState::default() }
    }

    /// The row of an id. `is_id` compares the id of a candidate row.
    pub(crate) fn find<K: Hash + ?Sized>(&self, id: &K, is_id: impl Fn(u32) -> bool) -> Option<u32> {
        let (shard, tag) = self.shard_and_tag(id);
        let shard = self.shards[shard].read();
        let home = shard.home(tag);
        shard.find(tag, home, shard.slot(home), is_id)
    }

    /// The rows of many ids, in their order; `None` for an unknown id. `is_id` compares the id of a candidate row.
    ///
    /// Only for the writer: all shards stay locked for reading.
    pub(crate) fn find_all<K: Hash>(
        &self,
        ids: impl Iterator<Item = Option<K>>,
        is_id: impl Fn(&K, u32) -> bool,
    ) -> Vec<Option<u32>> {
        let shards: Vec<_> = self.shards.iter().map(RwLock::read).collect();
        let probe = |id: Option<K>| {
            let id = id?;
            let (shard, tag) = self.shard_and_tag(&id);
            Some(Probe { shard: &shards[shard], tag, home: shards[shard].home(tag), id })
        };
        let probes: Vec<Option<Probe<'_, K>>> = ids.map(probe).collect();
        // The loads of this loop do not depend on each other, so their cache misses overlap.
        let first = |probe: &Option<Probe<'_, K>>| probe.as_ref().map_or(Slot::EMPTY, |of| of.shard.slot(of.home));
        let first: Vec<Slot> = probes.iter().map(first).collect();
        let find = |(probe, first): (Option<Probe<'_, K>>, Slot)| {
            let Probe { shard, tag, home, id } = probe?;
            shard.find(tag, home, first, |row| is_id(&id, row))
        };
        probes.into_iter().zip(first).map(find).collect()
    }

    /// Reserves capacity for more rows.
    pub(crate) fn reserve(&self, more: usize) {
        for shard in &self.shards {
            shard.write().reserve(more.div_ceil(self.shards.len()));
        }
    }

    /// Adds a row whose id is not in the index.
    pub(crate) fn insert<K: Hash + ?Sized>(&self, id: &K, row: u32) {
        let (shard, tag) = self.shard_and_tag(id);
        self.shards[shard].write().insert(Slot::new(tag, row));
    }

    /// The shard and the tag of an id; the tag is the upper half of the hash.
    fn shard_and_tag<K: Hash + ?Sized>(&self, id: &K) -> (usize, u32) {
        let hash = self.hasher.hash_one(id);
        (hash as usize & (self.shards.len() - 1), (hash >> 32) as u32)
    }

    /// The size of the index, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().slots.capacity() * size_of::<Slot>()).sum()
    }
}

/// A lookup of an id in its shard.
struct Probe<'a, K> {
    shard: &'a Shard,
    tag: u32,
    home: usize,
    id: K,
}

/// An entry: the tag in the upper 32 bits, the row plus one in the lower 32 bits. Zero is an empty slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot(u64);

impl Slot {
    const EMPTY: Self = Self(0);

    /// Rows are below 2^31.
    const fn new(tag: u32, row: u32) -> Self {
        Self((tag as u64) << 32 | (row + 1) as u64)
    }

    const fn tag(self) -> u32 {
        (self.0 >> 32) as u32
    }

    const fn row(self) -> u32 {
        self.0 as u32 - 1
    }
}

/// An open-addressing hash table with linear probing.
///
/// A search for a tag starts at the slot `tag * slots / 2^32`, so the entries are in the order of their tags. When the
/// table grows, they are copied in this order, and no id is read or hashed again.
#[derive(Debug, Default)]
struct Shard {
    /// The bits of [`Slot`]s: a vector of zeros is allocated without writes.
    slots: Vec<u64>,
    len: usize,
}

/// The smallest number of slots of a shard with rows. All numbers of slots are powers of two.
const MIN_SLOTS: usize = 8;

impl Shard {
    /// The slot at which the search for a tag starts.
    fn home(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.slots.len() as u64) >> 32) as usize
    }

    fn slot(&self, at: usize) -> Slot {
        self.slots.get(at).map_or(Slot::EMPTY, |&bits| Slot(bits))
    }

    /// The row with a tag that passes `is_id`, given the home of the tag and the content of this slot.
    fn find(&self, tag: u32, home: usize, first: Slot, is_id: impl Fn(u32) -> bool) -> Option<u32> {
        let (mut at, mut slot) = (home, first);
        // Some slots are always empty, so the search ends.
        while slot != Slot::EMPTY {
            if slot.tag() == tag && is_id(slot.row()) {
                return Some(slot.row());
            }
            at = self.next(at);
            slot = self.slot(at);
        }
        None
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    fn reserve(&mut self, more: usize) {
        // At most three quarters of the slots are used, because longer probes would cost more than the memory.
        let slots = ((self.len + more) * 4 / 3 + 1).next_power_of_two().max(MIN_SLOTS);
        if slots > self.slots.len() {
            let old = std::mem::replace(&mut self.slots, vec![0; slots]);
            old.into_iter().map(Slot).filter(|&slot| slot != Slot::EMPTY).for_each(|slot| self.put(slot));
        }
    }

    fn insert(&mut self, slot: Slot) {
        self.reserve(1);
        self.put(slot);
        self.len += 1;
    }

    fn put(&mut self, slot: Slot) {
        let mut at = self.home(slot.tag());
        while self.slot(at) != Slot::EMPTY {
            at = self.next(at);
        }
        self.slots[at] = slot.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_found_as_the_index_grows() {
        let index = IdIndex::default();
        let ids: Vec<u64> = (0..20_000).map(|at| at * 7919).collect();
        for known in 0..ids.len() {
            index.insert(&ids[known], known as u32);
            if known % 1999 == 0 {
                index.reserve(known % 3 * 1000);
                let lookups = || ids.iter().map(|&id| (id != 7919 * 5).then_some(id));
                let found = index.find_all(lookups(), |&id, row| ids[row as usize] == id);
                for (at, row) in found.into_iter().enumerate() {
                    assert_eq!(row, (at <= known && at != 5).then_some(at as u32));
                    assert_eq!(index.find(&ids[at], |row| row as usize == at), (at <= known).then_some(at as u32));
                }
            }
        }
    }

    #[test]
    fn rows_with_equal_tags_are_distinguished_by_their_ids() {
        let mut shard = Shard::default();
        for tag in [0, 7, u32::MAX] {
            assert_eq!(shard.find(tag, shard.home(tag), shard.slot(0), |_| true), None);
        }
        // The probes of the greatest tags continue at the first slot.
        for row in 0..300 {
            shard.insert(Slot::new([0, 7, u32::MAX][row as usize % 3], row));
        }
        for row in 0..300 {
            let tag = [0, 7, u32::MAX][row as usize % 3];
            let (home, other) = (shard.home(tag), shard.home(8));
            assert_eq!(shard.find(tag, home, shard.slot(home), |found| found == row), Some(row));
            assert_eq!(shard.find(8, other, shard.slot(other), |_| true), None);
        }
    }
}
