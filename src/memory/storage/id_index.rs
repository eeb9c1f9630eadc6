//! Hash indexes from ids to rows.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parking_lot::RwLock;

const SHARDS: usize = 64;

/// A hash index from ids to rows, shared by the writer and all snapshots.
///
/// Rows are only added and the id of a row never changes, so one table serves every version: a snapshot ignores rows
/// that it does not have. The table contains rows and a part of their hashes, so its growth reads no ids, and ids are
/// compared in the id column. It is split into shards, each with its own lock, so that a reader waits for the growth of
/// at most one shard.
#[derive(Debug)]
pub(crate) struct IdIndex {
    shards: Box<[RwLock<HashTable<Entry>>]>,
    hasher: RandomState,
}

/// A row, and the upper half of the hash of its id.
#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u32,
    row: u32,
}

impl Entry {
    /// The hash for the table, which uses its lowest and its highest bits.
    fn hash(tag: u32) -> u64 {
        u64::from(tag) << 32 | u64::from(tag)
    }
}

impl Default for IdIndex {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect(), hasher: RandomState::default() }
    }
}

impl IdIndex {
    /// The row of an id. `is_id` compares the id of a candidate row.
    pub(crate) fn find<K: Hash>(&self, id: &K, is_id: impl Fn(u32) -> bool) -> Option<u32> {
        let (shard, tag) = self.shard_and_tag(id);
        find(&self.shards[shard].read(), tag, is_id)
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
        let row = |id: Option<K>| {
            let id = id?;
            let (shard, tag) = self.shard_and_tag(&id);
            find(&shards[shard], tag, |row| is_id(&id, row))
        };
        ids.map(row).collect()
    }

    /// Reserves capacity for more rows.
    pub(crate) fn reserve(&self, more: usize) {
        for shard in &self.shards {
            shard.write().reserve(more.div_ceil(SHARDS), |entry| Entry::hash(entry.tag));
        }
    }

    /// Adds a row whose id is not in the index.
    pub(crate) fn insert<K: Hash>(&self, id: &K, row: u32) {
        let (shard, tag) = self.shard_and_tag(id);
        let entry = Entry { tag, row };
        self.shards[shard].write().insert_unique(Entry::hash(tag), entry, |entry| Entry::hash(entry.tag));
    }

    fn shard_and_tag<K: Hash>(&self, id: &K) -> (usize, u32) {
        let hash = self.hasher.hash_one(id);
        (hash as usize % SHARDS, (hash >> 32) as u32)
    }

    /// The size of the index, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().allocation_size()).sum()
    }
}

fn find(shard: &HashTable<Entry>, tag: u32, is_id: impl Fn(u32) -> bool) -> Option<u32> {
    shard.find(Entry::hash(tag), |entry| entry.tag == tag && is_id(entry.row)).map(|entry| entry.row)
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
        let mut shard = HashTable::default();
        for tag in [0, 7, u32::MAX] {
            assert_eq!(find(&shard, tag, |_| true), None);
        }
        for row in 0..300 {
            let tag = [0, 7, u32::MAX][row as usize % 3];
            shard.insert_unique(Entry::hash(tag), Entry { tag, row }, |entry| Entry::hash(entry.tag));
        }
        for row in 0..300 {
            let tag = [0, 7, u32::MAX][row as usize % 3];
            assert_eq!(find(&shard, tag, |found| found == row), Some(row));
            assert_eq!(find(&shard, 8, |_| true), None);
        }
    }
}
