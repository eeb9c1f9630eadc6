//! Which rows have an integer, for a column that hardly ever changes.

use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::sync::Arc;

use parking_lot::RwLock;
use roaring::RoaringBitmap;

use super::postings::{PostingList, bitmap_bytes};

/// So many rows may be listed again, whatever the number of rows.
const CHANGES_KEPT: usize = 1 << 16;

/// For each integer the rows that have it, or once had it.
///
/// All clones share it and it only grows, as the lists of a dictionary do. A row whose integer
/// changes is listed under the new one too and stays under the old one, where an older snapshot
/// looks for it. So the lists are exact but for the rows that ever changed; those must be looked
/// up in the snapshot's own column.
///
/// Rows are listed many at a time: to visit the list of each new row would cost an insert more
/// than all else. The newest rows are not listed yet, and must be looked at too.
#[derive(Debug, Clone, Default)]
pub(crate) struct IntegerIndex(Arc<RwLock<Listed>>);

#[derive(Debug, Default)]
struct Listed {
    rows: BTreeMap<i64, PostingList>,
    /// How many rows are listed: those below this one, and of those above it only some that changed.
    end: u32,
    changed: Arc<RoaringBitmap>,
    /// How many times a row was listed again.
    changes: usize,
}

/// The rows listed under some integers. Some may be newer than the snapshot.
#[derive(Debug)]
pub(crate) struct ListedRows {
    pub(crate) lists: Vec<PostingList>,
    /// The first row that is not listed.
    pub(crate) end: u32,
    /// The rows, listed here or not, whose integer has ever changed.
    pub(crate) changed: Arc<RoaringBitmap>,
}

impl IntegerIndex {
    /// How many rows are listed.
    pub(crate) fn len(&self) -> usize {
        self.0.read().end as usize
    }

    /// Lists the rows that follow those listed before, each by its integer.
    pub(crate) fn post(&self, integers: &[i64]) {
        let mut listed = self.0.write();
        let first = listed.end;
        let mut rows: Vec<(i64, u32)> = integers.iter().copied().zip(first..).collect();
        rows.sort_unstable();
        for rows in rows.chunk_by(|(a, _), (b, _)| a == b) {
            let list = listed.rows.entry(rows[0].0).or_default();
            rows.iter().for_each(|&(_, row)| list.insert(row));
        }
        listed.end = first + integers.len() as u32;
    }

    /// Lists a row under its new integer too.
    pub(crate) fn change(&self, row: u32, from: i64, to: i64) {
        let mut listed = self.0.write();
        for integer in [from, to] {
            listed.rows.entry(integer).or_default().insert(row);
        }
        Arc::make_mut(&mut listed.changed).insert(row);
        listed.changes += 1;
    }

    /// Whether rows were listed again so often that a new index is due, which lists each row once:
    /// what is listed must not grow with every change.
    pub(crate) fn is_outdated(&self) -> bool {
        let listed = self.0.read();
        listed.changes > CHANGES_KEPT.max(listed.end as usize)
    }

    /// The rows of some integers.
    pub(crate) fn rows_of(&self, integers: &[i64]) -> ListedRows {
        let listed = self.0.read();
        let lists = integers.iter().filter_map(|integer| listed.rows.get(integer)).cloned().collect();
        listed.with(lists)
    }

    /// The rows of a range of integers; none if they are more than `at_most`.
    pub(crate) fn rows_within(&self, range: impl RangeBounds<i64>, at_most: u64) -> Option<ListedRows> {
        let listed = self.0.read();
        let mut left = at_most;
        let mut lists = Vec::new();
        for (_, list) in listed.rows.range(range) {
            left = left.checked_sub(list.len())?;
            lists.push(list.clone());
        }
        Some(listed.with(lists))
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        const ENTRY: usize = size_of::<i64>() + size_of::<PostingList>();
        let listed = self.0.read();
        // A node of a B-tree is at least half full.
        let lists: usize = listed.rows.values().map(|list| 2 * ENTRY + list.heap_bytes()).sum();
        lists + bitmap_bytes(&listed.changed)
    }
}

impl Listed {
    fn with(&self, lists: Vec<PostingList>) -> ListedRows {
        ListedRows { lists, end: self.end, changed: Arc::clone(&self.changed) }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound::{self, Excluded, Included, Unbounded};

    use super::*;

    fn rows(listed: &ListedRows) -> Vec<Vec<u32>> {
        listed.lists.iter().map(|list| list.iter().collect()).collect()
    }

    #[test]
    fn a_changed_row_is_listed_under_both_integers_once() {
        let index = IntegerIndex::default();
        index.post(&[5, -7, 5]);
        index.post(&[9]);
        for (from, to) in [(5, 9), (9, 5), (5, 9)] {
            index.change(2, from, to);
        }
        index.change(0, 5, 9);
        assert_eq!(rows(&index.rows_of(&[5])), [[0, 2]]);
        let listed = index.rows_of(&[9, 1, -7]);
        assert_eq!(rows(&listed), [vec![0, 2, 3], vec![1]]);
        assert_eq!(listed.changed.iter().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(listed.end, 4);
    }

    #[test]
    fn a_row_that_changes_before_it_is_listed_is_listed_under_both_integers() {
        let index = IntegerIndex::default();
        index.change(1, 5, 9);
        index.post(&[5, 9, 9]);
        assert_eq!(rows(&index.rows_of(&[5])), [[0, 1]]);
        assert_eq!(rows(&index.rows_of(&[9])), [[1, 2]]);
    }

    #[test]
    fn a_range_gives_its_rows_unless_they_are_too_many() {
        let index = IntegerIndex::default();
        index.post(&[i64::MIN, -1, 0, 0, i64::MAX]);
        let within = |range: (Bound<i64>, Bound<i64>), at_most| {
            index.rows_within(range, at_most).map(|listed| rows(&listed).concat())
        };
        assert_eq!(within((Excluded(-1), Unbounded), 3), Some(vec![2, 3, 4]));
        assert_eq!(within((Included(-1), Unbounded), 3), None);
        assert_eq!(within((Unbounded, Excluded(i64::MIN)), 3), Some(vec![]));
        assert_eq!(within((Excluded(i64::MAX), Unbounded), 0), Some(vec![]));
    }
}
