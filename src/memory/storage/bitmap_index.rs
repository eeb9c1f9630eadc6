//! Bitmap indexes of columns that are updated. They are versioned, because the code of a row can change.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::row_set::{MemberChange, RowSet};

/// A set of rows per code. Clones share the bitmaps that neither of them changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct BitmapIndex(Arc<Vec<RowSet>>);

impl BitmapIndex {
    /// The rows with a code.
    pub(crate) fn rows(&self, code: u32) -> Option<&RowSet> {
        self.0.get(code as usize)
    }

    /// The number of codes up to the greatest one that any row has had.
    pub(crate) fn codes(&self) -> u32 {
        self.0.len() as u32
    }

    /// The subset of some rows of a window that have any of several codes.
    pub(crate) fn filter(&self, codes: impl Iterator<Item = u32>, rows: &RoaringBitmap) -> RoaringBitmap {
        let Some(first) = rows.min() else { return RoaringBitmap::new() };
        let windows = codes.filter_map(|code| self.rows(code)?.window(first));
        windows.fold(RoaringBitmap::new(), |found, of_code| found | (rows & of_code))
    }

    /// Applies the changes and clears them.
    pub(crate) fn apply(&mut self, changes: &mut CodeChanges) {
        let mut changes = std::mem::take(&mut changes.0);
        // The sort is stable, so that of several changes of a row the last one is effective.
        changes.sort_by_key(CodeChange::key);
        let Some(last) = changes.last() else { return };
        let sets = Arc::make_mut(&mut self.0);
        if last.code as usize >= sets.len() {
            sets.resize_with(last.code as usize + 1, RowSet::default);
        }
        let mut members = Vec::new();
        for changes in changes.chunk_by(|a, b| a.code == b.code) {
            members.clear();
            members.extend(changes.iter().map(|change| change.member));
            sets[changes[0].code as usize].set_all(&members);
        }
    }

    /// The size of the set of each code, in bytes.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(|rows| rows.heap_bytes() + size_of::<RowSet>())
    }
}

/// Changes of a bitmap index that are applied together. The rows of a code usually change in few windows, each of which
/// is looked up once.
#[derive(Debug, Default)]
pub(crate) struct CodeChanges(Vec<CodeChange>);

#[derive(Debug)]
struct CodeChange {
    code: u32,
    member: MemberChange,
}

impl CodeChange {
    fn key(&self) -> (u32, u32) {
        (self.code, self.member.row)
    }
}

impl CodeChanges {
    /// Records that a row gets a code.
    pub(crate) fn enter(&mut self, code: u32, row: u32) {
        self.push(code, row, true);
    }

    /// Records that a row no longer has a code.
    pub(crate) fn leave(&mut self, code: u32, row: u32) {
        self.push(code, row, false);
    }

    fn push(&mut self, code: u32, row: u32, is_member: bool) {
        self.0.push(CodeChange { code, member: MemberChange { row, is_member } });
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<CodeChange>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(index: &BitmapIndex, code: u32) -> Vec<u32> {
        let rows: Vec<u32> = index.rows(code).map_or(Vec::new(), |rows| rows.iter().collect());
        assert_eq!(index.rows(code).map_or(0, RowSet::len), rows.len() as u64);
        rows
    }

    #[test]
    fn the_last_change_of_a_row_is_effective() {
        let (mut index, mut changes) = (BitmapIndex::default(), CodeChanges::default());
        index.apply(&mut changes);
        assert!(index.rows(0).is_none());
        for (code, row) in [(3, 70_000), (3, 1), (0, 2)] {
            changes.enter(code, row);
        }
        index.apply(&mut changes);
        let snapshot = index.clone();
        assert_eq!([rows(&index, 0), rows(&index, 1), rows(&index, 3)], [vec![2], vec![], vec![1, 70_000]]);
        // Row 1 leaves code 3 and enters it again, and row 2 enters code 3 and leaves it again.
        changes.leave(3, 1);
        changes.enter(0, 1);
        changes.leave(0, 1);
        changes.enter(3, 2);
        changes.leave(3, 2);
        changes.enter(3, 1);
        changes.leave(3, 70_000);
        index.apply(&mut changes);
        assert_eq!([rows(&index, 0), rows(&index, 3)], [vec![2], vec![1]]);
        assert_eq!([rows(&snapshot, 0), rows(&snapshot, 3)], [vec![2], vec![1, 70_000]]);
    }
}
