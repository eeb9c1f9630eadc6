//! The limit of the size of a store.
//!
//! A measurement takes time in proportion to the store. Between two of them, the size is the measured one plus
//! estimates of the batches since, so that only a batch that seems to exceed the limit causes a measurement.

use std::fs;

use datafusion::arrow::array::Array;
use parking_lot::Mutex;

use crate::exchange::{Part, Table};
use crate::ingest::IngestionBatch;

/// The estimated size of a job and of a run without strings, with their entries in indexes, in bytes.
pub(super) const JOB_BYTES: usize = 400;
pub(super) const RUN_BYTES: usize = 250;
/// The estimated size of a string or record without its bytes, and of the changes of indexes by an update, in bytes.
const ENTRY_BYTES: usize = 100;
/// The share of the machine's memory that a store may take by default, in percent. Snapshots and queries take the rest.
const DEFAULT_PERCENT: u64 = 80;

/// The limit of the size of a store, and an estimate of the size.
#[derive(Debug)]
pub(super) struct MemoryLimit(Mutex<Estimate>);

#[derive(Debug)]
struct Estimate {
    max: u64,
    measured: u64,
    /// The estimated size of the batches since the measurement.
    added: u64,
}

impl Default for MemoryLimit {
    fn default() -> Self {
        let max = machine_bytes().map_or(u64::MAX, |bytes| bytes / 100 * DEFAULT_PERCENT);
        Self(Mutex::new(Estimate { max, measured: 0, added: 0 }))
    }
}

impl MemoryLimit {
    pub(super) fn max(&self) -> u64 {
        self.0.lock().max
    }

    pub(super) fn set_max(&self, bytes: u64) {
        self.0.lock().max = bytes;
    }

    /// Adds a batch to the estimate, unless it would exceed the limit.
    pub(super) fn admits(&self, batch: u64) -> bool {
        let mut estimate = self.0.lock();
        let after = estimate.added.saturating_add(batch);
        let fits = estimate.measured.saturating_add(after) <= estimate.max;
        if fits {
            estimate.added = after;
        }
        fits
    }

    /// Whether no batch was admitted since the measurement.
    pub(super) fn is_exact(&self) -> bool {
        self.0.lock().added == 0
    }

    pub(super) fn set_measured(&self, bytes: u64) {
        let mut estimate = self.0.lock();
        (estimate.measured, estimate.added) = (bytes, 0);
    }
}

/// The estimated size that a batch adds to a store, in bytes, if all of its strings are new.
pub(super) fn batch_bytes(batch: &IngestionBatch) -> u64 {
    let annotations = batch.jobs().iter().flat_map(|job| job.annotations.values());
    let records = batch.specs().iter().chain(batch.errors()).map(|record| &record.value);
    let messages = batch.run_updates().iter().flat_map(|update| [&update.error, &update.debug]).flatten();
    let texts = annotations.map(String::len).chain(records.chain(messages).map(|bytes| bytes.len()));
    let updates = (batch.job_updates().len() + batch.run_updates().len()) * ENTRY_BYTES;
    let rows = batch.jobs().len() * JOB_BYTES + batch.runs().len() * RUN_BYTES;
    (rows + updates + texts.map(|bytes| ENTRY_BYTES + bytes).sum::<usize>()) as u64
}

/// The estimated size that a part of an export adds to a store, in bytes, if all of its strings are new.
pub(super) fn part_bytes(part: &Part) -> u64 {
    let columns = Table::ALL.into_iter().flat_map(|table| part.batch(table).columns());
    let values = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or_default());
    let rows = part.batch(Table::Job).num_rows() * JOB_BYTES + part.batch(Table::JobRun).num_rows() * RUN_BYTES;
    let records = part.batch(Table::JobSpec).num_rows() + part.batch(Table::JobError).num_rows();
    (rows + records * ENTRY_BYTES + values.sum::<usize>()) as u64
}

/// The memory that the process can have, in bytes: that of the machine, or of the control group if that is less.
pub(super) fn machine_bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok()?;
    let total = machine.lines().find_map(|line| line.strip_prefix("MemTotal:")?.strip_suffix("kB"))?;
    let total = total.trim().parse::<u64>().ok()?.checked_mul(1024)?;
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|max| max.trim().parse().ok());
    Some(group.map_or(total, |max| total.min(max)))
}
