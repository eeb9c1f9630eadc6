//! The rows that an index lookup returns.

use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::memory::storage::{PostingList, RowSet, by_window};

/// The number of rows that are read from a bitmap in one call.
const ROWS_PER_READ: usize = 64;

/// The rows that an index lookup returns. They may include rows newer than the snapshot.
#[derive(Debug, Clone)]
pub(super) struct IndexedRows {
    rows: Rows,
    /// The cardinality, which a bitmap does not store.
    len: u64,
}

#[derive(Debug, Clone)]
enum Rows {
    /// The rows of posting lists, or found by other lookups.
    Bitmap(Arc<RoaringBitmap>),
    /// The rows of a versioned index.
    Set(RowSet),
}

impl From<Arc<RoaringBitmap>> for IndexedRows {
    fn from(rows: Arc<RoaringBitmap>) -> Self {
        Self { len: rows.len(), rows: Rows::Bitmap(rows) }
    }
}

impl From<RowSet> for IndexedRows {
    fn from(rows: RowSet) -> Self {
        Self { len: rows.len(), rows: Rows::Set(rows) }
    }
}

impl IndexedRows {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// A bitmap that has the indexed rows in the window of a row, and may have rows in other windows.
    #[inline]
    pub(super) fn window(&self, row: u32) -> Option<&RoaringBitmap> {
        match &self.rows {
            Rows::Bitmap(rows) => Some(rows),
            Rows::Set(rows) => rows.window(row),
        }
    }

    #[inline]
    pub(super) fn contains(&self, row: u32) -> bool {
        self.window(row).is_some_and(|rows| rows.contains(row))
    }

    /// Removes the rows that are not indexed from a bitmap, which has rows of one window.
    pub(super) fn restrict(&self, rows: &mut RoaringBitmap) {
        match &self.rows {
            Rows::Bitmap(indexed) => *rows &= indexed.as_ref(),
            Rows::Set(indexed) => indexed.restrict(rows),
        }
    }

    /// Visits the indexed rows of a range, ascending.
    pub(super) fn visit(&self, range: Range<u32>, mut visit: impl FnMut(u32)) {
        match &self.rows {
            Rows::Bitmap(rows) => visit_bitmap(rows, range, visit),
            Rows::Set(rows) => {
                for part in by_window(range) {
                    if let Some(rows) = rows.window(part.start) {
                        visit_bitmap(rows, part, &mut visit);
                    }
                }
            }
        }
    }

    /// The number of indexed rows of a snapshot with `end` rows.
    pub(super) fn len_below(&self, end: u32) -> u64 {
        match &self.rows {
            Rows::Bitmap(rows) => rows.range_cardinality(..end),
            // A versioned index has no rows of later batches.
            Rows::Set(rows) => rows.len(),
        }
    }

    /// Whether a row of a range is indexed.
    pub(super) fn intersects(&self, range: Range<u32>) -> bool {
        let any = |rows: &RoaringBitmap, range| rows.range(range).next().is_some();
        match &self.rows {
            Rows::Bitmap(rows) => any(rows, range),
            Rows::Set(rows) => by_window(range).any(|part| rows.window(part.start).is_some_and(|rows| any(rows, part))),
        }
    }
}

/// Visits the rows of a range that are in a bitmap, ascending.
pub(super) fn visit_bitmap(rows: &RoaringBitmap, range: Range<u32>, mut visit: impl FnMut(u32)) {
    let (mut rows, mut buffer) = (rows.range(range), [0; ROWS_PER_READ]);
    loop {
        let some = rows.next_many(&mut buffer);
        if some.is_empty() {
            break;
        }
        some.iter().for_each(|&row| visit(row));
    }
}

/// Ascending rows.
pub(super) trait RowList {
    /// Reads the first rows that are not less than `from`. Fills the buffer unless there are fewer.
    fn read<'b>(&self, from: u32, buffer: &'b mut [u32]) -> &'b [u32];
    /// Removes the rows that are not in the list from a bitmap, which has rows of one window.
    fn restrict(&self, rows: &mut RoaringBitmap);
}

impl RowList for PostingList {
    fn read<'b>(&self, from: u32, buffer: &'b mut [u32]) -> &'b [u32] {
        self.read(from, buffer)
    }

    fn restrict(&self, rows: &mut RoaringBitmap) {
        self.restrict(rows);
    }
}

impl RowList for &RowSet {
    fn read<'b>(&self, from: u32, buffer: &'b mut [u32]) -> &'b [u32] {
        (*self).read(from, buffer)
    }

    fn restrict(&self, rows: &mut RoaringBitmap) {
        (*self).restrict(rows);
    }
}
