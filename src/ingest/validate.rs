//! Validation of ingestion queries.

use std::ptr;

use super::limits::{
    JOB_ID_BYTES, JOB_SET_BYTES, NAME_BYTES, PRIORITY_CLASS_BYTES, RUN_ID_BYTES, Violation, no_nul, optional, required,
    spec, time,
};
use super::query::*;
use crate::time::Timestamp;

type Check = Result<(), Violation>;

/// Checks a query against the limits. `valid_spec` is a spec that has passed.
pub(super) fn check(query: &IngestionQuery, valid_spec: &[u8]) -> Check {
    match query {
        IngestionQuery::InsertJob(query) => {
            check_job(&query.job)?;
            job_spec(query.job_spec.as_deref(), valid_spec)
        }
        IngestionQuery::InsertJobSpec(query) => {
            job_id(&query.job_id)?;
            hint(query.submitted)?;
            job_spec(query.job_spec.as_deref(), valid_spec)
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
        IngestionQuery::InsertJobError(query) => {
            job_id(&query.job_id)?;
            hint(query.submitted)
        }
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

/// Decoding a spec takes longer than all other checks of a job, and the jobs of a set often have the same spec. The
/// comparison with a different spec ends at the first difference.
fn job_spec(value: Option<&[u8]>, valid: &[u8]) -> Check {
    let value = value.unwrap_or_default();
    if ptr::eq(value, valid) || value == valid {
        return Ok(());
    }
    spec("jobSpec", value)
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

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::api;
    use crate::ingest::IngestionBatch;

    fn spec_of(job_id: &str, spec: &[u8]) -> IngestionQuery {
        InsertJobSpec { job_id: job_id.to_owned(), job_spec: Some(spec.to_vec().into()), submitted: None }.into()
    }

    #[test]
    fn a_spec_is_checked_unless_it_equals_a_valid_one() {
        let valid = api::Job { client_id: "client".to_owned(), ..api::Job::default() }.encode_to_vec();
        // The length is that of the valid spec; the length of the client id exceeds it.
        let invalid: Vec<u8> = valid.iter().map(|&byte| if byte == 6 { 60 } else { byte }).collect();
        let batch = |specs: &[(&str, &[u8])]| IngestionBatch::new(specs.iter().map(|&(id, spec)| spec_of(id, spec)));
        assert_eq!(batch(&[("a", &valid), ("b", &valid), ("c", &[]), ("d", &valid)]).unwrap().specs().len(), 3);
        // A spec of a job that has one is not stored, but it is checked.
        for id in ["a", "b"] {
            let error = batch(&[("a", &valid), (id, &invalid)]).unwrap_err().to_string();
            assert!(error.contains("query 1 (InsertJobSpec): jobSpec (8 bytes) is not a valid api.Job"), "{error}");
        }
        assert!(batch(&[("a", &invalid), ("b", &invalid)]).unwrap_err().to_string().contains("query 0"));
    }
}
