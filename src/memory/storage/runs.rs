//! The table of runs.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::{
    Field, Int32Type, Schema, SchemaRef, TimestampMicrosecondType, UInt8Type, UInt32Type,
};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use smol_str::SmolStr;

use super::column::{ColumnType, Optional, Required};
use super::id::RunId;
use super::sparse::{Sparse, UNREAD_OF_RUNS, text_bytes};
use super::table::{Chunk, Table, TableWriter, table};

table! {
    /// Runs, in the order of insertion. Strings are dictionary codes.
    RunChunk, RunCells, RunChunkWriter, RunRows, RunColumnIndex {
        run_id: RunId,
        cluster: Required<UInt32Type>,
        node: Optional<UInt32Type>,
        pool: Optional<UInt32Type>,
        leased: Optional<TimestampMicrosecondType>,
        pending: Optional<TimestampMicrosecondType>,
        started: Optional<TimestampMicrosecondType>,
        finished: Optional<TimestampMicrosecondType>,
        /// The ordinal of the state, which may be unknown.
        state: Required<UInt8Type>,
        exit_code: Optional<Int32Type>,
        /// The index of the error among the messages.
        error: Optional<UInt32Type>,
        /// The index of the debug message among the messages.
        debug: Optional<UInt32Type>,
        /// The run's job: a packed [`Reference`](super::Reference). A dangling one is an index of the ids of missing
        /// jobs.
        job: Required<UInt32Type>,
        previous: Optional<UInt32Type>,
    }
    extras {
        unread: [Sparse<SmolStr>; UNREAD_OF_RUNS.len()],
    }
}

pub(crate) type RunTable = Table<RunChunk>;
pub(crate) type RunWriter = TableWriter<RunChunk>;

impl RunTable {
    pub(crate) fn id(&self, row: u32) -> RunId {
        let (chunk, at) = self.locate(row);
        RunId::at(&chunk.cells.run_id, at)
    }

    /// The size of the sparse columns of each chunk, in bytes.
    pub(crate) fn sparse_sizes(&self) -> impl Iterator<Item = usize> {
        self.chunks().iter().map(|chunk| text_bytes(&chunk.unread))
    }
}

impl RunWriter {
    pub(crate) fn id(&self, row: u32) -> RunId {
        let (chunk, at) = super::locate(row);
        match self.chunk(chunk) {
            Ok(chunk) => RunId::at(&chunk.cells.run_id, at),
            Err(writer) => writer.run_id.get(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{TimestampMicrosecondArray, UInt8Array, UInt32Array};
    use datafusion::arrow::compute::{concat, take};

    use super::super::located_rows::{CHUNK_ROWS, LocatedRows, locate};
    use super::*;

    fn rows(count: usize) -> RunRows {
        let ids = (0..count).filter_map(|at| RunId::new(&at.to_string()));
        let (times, codes) = (TimestampMicrosecondArray::new_null(count), UInt32Array::from_value(7, count));
        RunRows {
            run_id: RunId::column(ids).unwrap(),
            cluster: UInt32Array::from_iter_values(0..count as u32),
            node: codes.clone(),
            pool: codes.clone(),
            leased: TimestampMicrosecondArray::from_value(1, count),
            pending: times.clone(),
            started: times.clone(),
            finished: times,
            state: UInt8Array::from_value(1, count),
            exit_code: (0..count as i32).map(|at| (at % 3 > 0).then_some(at)).collect(),
            error: UInt32Array::new_null(count),
            debug: UInt32Array::new_null(count),
            job: codes,
            previous: UInt32Array::new_null(count),
        }
    }

    #[test]
    fn a_chunk_is_changed_in_place_unless_a_snapshot_holds_it() {
        let mut writer = RunWriter::default();
        writer.append(&rows(100), |_, _| {});
        writer.close().unwrap();
        let address = |writer: &RunWriter| writer.table().chunks()[0].cells.state.as_ptr();
        let before = address(&writer);
        writer.writer(0).state.set(50, 2);
        writer.close().unwrap();
        assert_eq!(address(&writer), before);
        let snapshot = writer.table().clone();
        writer.writer(0).state.set(51, 3);
        writer.close().unwrap();
        assert_ne!(address(&writer), before);
        let states = |table: &RunTable| table.chunks()[0].cells.state[50..52].to_vec();
        assert_eq!((states(&snapshot), states(writer.table())), (vec![2, 1], vec![2, 3]));
    }

    #[test]
    fn columns_are_gathered_from_any_rows() {
        let mut writer = RunWriter::default();
        writer.append(&rows(CHUNK_ROWS + 100), |_, _| {});
        // The value of a row remains when the row becomes null.
        writer.writer(0).exit_code.set_optional(4, None);
        writer.close().unwrap();
        let table = writer.table();
        let last = CHUNK_ROWS as u32 + 99;
        for rows in [vec![3, 4, 5], vec![4, 90, 8000, 40], vec![last, 0, last - 1, 1, 2, 8191, 8192, 5, 4]] {
            let indices = UInt32Array::from(rows.clone());
            for column in 0..RunColumnIndex::ALL.len() {
                let arrays = table.chunks().iter().map(|chunk| chunk.batch().column(column).as_ref());
                let expected = take(&concat(&arrays.collect::<Vec<_>>()).unwrap(), &indices, None).unwrap();
                let located = LocatedRows::new(table.chunks(), &rows);
                assert_eq!(&located.take(|chunk| chunk.batch().column(column)).unwrap(), &expected, "{column}");
                assert!(located.iter().map(|(_, at)| at).eq(rows.iter().map(|&row| locate(row).1)));
            }
        }
    }
}
