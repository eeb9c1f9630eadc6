//! The priority index of jobs.

use super::store::Store;
use crate::memory::storage::{CHUNK_ROWS, IntegerIndex, locate};

/// A rebuild of the index adds a chunk per this many updates. Each step takes a fraction of a millisecond, and the
/// rebuild ends before the index has grown by an eighth.
const UPDATES_PER_CHUNK: usize = CHUNK_ROWS / 8;

impl Store {
    /// Adds full chunks to the priority index.
    pub(super) fn post_priorities(&mut self) {
        while self.indexes.priorities.len() + CHUNK_ROWS <= self.jobs.len() {
            self.post_chunk(&self.indexes.priorities);
        }
    }

    pub(super) fn set_priority(&mut self, row: u32, priority: i64) {
        let (jobs, at) = self.jobs.locate(row);
        let before = jobs.priority.get(at);
        if before == priority {
            return;
        }
        jobs.priority.set(at, priority);
        for index in self.rebuilt_priorities.iter().chain([&self.indexes.priorities]) {
            index.change(row, before, priority);
        }
        self.rebuild_priorities();
    }

    /// Continues the rebuild of an index that has too many outdated entries, or starts one.
    fn rebuild_priorities(&mut self) {
        if self.rebuilt_priorities.is_none() && !self.indexes.priorities.is_outdated() {
            return;
        }
        let rebuilt = self.rebuilt_priorities.take().unwrap_or_default();
        let due = (rebuilt.updates() / UPDATES_PER_CHUNK + 1) * CHUNK_ROWS;
        if rebuilt.len() < due && rebuilt.len() + CHUNK_ROWS <= self.jobs.len() {
            self.post_chunk(&rebuilt);
        }
        if rebuilt.len() + CHUNK_ROWS <= self.jobs.len() {
            self.rebuilt_priorities = Some(rebuilt);
        } else {
            self.indexes.priorities = rebuilt;
        }
    }

    /// Adds the next chunk to an index.
    fn post_chunk(&self, index: &IntegerIndex) {
        match self.jobs.chunk(locate(index.len() as u32).0) {
            Ok(chunk) => index.post(chunk.priority().values()),
            Err(writer) => index.post(writer.priority.values()),
        }
    }
}
