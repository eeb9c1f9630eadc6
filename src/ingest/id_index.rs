//! A hash index from ids to positions in a list, without a second copy of the ids.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// A hash index from ids to positions in a list that contains the ids.
#[derive(Default)]
pub(super) struct IdIndex {
    /// Hashes with positions: a table that grows needs no access to the ids, which are scattered over the heap.
    positions: HashTable<(u64, usize)>,
    hasher: RandomState,
}

impl IdIndex {
    /// The position of `id`. A new id is assigned the position `next`, and `None` is returned.
    pub(super) fn claim<'a>(&mut self, id: &str, next: usize, id_of: impl Fn(usize) -> &'a str) -> Option<usize> {
        let Self { positions, hasher } = self;
        let hash = hasher.hash_one(id);
        let same = |&(other, position): &(u64, usize)| other == hash && id_of(position) == id;
        if let Some(&(_, position)) = positions.find(hash, same) {
            return Some(position);
        }
        positions.insert_unique(hash, (hash, next), |&(hash, _)| hash);
        None
    }
}
