//! Lists that snapshots share by leaf.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

/// The number of values in a full leaf.
const LEAF: usize = 256;

/// A list of values that are cheap to clone, such as pointers.
///
/// Clones share the leaves: a clone takes a reference count per leaf, and the first write to a shared leaf copies it.
#[derive(Debug, Clone)]
pub(crate) struct SharedList<T> {
    leaves: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T> Default for SharedList<T> {
    fn default() -> Self {
        Self { leaves: Vec::new(), len: 0 }
    }
}

impl<T> SharedList<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.leaves.get(at / LEAF)?.get(at % LEAF)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.leaves.iter().flat_map(|leaf| leaf.iter())
    }
}

impl<T: Clone> SharedList<T> {
    pub(crate) fn push(&mut self, value: T) {
        if self.len.is_multiple_of(LEAF) {
            self.leaves.push(Arc::default());
        }
        if let Some(leaf) = self.leaves.last_mut() {
            Arc::make_mut(leaf).push(value);
        }
        self.len += 1;
    }
}

impl<T> Index<usize> for SharedList<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        &self.leaves[at / LEAF][at % LEAF]
    }
}

impl<T: Clone> IndexMut<usize> for SharedList<T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut Arc::make_mut(&mut self.leaves[at / LEAF])[at % LEAF]
    }
}

impl<T: Clone> FromIterator<T> for SharedList<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut list = Self::default();
        values.into_iter().for_each(|value| list.push(value));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
