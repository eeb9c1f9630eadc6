//! A hash index from ids to slots of a list, without a second copy of the ids.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// A hash index from ids to slots of a list that holds the ids itself.
#[derive(Default)]
pub(super) struct IdIndex {
    slots: HashTable<usize>,
    hasher: RandomState,
}

impl IdIndex {
    /// The slot of `id`. An id without a slot is assigned `next`, and `None` is returned.
    pub(super) fn claim<'a>(&mut self, id: &str, next: usize, id_of: impl Fn(usize) -> &'a str) -> Option<usize> {
        let Self { slots, hasher } = self;
        let hash = hasher.hash_one(id);
        if let Some(&slot) = slots.find(hash, |&slot| id_of(slot) == id) {
            return Some(slot);
        }
        // `next` is not in the list yet, and growing the table rehashes only what is in it.
        slots.insert_unique(hash, next, |&slot| hasher.hash_one(id_of(slot)));
        None
    }
}
