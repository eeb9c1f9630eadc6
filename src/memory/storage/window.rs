//! Windows: the rows of one roaring container, and the size of bitmaps.

use std::ops::Range;

use roaring::RoaringBitmap;

pub(crate) const WINDOW_ROWS: u32 = 1 << 16;

/// The window of a row.
#[inline]
pub(crate) fn window_of(row: u32) -> usize {
    (row / WINDOW_ROWS) as usize
}

pub(crate) fn whole_window(row: u32) -> RoaringBitmap {
    let first = row & !(WINDOW_ROWS - 1);
    let mut rows = RoaringBitmap::new();
    rows.insert_range(first..=first + (WINDOW_ROWS - 1));
    rows
}

/// An empty bitmap with room for one window. The first insertion into a new bitmap would allocate room for four.
pub(crate) fn empty_window(row: u32) -> RoaringBitmap {
    let mut rows = RoaringBitmap::from_iter([row]).clone();
    rows.remove(row);
    rows
}

pub(crate) fn by_window(rows: Range<u32>) -> impl Iterator<Item = Range<u32>> {
    let mut start = rows.start;
    std::iter::from_fn(move || {
        let part = start..rows.end.min((start | (WINDOW_ROWS - 1)).saturating_add(1));
        start = part.end;
        (!part.is_empty()).then_some(part)
    })
}

/// The heap size of a bitmap, in bytes.
///
/// The statistics of the containers count four bytes for an element of an array, which has two, and a byte for a bit of
/// a bitset.
pub(crate) fn bitmap_bytes(bitmap: &RoaringBitmap) -> usize {
    const BITSET_BYTES: u64 = WINDOW_ROWS as u64 / 8;
    const CONTAINER_BYTES: usize = 40;

    let statistics = bitmap.statistics();
    let arrays = statistics.n_bytes_array_containers / 2;
    let bitsets = u64::from(statistics.n_bitset_containers) * BITSET_BYTES;
    let containers = statistics.n_containers as usize * CONTAINER_BYTES;
    (arrays + bitsets + statistics.n_bytes_run_containers) as usize + containers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_divided_by_window() {
        let bounds = |rows| by_window(rows).map(|part| (part.start, part.end)).collect::<Vec<_>>();
        assert_eq!(bounds(3..3), []);
        assert_eq!(bounds(0..WINDOW_ROWS), [(0, 65_536)]);
        assert_eq!(bounds(65_535..131_073), [(65_535, 65_536), (65_536, 131_072), (131_072, 131_073)]);
        assert_eq!(bounds(u32::MAX - 2..u32::MAX), [(u32::MAX - 2, u32::MAX)]);
    }

    #[test]
    fn a_window_has_the_rows_of_one_container() {
        for row in [0, 65_535, 65_536, u32::MAX] {
            let rows = whole_window(row);
            assert_eq!((rows.len(), rows.contains(row)), (u64::from(WINDOW_ROWS), true));
            assert!(rows.iter().all(|other| window_of(other) == window_of(row)));
        }
    }

    #[test]
    fn the_bytes_of_a_bitmap_are_those_of_its_containers() {
        const CONTAINER: usize = 40;
        let array: RoaringBitmap = (0..3000).map(|row| row * 20).collect();
        // The capacity of an array is at most twice its length.
        assert!((6000..=12_000).contains(&(bitmap_bytes(&array) - CONTAINER)));
        let bitset: RoaringBitmap = (0..30_000).map(|row| row * 2).collect();
        assert_eq!(bitmap_bytes(&bitset), 8192 + CONTAINER);
    }
}
