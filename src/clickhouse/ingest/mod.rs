//! Batches: read what is stored of their ids, decide, write what changed.
//!
//! The stored rows of all ids that a batch names are read by key, one read a table, and the
//! batch plan is applied to them. How the outcome is written depends on the layout; either way
//! no `ALTER … UPDATE` takes part, because a mutation rewrites parts and readers see it late.

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
