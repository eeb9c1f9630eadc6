//! The checks that every ingestion query passes before a batch plan exists.

use super::limits::{
    JOB_ID_BYTES, JOB_SET_BYTES, NAME_BYTES, PRIORITY_CLASS_BYTES, RUN_ID_BYTES, Violation, no_nul, optional, required,
    spec, time,
};
use super::query::*;
use crate::time::Timestamp;

type Check = Result<(), Violation>;

/// Checks a query against the limits of the contract (rule 8).
pub(super) fn check(query: &IngestionQuery) -> Check {
    match query {
        IngestionQuery::InsertJob(query) => {
            check_job(&query.job)?;
            spec("jobSpec", query.job_spec.as_deref().unwrap_or_default())
        }
        IngestionQuery::InsertJobSpec(query) => {
            job_id(&query.job_id)?;
            spec("jobSpec", query.job_spec.as_deref().unwrap_or_default())
        }
        IngestionQuery::UpdateJobPriority(query) => {
            job_id(&query.job_id)?;
            hint(query.submitted)
        }
        IngestionQuery::SetJobLeased(query) => {
            transition(&query.job_id, query.time, query.submitted)?;
            run_id("runId", &query.run_id)
        }
        IngestionQuery::SetJobPending(query) => {
            transition(&query.job_id, query.time, query.submitted)?;
            run_id("runId", &query.run_id)
        }
        IngestionQuery::SetJobRunning(query) => {
            transition(&query.job_id, query.time, query.submitted)?;
            run_id("latestRunId", &query.latest_run_id)
        }
        IngestionQuery::SetJobSucceeded(query) => transition(&query.job_id, query.time, query.submitted),
        IngestionQuery::SetJobErrored(query) => transition(&query.job_id, query.time, query.submitted),
        IngestionQuery::SetJobRejected(query) => transition(&query.job_id, query.time, query.submitted),
        IngestionQuery::SetJobPreempted(query) => transition(&query.job_id, query.time, query.submitted),
        IngestionQuery::SetJobCancelled(query) => {
            transition(&query.job_id, query.time, query.submitted)?;
            optional("cancelReason", query.cancel_reason.as_deref(), NAME_BYTES)?;
            optional("cancelUser", query.cancel_user.as_deref(), NAME_BYTES)
        }
        IngestionQuery::InsertJobError(query) => job_id(&query.job_id),
        IngestionQuery::InsertJobRun(query) => check_run(query),
        IngestionQuery::SetJobRunPending(query) => run_transition(&query.job_run_id, query.time, query.submitted),
        IngestionQuery::SetJobRunStarted(query) => {
            run_transition(&query.job_run_id, query.time, query.submitted)?;
            optional("node", query.node.as_deref(), NAME_BYTES)
        }
        IngestionQuery::SetJobRunSucceeded(query) => run_transition(&query.job_run_id, query.time, query.submitted),
        IngestionQuery::SetJobRunFailed(query) => run_transition(&query.job_run_id, query.time, query.submitted),
        IngestionQuery::SetJobRunCancelled(query) => run_transition(&query.job_run_id, query.time, query.submitted),
        IngestionQuery::SetJobRunPreempted(query) => run_transition(&query.job_run_id, query.time, query.submitted),
    }
}

fn check_job(job: &NewJob) -> Check {
    job_id(&job.job_id)?;
    required("queue", &job.queue, NAME_BYTES)?;
    required("jobSet", &job.job_set, JOB_SET_BYTES)?;
    required("owner", &job.owner, NAME_BYTES)?;
    optional("namespace", job.namespace.as_deref(), NAME_BYTES)?;
    optional("priorityClass", job.priority_class.as_deref(), PRIORITY_CLASS_BYTES)?;
    time("submitted", job.submitted)?;
    for (key, value) in &job.annotations {
        no_nul("annotations", key)?;
        no_nul("annotations", value)?;
    }
    Ok(())
}

fn check_run(run: &InsertJobRun) -> Check {
    run_transition(&run.job_run_id, run.time, run.submitted)?;
    job_id(&run.job_id)?;
    required("cluster", &run.cluster, NAME_BYTES)?;
    optional("node", run.node.as_deref(), NAME_BYTES)?;
    optional("pool", run.pool.as_deref(), NAME_BYTES)
}

fn job_id(value: &str) -> Check {
    required("jobId", value, JOB_ID_BYTES)
}

fn run_id(field: &'static str, value: &str) -> Check {
    required(field, value, RUN_ID_BYTES)
}

fn hint(submitted: Option<Timestamp>) -> Check {
    submitted.map_or(Ok(()), |submitted| time("submitted", submitted))
}

fn transition(id: &str, at: Timestamp, submitted: Option<Timestamp>) -> Check {
    job_id(id)?;
    time("time", at)?;
    hint(submitted)
}

fn run_transition(id: &str, at: Timestamp, submitted: Option<Timestamp>) -> Check {
    run_id("jobRunId", id)?;
    time("time", at)?;
    hint(submitted)
}
