//! Bitmap indexes of columns that are updated. They are versioned, because the code of a row can change.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::row_set::RowSet;
use super::window::bitmaps_of;
use crate::model::{JobState, StateSet};

/// A set of rows per code. Clones share the bitmaps that neither of them changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct BitmapIndex(Arc<Vec<RowSet>>);

impl BitmapIndex {
    /// The rows with a code.
    pub(crate) fn rows(&self, code: u32) -> Option<&RowSet> {
        self.0.get(code as usize)
    }

    pub(crate) fn insert(&mut self, code: u32, row: u32) {
        let sets = Arc::make_mut(&mut self.0);
        let at = code as usize;
        if at >= sets.len() {
            sets.resize_with(at + 1, RowSet::default);
        }
        sets[at].insert(row);
    }

    pub(crate) fn remove(&mut self, code: u32, row: u32) {
        if let Some(rows) = Arc::make_mut(&mut self.0).get_mut(code as usize) {
            rows.remove(row);
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.iter().map(|rows| rows.heap_bytes() + size_of::<RowSet>()).sum()
    }
}

/// A set of rows per job state.
#[derive(Debug, Clone, Default)]
pub(crate) struct StateIndex([RowSet; STATE_ORDINALS]);

/// The ordinals of states start at 1.
const STATE_ORDINALS: usize = JobState::ALL.len() + 1;

/// The state changes of a batch, by state. Applied together, they look up each window once instead of once per row.
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
    pub(crate) fn rows(&self, state: JobState) -> &RowSet {
        &self.0[usize::from(state.ordinal())]
    }

    /// The subset of some rows of a window that are in any of a set of states.
    pub(crate) fn filter(&self, states: StateSet, rows: &RoaringBitmap) -> RoaringBitmap {
        let Some(first) = rows.min() else { return RoaringBitmap::new() };
        let windows = states.iter().filter_map(|state| self.rows(state).window(first));
        windows.fold(RoaringBitmap::new(), |found, of_state| found | (rows & of_state))
    }

    pub(crate) fn insert(&mut self, state: JobState, row: u32) {
        self.0[usize::from(state.ordinal())].insert(row);
    }

    /// Applies the changes of a batch. Each row has at most one change.
    pub(crate) fn apply(&mut self, changes: StateChanges) {
        for (set, Moved { mut left, mut entered }) in self.0.iter_mut().zip(changes.0) {
            left.sort_unstable();
            entered.sort_unstable();
            set.remove_all(bitmaps_of(&left));
            set.insert_all(bitmaps_of(&entered));
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.iter().map(RowSet::heap_bytes).sum()
    }
}
