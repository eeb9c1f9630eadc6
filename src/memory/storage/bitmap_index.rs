//! Bitmap indexes of columns that are updated. They are versioned, because the code of a row can change.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::postings::bitmap_bytes;
use crate::model::{JobState, StateSet};

/// A bitmap of rows per code. Clones share the bitmaps that neither of them changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct BitmapIndex(Arc<Vec<Arc<RoaringBitmap>>>);

impl BitmapIndex {
    /// The rows with a code.
    pub(crate) fn rows(&self, code: u32) -> Option<&Arc<RoaringBitmap>> {
        self.0.get(code as usize)
    }

    pub(crate) fn insert(&mut self, code: u32, row: u32) {
        let bitmaps = Arc::make_mut(&mut self.0);
        let at = code as usize;
        if at >= bitmaps.len() {
            bitmaps.resize_with(at + 1, Arc::default);
        }
        Arc::make_mut(&mut bitmaps[at]).insert(row);
    }

    pub(crate) fn remove(&mut self, code: u32, row: u32) {
        if let Some(bitmap) = Arc::make_mut(&mut self.0).get_mut(code as usize) {
            Arc::make_mut(bitmap).remove(row);
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.iter().map(|bitmap| bitmap_bytes(bitmap) + size_of::<RoaringBitmap>() + 16).sum()
    }
}

/// A bitmap of rows per job state.
#[derive(Debug, Clone, Default)]
pub(crate) struct StateIndex([Arc<RoaringBitmap>; JobState::ALL.len() + 1]);

impl StateIndex {
    /// The rows in a state.
    pub(crate) fn rows(&self, state: JobState) -> &Arc<RoaringBitmap> {
        &self.0[usize::from(state.ordinal())]
    }

    /// The rows in any of a set of states.
    pub(crate) fn union(&self, states: StateSet) -> RoaringBitmap {
        states.iter().fold(RoaringBitmap::new(), |rows, state| rows | self.rows(state).as_ref())
    }

    /// The subset of the given rows that are in any of a set of states.
    pub(crate) fn filter(&self, states: StateSet, rows: &RoaringBitmap) -> RoaringBitmap {
        states.iter().fold(RoaringBitmap::new(), |found, state| found | (rows & self.rows(state).as_ref()))
    }

    pub(crate) fn insert(&mut self, state: JobState, row: u32) {
        self.rows_mut(state).insert(row);
    }

    /// Moves a row from one state to another.
    pub(crate) fn change(&mut self, row: u32, from: JobState, to: JobState) {
        self.rows_mut(from).remove(row);
        self.rows_mut(to).insert(row);
    }

    fn rows_mut(&mut self, state: JobState) -> &mut RoaringBitmap {
        Arc::make_mut(&mut self.0[usize::from(state.ordinal())])
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.iter().map(|bitmap| bitmap_bytes(bitmap)).sum()
    }
}
