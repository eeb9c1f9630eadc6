//! Lists that snapshots share by leaf.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

/// A list of values that are cheap to clone, such as pointers, in leaves of `LEAF` values.
///
/// Clones share the leaves: a clone takes a reference count per leaf, and the first write to a shared leaf copies it.
#[derive(Debug, Clone)]
pub(crate) struct SharedList<T, const LEAF: usize = 256> {
    leaves: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T, const LEAF: usize> Default for SharedList<T, LEAF> {
    fn default() -> Self {
        Self { leaves: Vec::new(), len: 0 }
    }
}

impl<T, const LEAF: usize> SharedList<T, LEAF> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.leaves.get(at / LEAF)?.get(at % LEAF)
    }

    pub(crate) fn leaves(&self) -> impl Iterator<Item = &Vec<T>> {
        self.leaves.iter().map(|leaf| &**leaf)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.leaves.iter().flat_map(|leaf| leaf.iter())
    }
}

impl<T: Clone, const LEAF: usize> SharedList<T, LEAF> {
    pub(crate) fn push(&mut self, value: T) {
        if self.len.is_multiple_of(LEAF) {
            self.leaves.push(Arc::default());
        }
        if let Some(leaf) = self.leaves.last_mut() {
            let leaf = Arc::make_mut(leaf);
            if leaf.len() == leaf.capacity() {
                // A copy of a leaf has no spare capacity, so that doubling it would exceed a full leaf.
                leaf.reserve_exact(leaf.len().max(4).min(LEAF - leaf.len()));
            }
            leaf.push(value);
        }
        self.len += 1;
    }
}

impl<T, const LEAF: usize> Index<usize> for SharedList<T, LEAF> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        &self.leaves[at / LEAF][at % LEAF]
    }
}

impl<T: Clone, const LEAF: usize> IndexMut<usize> for SharedList<T, LEAF> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut Arc::make_mut(&mut self.leaves[at / LEAF])[at % LEAF]
    }
}

impl<T: Clone, const LEAF: usize> FromIterator<T> for SharedList<T, LEAF> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut list = Self::default();
        values.into_iter().for_each(|value| list.push(value));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAF: usize = 256;

    #[test]
    fn a_write_copies_only_the_leaf_that_a_clone_shares() {
        let mut list: SharedList<usize> = (0..3 * LEAF + 1).collect();
        let clone = list.clone();
        list[LEAF] = 0;
        list.push(7);
        assert!(clone.iter().copied().eq(0..3 * LEAF + 1));
        assert_eq!((list[LEAF], list[3 * LEAF + 1], list.len(), list.get(list.len())), (0, 7, clone.len() + 1, None));
        let shared = list.leaves.iter().zip(&clone.leaves).map(|(a, b)| Arc::ptr_eq(a, b));
        assert_eq!(shared.collect::<Vec<_>>(), [true, false, true, false]);
    }
}
