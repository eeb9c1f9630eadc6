//! Specs and errors of jobs: written once, found by job id, there before the job or after it.

use std::sync::Arc;

use bytes::Bytes;

use super::column::{CHUNK_ROWS, Column, locate};
use super::id::{IdIndex, JobId};
use super::table::{ChunkTable, table};

table! {
    /// Records, in the order in which they came.
    RecordTable, RecordChunk, RecordRows {
        ids: JobId,
        values: Bytes,
    }
}

/// Records with their index.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records {
    table: RecordTable,
    index: Arc<IdIndex>,
}

impl Records {
    /// The record of a job.
    pub(crate) fn get(&self, id: &JobId) -> Option<&Bytes> {
        let row = self.index.find(id, |row| (row as usize) < self.table.len() && self.id(row) == *id)?;
        let (chunk, at) = self.table.locate(row);
        Some(&chunk.values.as_slice()[at])
    }

    /// Makes room in the index for more records.
    pub(crate) fn reserve(&self, more: usize) {
        self.index.reserve(more, |row| self.id(row));
    }

    /// Adds records of jobs; a job that has one keeps it.
    pub(crate) fn insert_all<'a>(&mut self, records: impl Iterator<Item = (JobId, &'a Bytes)>) {
        let mut rows = RecordRows::default();
        for (id, value) in records.filter(|(id, _)| self.get(id).is_none()) {
            rows.ids.push(id);
            rows.values.push(value.clone());
        }
        let first = self.table.len() as u32;
        let ids = rows.ids.clone();
        self.table.append(rows, |_, _| {});
        for (row, id) in (first..).zip(&ids) {
            self.index.insert(id, row, |row| self.table.id(row));
        }
    }

    pub(crate) fn table(&self) -> &RecordTable {
        &self.table
    }

    fn id(&self, row: u32) -> JobId {
        self.table.id(row)
    }

    /// Bytes of ids, values and the index.
    pub(crate) fn heap_bytes(&self) -> usize {
        let values: usize = self.table.chunks().iter().flat_map(|chunk| chunk.values.as_slice()).map(Bytes::len).sum();
        values + self.table.column_bytes().iter().map(|(_, bytes)| bytes).sum::<usize>() + self.index.heap_bytes()
    }
}

impl RecordTable {
    fn id(&self, row: u32) -> JobId {
        let (chunk, at) = self.locate(row);
        chunk.ids.get(at)
    }
}
