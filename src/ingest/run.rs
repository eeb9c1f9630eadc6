//! The ingestion queries of a run until it starts.

use super::{
    IngestionQuery, InsertJobRun, SetJobLeased, SetJobPending, SetJobRunPending, SetJobRunStarted, SetJobRunning,
};
use crate::time::Timestamp;

/// The run of a job whose lifecycle is generated. Each stage is two queries, in the order of Lookout's ingester.
pub(crate) struct RunOfJob<'a> {
    pub(crate) job_id: &'a str,
    pub(crate) run_id: &'a str,
    /// The submission time of the job.
    pub(crate) submitted: Timestamp,
}

impl RunOfJob<'_> {
    pub(crate) fn leased(&self, time: Timestamp, cluster: String, node: String, pool: &str) -> [IngestionQuery; 2] {
        let (job_id, run_id, submitted) = self.owned();
        let run = InsertJobRun {
            job_run_id: run_id.clone(),
            job_id: job_id.clone(),
            cluster,
            node: Some(node),
            pool: Some(pool.to_owned()),
            time,
            submitted,
        };
        [SetJobLeased { job_id, time, run_id, submitted }.into(), run.into()]
    }

    pub(crate) fn pending(&self, time: Timestamp) -> [IngestionQuery; 2] {
        let (job_id, run_id, submitted) = self.owned();
        let run = SetJobRunPending { job_run_id: run_id.clone(), time, submitted };
        [SetJobPending { job_id, time, run_id, submitted }.into(), run.into()]
    }

    pub(crate) fn running(&self, time: Timestamp, node: String) -> [IngestionQuery; 2] {
        let (job_id, latest_run_id, submitted) = self.owned();
        let run = SetJobRunStarted { job_run_id: latest_run_id.clone(), time, node: Some(node), submitted };
        [SetJobRunning { job_id, time, latest_run_id, submitted }.into(), run.into()]
    }

    fn owned(&self) -> (String, String, Option<Timestamp>) {
        (self.job_id.to_owned(), self.run_id.to_owned(), Some(self.submitted))
    }
}
