//! Batches: the stored rows are read, the batch is applied to them, and the changed rows are written.
//!
//! The stored rows of all ids of a batch are read by key, with one query for each table. The layout determines how
//! changes are written. `ALTER … UPDATE` is never used, because a mutation rewrites parts and is applied late.

mod changes;
mod patch;
mod stored;
mod write;

pub(super) use changes::Changes;
#[cfg(test)]
pub(super) use patch::{update_jobs, update_runs};
pub(super) use stored::Stored;
#[cfg(test)]
pub(super) use stored::{known, newest};
pub(super) use write::{Writer, unique_token};

use crate::error::Operation;

const OPERATION: Operation = Operation::ExecuteIngestionQueryBatch;
