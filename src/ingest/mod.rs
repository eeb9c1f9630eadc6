//! Ingestion: unvalidated queries, the limits that validation checks, and the batch plan.

mod batch;
mod id_index;
mod limits;
mod plan;
mod planner;
mod query;
mod run;
mod validate;

pub use batch::IngestionBatch;
#[cfg(feature = "memory")]
pub(crate) use limits::contains_nul;
pub use limits::{EARLIEST, END, JOB_ID_BYTES, JOB_SET_BYTES, NAME_BYTES, PRIORITY_CLASS_BYTES, RUN_ID_BYTES};
pub(crate) use limits::{Violation, required, spec, time};
pub use plan::{Cancellation, JobEffect, JobInsert, JobPatch, JobUpdate, RecordInsert, RunInsert, RunUpdate};
pub(crate) use query::null_as_default;
pub use query::{
    IngestionQuery, InsertJob, InsertJobError, InsertJobRun, InsertJobSpec, NewJob, SetJobCancelled, SetJobErrored,
    SetJobLeased, SetJobPending, SetJobPreempted, SetJobRejected, SetJobRunCancelled, SetJobRunFailed,
    SetJobRunPending, SetJobRunPreempted, SetJobRunStarted, SetJobRunSucceeded, SetJobRunning, SetJobSucceeded,
    UpdateJobPriority,
};
pub(crate) use run::RunOfJob;
