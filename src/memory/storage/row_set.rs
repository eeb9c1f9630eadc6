//! Sets of rows, shared with snapshots by window.

use std::ops::Range;
use std::sync::Arc;

use roaring::{MultiOps, RoaringBitmap};

use super::window::{WINDOW_ROWS, bitmap_bytes, by_window, empty_window, window_of};

/// The number of rows that are read from a bitmap in one call.
const ROWS_PER_READ: usize = 64;

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

    #[inline]
    pub(crate) fn contains(&self, row: u32) -> bool {
        self.window(row).is_some_and(|rows| rows.contains(row))
    }

    /// Visits the rows of a range, ascending.
    pub(crate) fn visit(&self, range: Range<u32>, mut visit: impl FnMut(u32)) {
        for part in by_window(range) {
            if let Some(rows) = self.window(part.start) {
                visit_bitmap(rows, part, &mut visit);
            }
        }
    }

    /// Whether a row of a range is in the set.
    pub(crate) fn intersects(&self, range: Range<u32>) -> bool {
        let has_row = |part: Range<u32>| self.window(part.start).is_some_and(|rows| rows.range(part).next().is_some());
        by_window(range).any(has_row)
    }

    /// The number of rows below `end`.
    pub(crate) fn len_below(&self, end: u32) -> u64 {
        let before = self.windows.iter().take(window_of(end)).flatten().map(|rows| rows.len());
        before.sum::<u64>() + self.window(end).map_or(0, |rows| rows.range_cardinality(..end))
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

    /// Inserts consecutive rows.
    ///
    /// A container whose first values are a range is a run container, and stays one as it fragments: at a thousand runs
    /// it is larger and many times slower than a bitmap. Therefore each container starts with a single row.
    pub(crate) fn insert_range(&mut self, rows: Range<u32>) {
        for part in by_window(rows) {
            let rows = self.window_mut(part.start);
            let new = u64::from(rows.insert(part.start)) + rows.insert_range(part.start + 1..part.end);
            self.len += new;
        }
    }

    /// Inserts the rows of another set.
    pub(crate) fn insert_all(&mut self, other: &Self) {
        self.change_all(other, |rows, new| *rows |= new);
    }

    /// Removes the rows of another set.
    pub(crate) fn remove_all(&mut self, other: &Self) {
        self.change_all(other, |rows, old| *rows -= old);
    }

    fn change_all(&mut self, other: &Self, change: impl Fn(&mut RoaringBitmap, &RoaringBitmap)) {
        for (first, of_window) in (0..).step_by(WINDOW_ROWS as usize).zip(other.windows.iter()) {
            let Some(of_window) = of_window else { continue };
            let rows = self.window_mut(first);
            let before = rows.len();
            change(rows, of_window);
            let after = rows.len();
            self.len = self.len - before + after;
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
        Arc::make_mut(Arc::make_mut(&mut self.windows)[at].get_or_insert_with(|| Arc::new(empty_window(row))))
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
        Self::from_windows((0..count).map(of_window).collect())
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let windows = self.windows.iter().zip(other.windows.iter());
        let both = windows.map(|(a, b)| Some(Arc::new(a.as_deref()? & b.as_deref()?)));
        Self::from_windows(both.collect())
    }

    fn from_windows(windows: Arc<[Option<Arc<RoaringBitmap>>]>) -> Self {
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

/// Ascending rows look up each window once.
impl FromIterator<u32> for RowSet {
    fn from_iter<I: IntoIterator<Item = u32>>(rows: I) -> Self {
        let changes: Vec<_> = rows.into_iter().map(|row| MemberChange { row, is_member: true }).collect();
        let mut set = Self::default();
        set.set_all(&changes);
        set
    }
}

/// Visits the rows of a range that are in a bitmap, ascending.
pub(crate) fn visit_bitmap(rows: &RoaringBitmap, range: Range<u32>, mut visit: impl FnMut(u32)) {
    let (mut rows, mut buffer) = (rows.range(range), [0; ROWS_PER_READ]);
    loop {
        let some = rows.next_many(&mut buffer);
        if some.is_empty() {
            break;
        }
        some.iter().for_each(|&row| visit(row));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn set(rows: &[u32]) -> RowSet {
        rows.iter().copied().collect()
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
        set.remove_all(&self::set(&[0, 131_072, 131_073]));
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
    fn ranges_of_rows_are_counted_and_visited() {
        let rows = [1, 5, 65_535, 65_536, 70_000, 300_000];
        let set = set(&rows);
        for end in [0, 1, 2, 65_536, 65_537, 300_000, 300_001, u32::MAX] {
            assert_eq!(set.len_below(end), rows.iter().filter(|&&row| row < end).count() as u64);
            for start in [0, 6, 65_536, 70_001] {
                let expected: Vec<u32> = rows.iter().copied().filter(|row| (start..end).contains(row)).collect();
                let mut visited = Vec::new();
                set.visit(start..end, |row| visited.push(row));
                assert_eq!((set.intersects(start..end), visited), (!expected.is_empty(), expected), "{start}..{end}");
            }
        }
        assert!((0..100_000).filter(|&row| set.contains(row)).eq([1, 5, 65_535, 65_536, 70_000]));
    }

    #[test]
    fn short_ranges_make_no_run_containers() {
        let mut set = RowSet::default();
        for first in (0..200_000).step_by(5) {
            set.insert_range(first..first + 4);
        }
        let statistics = set.bitmaps().map(RoaringBitmap::statistics);
        assert!(statistics.into_iter().all(|of_window| of_window.n_run_containers == 0));
        assert_eq!((set.len(), set.iter().count()), (160_000, 160_000));
    }

    #[test]
    fn an_intersection_has_the_rows_of_both_sets() {
        let both = set(&[1, 70_000, 200_000]).intersection(&set(&[2, 70_000, 200_001, 1 << 20]));
        assert_eq!((both.iter().collect::<Vec<_>>(), both.len()), (vec![70_000], 1));
    }

    #[test]
    fn a_union_has_the_rows_of_all_sets() {
        let sets = [set(&[1, 70_000]), set(&[]), set(&[2, 70_000, 200_000])];
        let union = RowSet::union(sets.iter());
        assert_eq!((union.iter().collect::<Vec<_>>(), union.len()), (vec![1, 2, 70_000, 200_000], 4));
        assert_eq!(RowSet::union([].iter()).len(), 0);
    }
}
