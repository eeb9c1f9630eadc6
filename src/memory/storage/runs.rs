//! The table of runs.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::{
    Field, Int32Type, Schema, SchemaRef, TimestampMicrosecondType, UInt8Type, UInt32Type,
};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;

use super::column::{CellType, ColumnType, Optional, Required};
use super::id::RunId;
use super::table::{Chunk, Table, TableWriter, table};

table! {
    /// Runs, in the order of insertion. Strings are dictionary codes.
    RunChunk, RunCells, RunChunkWriter, RunRows, RunColumnIndex {
        run_id: RunId,
        cluster: Required<UInt32Type>,
        node: Optional<UInt32Type>,
        pool: Optional<UInt32Type>,
        leased: Required<TimestampMicrosecondType>,
        pending: Optional<TimestampMicrosecondType>,
        started: Optional<TimestampMicrosecondType>,
        finished: Optional<TimestampMicrosecondType>,
        state: Required<UInt8Type>,
        exit_code: Optional<Int32Type>,
        /// The index of the error among the messages.
        error: Optional<UInt32Type>,
        /// The index of the debug message among the messages.
        debug: Optional<UInt32Type>,
        /// The run's job: a packed [`Reference`](super::Reference). A dangling one is an index of the ids of missing
        /// jobs.
        job: Required<UInt32Type>,
        /// The row of the previous run of the same job.
        previous: Optional<UInt32Type>,
    }
}

pub(crate) type RunTable = Table<RunChunk>;
pub(crate) type RunWriter = TableWriter<RunChunk>;

impl RunTable {
    pub(crate) fn id(&self, row: u32) -> RunId {
        let (chunk, at) = self.locate(row);
        RunId::value(&chunk.cells.run_id, at)
    }
}

impl RunWriter {
    pub(crate) fn id(&self, row: u32) -> RunId {
        let (chunk, at) = super::locate(row);
        match self.chunk(chunk) {
            Ok(chunk) => RunId::value(&chunk.cells.run_id, at),
            Err(writer) => writer.run_id.get(at),
        }
    }
}
