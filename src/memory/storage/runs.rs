//! The table of runs.

use std::sync::Arc;

use bytes::Bytes;

use super::column::{CHUNK_ROWS, Column, locate};
use super::id::{JobId, RunId};
use super::table::{ChunkTable, table};

/// A message of a run. Few runs have one, so it costs a pointer where there is none.
pub(crate) type Message = Option<Arc<Bytes>>;

table! {
    /// The runs, in the order in which they came. Texts are codes of the dictionaries.
    RunTable, RunChunk, RunRows {
        ids: RunId,
        /// The job that the run belongs to, which need not exist.
        job_ids: JobId,
        /// That job's row, once it exists.
        job_rows: u32,
        /// The run of the same job that came before.
        previous: u32,
        cluster: u32,
        node: u32,
        pool: u32,
        leased: i64,
        /// NULL until pending.
        pending: i64,
        /// NULL until started.
        started: i64,
        /// NULL until finished.
        finished: i64,
        state: u8,
        /// NULL until there is one; else an `i32`.
        exit_code: i64,
        error: Message,
        debug: Message,
    }
}

impl RunTable {
    pub(crate) fn id(&self, row: u32) -> RunId {
        let (chunk, at) = self.locate(row);
        chunk.ids.get(at)
    }
}
