//! The table of jobs.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::{
    Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType, TimestampSecondType, UInt8Type, UInt32Type,
};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use smol_str::SmolStr;

use super::annotation::ChunkAnnotations;
use super::column::{ColumnType, Optional, Required};
use super::id::JobId;
use super::sparse::{Sparse, UNREAD_OF_JOBS, text_bytes};
use super::table::{Chunk, Table, TableWriter, table};
use super::zone::{ZoneTree, Zones};
use crate::model::JobState;
use crate::time::Timestamp;

table! {
    /// Jobs, in the order of insertion. Strings are dictionary codes.
    JobChunk, JobCells, JobChunkWriter, JobRows, JobColumnIndex {
        job_id: JobId,
        queue: Required<UInt32Type>,
        job_set: Required<UInt32Type>,
        owner: Required<UInt32Type>,
        namespace: Optional<UInt32Type>,
        priority_class: Optional<UInt32Type>,
        cpu: Required<Int64Type>,
        memory: Required<Int64Type>,
        ephemeral_storage: Required<Int64Type>,
        gpu: Required<Int64Type>,
        priority: Required<Int64Type>,
        submitted: Required<TimestampMicrosecondType>,
        cancelled: Optional<TimestampMicrosecondType>,
        /// The ordinal of the state, which may be unknown.
        state: Required<UInt8Type>,
        last_transition_time: Required<TimestampMicrosecondType>,
        /// The latest run: a packed [`Reference`](super::Reference).
        latest_run: Optional<UInt32Type>,
        cancel_reason: Optional<UInt32Type>,
        cancel_user: Optional<UInt32Type>,
        /// The latest run's cluster.
        cluster: Optional<UInt32Type>,
        /// The latest run's node.
        node: Optional<UInt32Type>,
        /// The latest run's pool.
        pool: Optional<UInt32Type>,
        /// The code of the (queue, job set) pair.
        pair: Required<UInt32Type>,
        /// The last transition time in whole seconds, rounded down: the sort key of pages, and the input of aggregates.
        last_transition_seconds: Required<TimestampSecondType>,
        /// The row of the job's most recently inserted run. Each run refers to the previous one.
        last_run: Optional<UInt32Type>,
        /// The code of the job's annotation key set.
        key_set: Required<UInt32Type>,
    }
    extras {
        annotations: ChunkAnnotations,
        /// The rows that a conversion of Lookout's tables has duplicated.
        duplicates: Sparse<()>,
        unread: [Sparse<SmolStr>; UNREAD_OF_JOBS.len()],
        id_zones: Zones<JobId>,
        submitted_zones: Zones<i64>,
        last_transition_seconds_zones: Zones<i64>,
    }
}

pub(crate) type JobTable = Table<JobChunk>;
pub(crate) type JobWriter = TableWriter<JobChunk>;

impl JobTable {
    pub(crate) fn id(&self, row: u32) -> JobId {
        let (chunk, at) = self.locate(row);
        JobId::at(&chunk.cells.job_id, at)
    }

    pub(crate) fn state(&self, row: u32) -> JobState {
        let (chunk, at) = self.locate(row);
        job_state(chunk.cells.state[at])
    }

    pub(crate) fn last_transition_seconds(&self, row: u32) -> i64 {
        let (chunk, at) = self.locate(row);
        chunk.cells.last_transition_seconds[at]
    }

    /// The size of the annotations of each chunk, in bytes.
    pub(crate) fn annotation_sizes(&self) -> impl Iterator<Item = usize> {
        self.chunks().iter().map(|chunk| chunk.annotations.heap_bytes())
    }

    /// The size of the sparse columns of each chunk, in bytes.
    pub(crate) fn sparse_sizes(&self) -> impl Iterator<Item = usize> {
        self.chunks().iter().map(|chunk| chunk.duplicates.heap_bytes(|()| 0) + text_bytes(&chunk.unread))
    }

    /// The size of the zone maps of each chunk, in bytes.
    pub(crate) fn zone_sizes(&self) -> impl Iterator<Item = usize> {
        self.chunks().iter().map(|chunk| {
            chunk.id_zones.heap_bytes()
                + chunk.submitted_zones.heap_bytes()
                + chunk.last_transition_seconds_zones.heap_bytes()
        })
    }
}

/// The state of an ordinal.
pub(crate) fn job_state(ordinal: u8) -> JobState {
    JobState::from_stored(ordinal.into())
}

impl JobChunk {
    /// The number of rows.
    pub(crate) fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Reads the codes of the values of an annotation key; `None` for a row without the key.
    pub(crate) fn annotation<'a>(
        &'a self,
        catalog: &'a super::AnnotationCatalog,
        key: u32,
    ) -> impl FnMut(usize) -> Option<u32> + use<'a> {
        let mut index = catalog.index_in(key);
        move |at| Some(self.annotations.get(at)[index(self.cells.key_set[at])?])
    }
}

impl JobChunkWriter {
    /// The number of rows.
    pub(crate) fn len(&self) -> usize {
        self.queue.values().len()
    }

    /// Updates the zone maps for the rows from `first` on.
    pub(crate) fn extend_zones(&mut self, first: usize) {
        self.id_zones.append(self.job_id.values(), first);
        self.submitted_zones.append(self.submitted.values(), first);
        self.last_transition_seconds_zones.append(self.last_transition_seconds.values(), first);
    }

    pub(crate) fn set_last_transition(&mut self, at: usize, time: Timestamp) {
        let old = self.last_transition_seconds.get(at);
        self.last_transition_time.set(at, time.as_micros());
        self.last_transition_seconds.set(at, time.floor_seconds());
        self.last_transition_seconds_zones.update(self.last_transition_seconds.values(), at, old);
    }
}

impl JobWriter {
    pub(crate) fn id(&self, row: u32) -> JobId {
        let (chunk, at) = super::locate(row);
        match self.chunk(chunk) {
            Ok(chunk) => JobId::at(&chunk.cells.job_id, at),
            Err(writer) => writer.job_id.get(at),
        }
    }

    pub(crate) fn state(&self, row: u32) -> JobState {
        let (chunk, at) = super::locate(row);
        job_state(match self.chunk(chunk) {
            Ok(chunk) => chunk.cells.state[at],
            Err(writer) => writer.state.get(at),
        })
    }
}

/// The zone maps of all chunks of jobs.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobZones {
    pub(crate) ids: ZoneTree<JobId>,
    pub(crate) submitted: ZoneTree<i64>,
    pub(crate) last_transition_seconds: ZoneTree<i64>,
}

impl JobZones {
    /// Copies the zone maps of a chunk after a write.
    pub(crate) fn set(&mut self, at: usize, chunk: &JobChunkWriter) {
        if let Some(zone) = chunk.id_zones.whole() {
            self.ids.set(at, zone);
        }
        if let Some(zone) = chunk.submitted_zones.whole() {
            self.submitted.set(at, zone);
        }
        self.set_last_transition(at, chunk);
    }

    /// Copies the zone map of the last transition time after a write.
    pub(crate) fn set_last_transition(&mut self, at: usize, chunk: &JobChunkWriter) {
        if let Some(zone) = chunk.last_transition_seconds_zones.whole() {
            self.last_transition_seconds.set(at, zone);
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.ids.heap_bytes() + self.submitted.heap_bytes() + self.last_transition_seconds.heap_bytes()
    }
}
