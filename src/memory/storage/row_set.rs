//! Sets of rows that are updated, shared with snapshots by window.

use std::sync::Arc;

use roaring::{MultiOps, RoaringBitmap};

use super::window::{bitmap_bytes, window_of};

/// A set of rows: a roaring bitmap per window.
///
/// Clones share the bitmaps. A write copies the bitmap of its window, and the pointers to the bitmaps, if a snapshot
/// refers to them. The size of the copies thus depends on the rows that a batch changes, except for a pointer per
/// window. A new window moves the pointers to a new allocation.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowSet {
    windows: Arc<[Option<Arc<RoaringBitmap>>]>,
    len: u64,
}

/// The insertion of a row into a set, or its removal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemberChange {
    pub(crate) row: u32,
    pub(crate) is_member: bool,
}

impl RowSet {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The rows in the window of a row; `None` if there never were any.
    #[inline]
    pub(crate) fn window(&self, row: u32) -> Option<&RoaringBitmap> {
        self.windows.get(window_of(row))?.as_deref()
    }

    /// Reads the first rows that are not less than `from`. Fills the buffer unless there are fewer.
    pub(crate) fn read<'b>(&self, from: u32, buffer: &'b mut [u32]) -> &'b [u32] {
        let mut len = 0;
        for rows in self.windows.get(window_of(from)..).unwrap_or_default().iter().flatten() {
            len += rows.range(from..).next_many(&mut buffer[len..]).len();
            if len == buffer.len() {
                break;
            }
        }
        &buffer[..len]
    }

    /// Removes the rows that are not in the set from a bitmap, which has rows of one window.
    pub(crate) fn restrict(&self, rows: &mut RoaringBitmap) {
        match rows.min().and_then(|first| self.window(first)) {
            Some(window) => *rows &= window,
            None => rows.clear(),
        }
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.bitmaps().flatten()
    }

    pub(crate) fn insert(&mut self, row: u32) {
        self.len += u64::from(self.window_mut(row).insert(row));
    }

    pub(crate) fn remove(&mut self, row: u32) {
        self.len -= u64::from(self.window_mut(row).remove(row));
    }

    /// Inserts or removes rows. Sorted rows look up each window once.
    pub(crate) fn set_all(&mut self, changes: &[MemberChange]) {
        for changes in changes.chunk_by(|a, b| window_of(a.row) == window_of(b.row)) {
            let rows = self.window_mut(changes[0].row);
            let before = rows.len();
            for &MemberChange { row, is_member } in changes {
                let _ = if is_member { rows.insert(row) } else { rows.remove(row) };
            }
            let after = rows.len();
            self.len = self.len - before + after;
        }
    }

    /// Inserts the rows of windows, each given with one of its rows.
    pub(crate) fn insert_all(&mut self, windows: impl Iterator<Item = (u32, RoaringBitmap)>) {
        for (row, new) in windows {
            let rows = self.window_mut(row);
            let before = rows.len();
            *rows |= new;
            self.len += rows.len() - before;
        }
    }

    /// Removes the rows of windows, each given with one of its rows.
    pub(crate) fn remove_all(&mut self, windows: impl Iterator<Item = (u32, RoaringBitmap)>) {
        for (row, old) in windows {
            let rows = self.window_mut(row);
            let before = rows.len();
            *rows -= old;
            self.len -= before - rows.len();
        }
    }

    /// The bitmap of the window of a row, for writes.
    fn window_mut(&mut self, row: u32) -> &mut RoaringBitmap {
        let at = window_of(row);
        if at >= self.windows.len() {
            let new = std::iter::repeat(None);
            self.windows = match Arc::get_mut(&mut self.windows) {
                Some(windows) => windows.iter_mut().map(Option::take).chain(new).take(at + 1).collect(),
                None => self.windows.iter().cloned().chain(new).take(at + 1).collect(),
            };
        }
        Arc::make_mut(Arc::make_mut(&mut self.windows)[at].get_or_insert_default())
    }

    pub(crate) fn union<'a>(sets: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let mut two = sets.clone();
        if let (Some(only), None) = (two.next(), two.next()) {
            return only.clone();
        }
        let count = sets.clone().map(|set| set.windows.len()).max().unwrap_or(0);
        let of_window = |at: usize| {
            let mut bitmaps = sets.clone().filter_map(|set| set.windows.get(at)?.as_ref());
            let first = bitmaps.next()?;
            let mut others = bitmaps.peekable();
            Some(match others.peek() {
                None => Arc::clone(first),
                Some(_) => Arc::new(std::iter::once(first).chain(others).map(Arc::as_ref).union()),
            })
        };
        let windows: Arc<[_]> = (0..count).map(of_window).collect();
        let len = windows.iter().flatten().map(|rows| rows.len()).sum();
        Self { windows, len }
    }

    fn bitmaps(&self) -> impl Iterator<Item = &RoaringBitmap> {
        self.windows.iter().flatten().map(Arc::as_ref)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        const ARC: usize = 2 * size_of::<usize>();
        let bitmaps = self.bitmaps().map(|rows| ARC + size_of::<RoaringBitmap>() + bitmap_bytes(rows));
        ARC + size_of_val(&*self.windows) + bitmaps.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn set(rows: &[u32]) -> RowSet {
        let mut set = RowSet::default();
        rows.iter().for_each(|&row| set.insert(row));
        set
    }

    #[test]
    fn rows_are_inserted_and_removed_in_any_window() {
        let rows = [0, 1, 65_535, 65_536, 131_072, 10 << 16];
        let (mut set, mut expected) = (set(&rows), BTreeSet::from(rows));
        let check = |set: &RowSet, expected: &BTreeSet<u32>| {
            assert!(set.iter().eq(expected.iter().copied()));
            assert_eq!(set.len(), expected.len() as u64);
            assert_eq!(
                set.window(65_540).map_or(0, RoaringBitmap::len),
                expected.range(65_536..131_072).count() as u64
            );
        };
        check(&set, &expected);
        for row in [70_000, 1, 300_000] {
            set.insert(row);
            expected.insert(row);
            check(&set, &expected);
        }
        for row in [65_536, 70_000, 70_000, 5 << 16, 20 << 16] {
            set.remove(row);
            expected.remove(&row);
            check(&set, &expected);
        }
        set.remove_all([(0, RoaringBitmap::from([0, 2])), (131_072, RoaringBitmap::from([131_072]))].into_iter());
        expected.retain(|row| ![0, 131_072].contains(row));
        check(&set, &expected);
    }

    #[test]
    fn changes_insert_and_remove_rows() {
        let mut set = set(&[1, 5, 65_540]);
        let changes = [(1, false), (5, true), (6, true), (65_540, false), (65_541, true), (300_000, true), (7, false)];
        let changes = changes.map(|(row, is_member)| MemberChange { row, is_member });
        set.set_all(&changes);
        assert_eq!((set.iter().collect::<Vec<_>>(), set.len()), (vec![5, 6, 65_541, 300_000], 4));
        set.set_all(&[]);
        assert_eq!(set.len(), 4);
    }

    #[test]
    fn a_write_copies_only_the_window_that_a_clone_shares() {
        let mut set = set(&[1, 70_000]);
        let clone = set.clone();
        set.insert(70_001);
        assert_eq!((clone.iter().collect::<Vec<_>>(), clone.len()), (vec![1, 70_000], 2));
        assert_eq!((set.iter().collect::<Vec<_>>(), set.len()), (vec![1, 70_000, 70_001], 3));
        assert!(std::ptr::eq(set.window(0).unwrap(), clone.window(0).unwrap()));
    }

    #[test]
    fn rows_are_read_from_any_row_on() {
        let set = set(&[1, 5, 70_000, 70_001, 300_000]);
        let read = |from| set.read(from, &mut [0; 3]).to_vec();
        assert_eq!(
            [read(0), read(2), read(6)],
            [vec![1, 5, 70_000], vec![5, 70_000, 70_001], vec![70_000, 70_001, 300_000]]
        );
        assert_eq!([read(70_002), read(300_001), read(u32::MAX)], [vec![300_000], vec![], vec![]]);
        assert_eq!(set.read(0, &mut [0; 1]), [1]);
    }

    #[test]
    fn a_union_has_the_rows_of_all_sets() {
        let sets = [set(&[1, 70_000]), set(&[]), set(&[2, 70_000, 200_000])];
        let union = RowSet::union(sets.iter());
        assert_eq!((union.iter().collect::<Vec<_>>(), union.len()), (vec![1, 2, 70_000, 200_000], 4));
        assert_eq!(RowSet::union([].iter()).len(), 0);
    }
}
