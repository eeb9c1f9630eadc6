//! A hash index from ids to positions in a list, without a second copy of the ids.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// A hash index from ids to positions in a list that holds the ids.
#[derive(Default)]
pub(super) struct IdIndex {
    positions: HashTable<usize>,
    hasher: RandomState,
}

impl IdIndex {
    /// The position of `id`. A new id is assigned the position `next`, and `None` is returned.
    pub(super) fn claim<'a>(&mut self, id: &str, next: usize, id_of: impl Fn(usize) -> &'a str) -> Option<usize> {
        let Self { positions, hasher } = self;
        let hash = hasher.hash_one(id);
        if let Some(&position) = positions.find(hash, |&position| id_of(position) == id) {
            return Some(position);
        }
        // The list has no position `next` yet, and the table rehashes only the positions that it holds.
        positions.insert_unique(hash, next, |&position| hasher.hash_one(id_of(position)));
        None
    }
}
