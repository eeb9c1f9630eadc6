//! Fixed-width ids, compared and hashed without following a pointer.

use std::hash::{BuildHasher, Hash};
use std::str;

use datafusion::arrow::array::FixedSizeBinaryArray;
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::error::ArrowError;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parking_lot::RwLock;

use crate::ingest::{JOB_ID_BYTES, RUN_ID_BYTES, contains_nul};

/// An id of at most `N` bytes, padded with NULs.
///
/// No valid id contains a NUL, so padded ids are equal only if the ids are, and sort in the same order: a proper prefix
/// sorts first, as NUL is the least byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub(crate) struct FixedId<const N: usize>([u8; N]);

/// A job's id.
pub(crate) type JobId = FixedId<JOB_ID_BYTES>;
/// A run's id.
pub(crate) type RunId = FixedId<RUN_ID_BYTES>;

impl<const N: usize> FixedId<N> {
    /// The id of a string; `None` if the string is not a valid id.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() > N || contains_nul(text) {
            return None;
        }
        let mut id = [0; N];
        id[..bytes.len()].copy_from_slice(bytes);
        Some(Self(id))
    }

    /// The id at an index of a column.
    #[inline]
    pub(crate) fn at(column: &FixedSizeBinaryArray, at: usize) -> Self {
        Self(ids(column)[at])
    }

    /// A column of ids.
    pub(crate) fn column(ids: impl Iterator<Item = Self>) -> Result<FixedSizeBinaryArray, ArrowError> {
        let mut bytes = Vec::with_capacity(ids.size_hint().0 * N);
        ids.for_each(|id| bytes.extend_from_slice(&id.0));
        FixedSizeBinaryArray::try_new(N as i32, Buffer::from_vec(bytes), None)
    }

    pub(crate) const fn to_bytes(self) -> [u8; N] {
        self.0
    }

    /// The id as a string.
    pub(crate) fn as_str(&self) -> &str {
        let len = self.0.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        // The bytes come from a `str`, so this never fails.
        str::from_utf8(&self.0[..len]).unwrap_or_default()
    }
}

impl<const N: usize> From<[u8; N]> for FixedId<N> {
    fn from(padded: [u8; N]) -> Self {
        Self(padded)
    }
}

/// The ids of an array.
pub(crate) fn ids<const N: usize>(array: &FixedSizeBinaryArray) -> &[[u8; N]] {
    array.value_data().as_chunks().0
}

const SHARDS: usize = 64;

/// A hash index from ids to rows, shared by the writer and all snapshots.
///
/// Rows are only added and the id of a row never changes, so one table serves every version: a snapshot ignores rows
/// that it does not have. The table stores only rows, and compares ids in the id column. It is split into shards, each
/// with its own lock, so that a reader waits for the resize of at most one shard.
#[derive(Debug)]
pub(crate) struct IdIndex {
    shards: Box<[RwLock<HashTable<u32>>]>,
    hasher: RandomState,
}

impl Default for IdIndex {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect(), hasher: RandomState::default() }
    }
}

impl IdIndex {
    /// The row of an id. `is_id` compares the id of a candidate row.
    pub(crate) fn find<K: Hash>(&self, id: &K, is_id: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        self.shard(hash).read().find(hash, |&row| is_id(row)).copied()
    }

    /// The rows of many ids, in their order; `None` for an unknown id. `is_id` compares the id of a candidate row.
    ///
    /// Only for the writer: all shards stay locked for reading, so that the cache misses of several lookups overlap.
    pub(crate) fn find_all<K: Hash>(
        &self,
        ids: impl Iterator<Item = Option<K>>,
        is_id: impl Fn(&K, u32) -> bool,
    ) -> Vec<Option<u32>> {
        let shards: Vec<_> = self.shards.iter().map(RwLock::read).collect();
        let find = |id: K| {
            let hash = self.hasher.hash_one(&id);
            shards[shard_of(hash)].find(hash, |&row| is_id(&id, row)).copied()
        };
        ids.map(|id| id.and_then(find)).collect()
    }

    /// Reserves capacity for more rows. `id_of` returns the id of an indexed row.
    pub(crate) fn reserve<K: Hash>(&self, more: usize, id_of: impl Fn(u32) -> K) {
        for shard in &self.shards {
            shard.write().reserve(more.div_ceil(SHARDS), |&row| self.hasher.hash_one(id_of(row)));
        }
    }

    /// Adds a row whose id is not in the index. `id_of` returns the id of an indexed row.
    pub(crate) fn insert<K: Hash>(&self, id: &K, row: u32, id_of: impl Fn(u32) -> K) {
        let hash = self.hasher.hash_one(id);
        self.shard(hash).write().insert_unique(hash, row, |&row| self.hasher.hash_one(id_of(row)));
    }

    fn shard(&self, hash: u64) -> &RwLock<HashTable<u32>> {
        &self.shards[shard_of(hash)]
    }

    /// The size of the index, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().allocation_size()).sum()
    }
}

fn shard_of(hash: u64) -> usize {
    // The hash table uses the lowest and the highest bits.
    (hash >> 32) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padded_ids_sort_as_their_texts_do() {
        let texts = ["", "a", "a\u{1}", "aa", "ab", "b", "\u{e9}"];
        let ids: Vec<_> = texts.iter().map(|text| JobId::new(text).unwrap()).collect();
        assert!(ids.is_sorted());
        assert!(ids.iter().map(FixedId::as_str).eq(texts));
    }

    #[test]
    fn invalid_texts_are_no_ids() {
        assert!(JobId::new("a\0").is_none());
        assert!(JobId::new(&"x".repeat(33)).is_none());
        assert_eq!(JobId::new(&"x".repeat(32)).unwrap().as_str().len(), 32);
    }
}
