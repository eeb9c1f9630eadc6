//! Ids of fixed width: compared, hashed and stored without following a pointer.

use std::hash::{BuildHasher, Hash};
use std::str;

use datafusion::arrow::array::FixedSizeBinaryArray;
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::error::ArrowError;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parking_lot::RwLock;

use crate::ingest::{JOB_ID_BYTES, RUN_ID_BYTES, holds_nul};

/// An id of at most `N` bytes, padded with NULs.
///
/// No stored id holds a NUL, so the padding loses nothing, and comparing the padded bytes is
/// comparing the ids: a proper prefix sorts first, as NUL is the least byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub(crate) struct FixedId<const N: usize>([u8; N]);

/// A job's id.
pub(crate) type JobId = FixedId<JOB_ID_BYTES>;
/// A run's id.
pub(crate) type RunId = FixedId<RUN_ID_BYTES>;

impl<const N: usize> FixedId<N> {
    /// The id of a text; none if no stored id can be that text.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() > N || holds_nul(text) {
            return None;
        }
        let mut id = [0; N];
        id[..bytes.len()].copy_from_slice(bytes);
        Some(Self(id))
    }

    /// The id at a place of a column.
    #[inline]
    pub(crate) fn at(column: &FixedSizeBinaryArray, at: usize) -> Self {
        Self(ids(column)[at])
    }

    /// A column of ids.
    pub(crate) fn column(ids: impl Iterator<Item = Self>) -> Result<FixedSizeBinaryArray, ArrowError> {
        let bytes: Vec<u8> = ids.flat_map(|id| id.0).collect();
        FixedSizeBinaryArray::try_new(N as i32, Buffer::from_vec(bytes), None)
    }

    pub(crate) const fn to_bytes(self) -> [u8; N] {
        self.0
    }

    /// The text of the id.
    pub(crate) fn as_str(&self) -> &str {
        let len = self.0.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        // Ids are only made from texts, so this never falls back.
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

/// From ids to rows, in constant time, for the writer and every snapshot at once.
///
/// Rows are only ever added and a row's id never changes, so one table serves all: a snapshot
/// takes a row that it does not have for no match. The table holds rows alone and compares
/// against the id column. It is cut into shards, each under its own lock, so that no reader
/// waits while a large table grows.
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
    /// The row of an id, by what `is_id` says of the candidates.
    pub(crate) fn find<K: Hash>(&self, id: &K, is_id: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        self.shard(hash).read().find(hash, |&row| is_id(row)).copied()
    }

    /// The rows of many ids, in their order, by what `is_id` says of the candidates; none for what is no id.
    ///
    /// For the writer, as all shards stay locked against it. Without a lock from one look-up to the
    /// next, the processor can wait for the memory of several of them at once.
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

    /// Makes room for more rows. `id_of` gives the ids of rows added before.
    pub(crate) fn reserve<K: Hash>(&self, more: usize, id_of: impl Fn(u32) -> K) {
        for shard in &self.shards {
            shard.write().reserve(more.div_ceil(SHARDS), |&row| self.hasher.hash_one(id_of(row)));
        }
    }

    /// Adds a row, whose id is not there yet. `id_of` gives the ids of rows added before.
    pub(crate) fn insert<K: Hash>(&self, id: &K, row: u32, id_of: impl Fn(u32) -> K) {
        let hash = self.hasher.hash_one(id);
        self.shard(hash).write().insert_unique(hash, row, |&row| self.hasher.hash_one(id_of(row)));
    }

    fn shard(&self, hash: u64) -> &RwLock<HashTable<u32>> {
        &self.shards[shard_of(hash)]
    }

    /// Bytes that the index occupies.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().allocation_size()).sum()
    }
}

fn shard_of(hash: u64) -> usize {
    // The table itself uses the lowest and the highest bits.
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
    fn texts_that_cannot_be_stored_are_no_ids() {
        assert!(JobId::new("a\0").is_none());
        assert!(JobId::new(&"x".repeat(33)).is_none());
        assert_eq!(JobId::new(&"x".repeat(32)).unwrap().as_str().len(), 32);
    }
}
