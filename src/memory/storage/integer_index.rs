//! A posting list per integer, for a column that is rarely updated.

use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::sync::Arc;

use parking_lot::RwLock;

use super::postings::PostingList;
use super::row_set::RowSet;

/// The index is rebuilt after at least this many updates.
const CHANGES_KEPT: usize = 1 << 16;

/// For each integer, the rows that have it or had it before an update.
///
/// The index is shared by all clones and append-only. When the integer of a row changes, the row is added to the list
/// of the new integer and stays in that of the old one, for the snapshots in which it still has it. So the lists are
/// exact except for the rows in `changed`, whose value must be read from the snapshot's column.
///
/// Rows are added a chunk at a time, because adding each row on insertion would dominate the cost of the insertion. The
/// rows from `end` on are not in the lists, and must be scanned.
#[derive(Debug, Clone, Default)]
pub(crate) struct IntegerIndex(Arc<RwLock<Listed>>);

#[derive(Debug, Default)]
struct Listed {
    rows: BTreeMap<i64, PostingList>,
    /// The number of rows in the lists: all below this one, and those above it that were updated.
    end: u32,
    changed: RowSet,
    changes: usize,
}

/// The posting lists of several integers. They may include rows newer than the snapshot.
#[derive(Debug)]
pub(crate) struct ListedRows {
    pub(crate) lists: Vec<PostingList>,
    /// The first row that is not in the lists.
    pub(crate) end: u32,
    /// The rows whose integer has been updated.
    pub(crate) changed: RowSet,
}

impl IntegerIndex {
    /// The number of rows in the lists.
    pub(crate) fn len(&self) -> usize {
        self.0.read().end as usize
    }

    /// Appends the values of the rows from [`len`](Self::len) on.
    pub(crate) fn post(&self, integers: &[i64]) {
        let first = self.0.read().end;
        let mut rows: Vec<(i64, u32)> = integers.iter().copied().zip(first..).collect();
        rows.sort_unstable();
        let mut listed = self.0.write();
        for rows in rows.chunk_by(|(a, _), (b, _)| a == b) {
            let list = listed.rows.entry(rows[0].0).or_default();
            rows.iter().for_each(|&(_, row)| list.insert(row));
        }
        listed.end = first + integers.len() as u32;
    }

    /// Adds an updated row to the list of its new integer.
    pub(crate) fn change(&self, row: u32, from: i64, to: i64) {
        let mut listed = self.0.write();
        for integer in [from, to] {
            listed.rows.entry(integer).or_default().insert(row);
        }
        listed.changed.insert(row);
        listed.changes += 1;
    }

    pub(crate) fn updates(&self) -> usize {
        self.0.read().changes
    }

    /// Whether a rebuild is due. After a rebuild each row is in one list, which bounds the size of the index.
    pub(crate) fn is_outdated(&self) -> bool {
        let listed = self.0.read();
        listed.changes > CHANGES_KEPT.max(listed.end as usize)
    }

    pub(crate) fn rows_of(&self, integers: &[i64]) -> ListedRows {
        let listed = self.0.read();
        let lists = integers.iter().filter_map(|integer| listed.rows.get(integer)).cloned().collect();
        listed.with(lists)
    }

    /// The rows of a range of integers; `None` if there are more than `at_most`.
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
        // The nodes of a B-tree are at least half full.
        let lists: usize = listed.rows.values().map(|list| 2 * ENTRY + list.heap_bytes()).sum();
        lists + listed.changed.heap_bytes()
    }
}

impl Listed {
    fn with(&self, lists: Vec<PostingList>) -> ListedRows {
        ListedRows { lists, end: self.end, changed: self.changed.clone() }
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
