//! Specs and errors of jobs, by job id. They are immutable, and the job need not exist.

use std::sync::Arc;

use bytes::Bytes;

use super::arena::{Arena, shared_bytes};
use super::id::JobId;
use super::id_index::IdIndex;
use super::shared_list::SharedList;

/// Records with an index by job id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records {
    records: Arena<(JobId, Bytes)>,
    index: Arc<IdIndex>,
}

impl Records {
    pub(crate) fn get(&self, id: &JobId) -> Option<&Bytes> {
        Some(&self.record(self.row(id)?).1)
    }

    pub(crate) fn row(&self, id: &JobId) -> Option<u32> {
        self.index.find(id, |row| (row as usize) < self.records.len() && self.record(row).0 == *id)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn record(&self, row: u32) -> &(JobId, Bytes) {
        self.records.get(row)
    }

    pub(crate) fn reserve(&self, more: usize) {
        self.index.reserve(more);
    }

    /// Adds records of jobs. An existing record of a job is kept.
    pub(crate) fn insert_all(&mut self, records: impl Iterator<Item = (JobId, Bytes)>) {
        for (id, value) in records {
            if self.get(&id).is_none() {
                let row = self.records.push((id, value));
                self.index.insert(&id, row);
            }
        }
    }

    pub(crate) fn blocks(&self) -> &SharedList<Arc<Vec<(JobId, Bytes)>>> {
        self.records.blocks()
    }

    /// The size in parts, in bytes.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = usize> {
        let blocks = self.records.block_sizes(|records| shared_bytes(records.iter().map(|(_, value)| value)));
        std::iter::once(self.index.heap_bytes()).chain(blocks)
    }
}
