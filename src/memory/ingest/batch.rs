//! Batches of ingestion queries.

use bytes::Bytes;
use datafusion::arrow::error::ArrowError;

use super::store::Store;
use crate::error::{Operation, Result};
use crate::ingest::{IngestionBatch, RecordInsert};
use crate::memory::error::engine_error;
use crate::memory::storage::JobId;

impl Store {
    /// Applies a batch. The method has no await and does not fail after its first change, so a batch is applied
    /// completely or not at all.
    pub(in crate::memory) fn apply(&mut self, batch: &IngestionBatch) -> Result<()> {
        let operation = Operation::ExecuteIngestionQueryBatch;
        self.check_room(operation, batch.jobs().len(), batch.runs().len())?;
        self.records.specs.insert_all(records(batch.specs()));
        self.records.errors.insert_all(records(batch.errors()));
        self.change(batch).map_err(|error| engine_error(operation, error.into()))
    }

    fn change(&mut self, batch: &IngestionBatch) -> Result<(), ArrowError> {
        self.insert_jobs(batch.jobs())?;
        self.insert_runs(batch.runs())?;
        self.update_jobs(batch.job_updates());
        self.update_runs(batch.run_updates());
        self.end_batch()
    }
}

fn records(inserts: &[RecordInsert]) -> impl Iterator<Item = (JobId, Bytes)> {
    inserts.iter().filter_map(|insert| Some((JobId::new(&insert.job_id)?, copied(&insert.value))))
}

/// A copy of the caller's bytes, which may be a part of a larger buffer or have spare capacity.
pub(super) fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
