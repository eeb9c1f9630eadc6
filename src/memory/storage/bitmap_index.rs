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
pub(crate) struct StateIndex([Arc<RoaringBitmap>; STATE_ORDINALS]);

/// The ordinals of states start at 1.
const STATE_ORDINALS: usize = JobState::ALL.len() + 1;

/// The state changes of a batch, by state. Applied together, they look up each container once instead of once per row.
#[derive(Debug, Default)]
pub(crate) struct StateChanges([Moved; STATE_ORDINALS]);

/// The rows that leave and enter a state.
#[derive(Debug, Default)]
struct Moved {
    left: Vec<u32>,
    entered: Vec<u32>,
}

impl StateChanges {
    pub(crate) fn push(&mut self, row: u32, from: JobState, to: JobState) {
        self.0[usize::from(from.ordinal())].left.push(row);
        self.0[usize::from(to.ordinal())].entered.push(row);
    }
}

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
        Arc::make_mut(&mut self.0[usize::from(state.ordinal())]).insert(row);
    }

    /// Applies the changes of a batch. Each row has at most one change.
    pub(crate) fn apply(&mut self, changes: StateChanges) {
        for (bitmap, Moved { left, entered }) in self.0.iter_mut().zip(changes.0) {
            if left.is_empty() && entered.is_empty() {
                continue;
            }
            let bitmap = Arc::make_mut(bitmap);
            *bitmap -= left.into_iter().collect::<RoaringBitmap>();
            *bitmap |= entered.into_iter().collect::<RoaringBitmap>();
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.iter().map(|bitmap| bitmap_bytes(bitmap)).sum()
    }
}
