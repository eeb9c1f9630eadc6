//! Jobs for tests that do not depend on their fields.

use broadside::ingest::NewJob;
use broadside::query::{Direction, JobOrderKey};
use broadside::{Database, Job, JobQuery, Timestamp};

/// A new job.
pub fn plain_job(job_id: &str, job_set: &str) -> NewJob {
    NewJob {
        job_id: job_id.to_owned(),
        queue: "queue".to_owned(),
        job_set: job_set.to_owned(),
        owner: "owner".to_owned(),
        namespace: None,
        priority: 0,
        priority_class: None,
        submitted: Timestamp::from_seconds(0),
        cpu: 1,
        memory: 1,
        ephemeral_storage: 1,
        gpu: 0,
        annotations: [("key".to_owned(), "value".to_owned())].into(),
    }
}

/// All jobs by id.
pub async fn all_jobs(database: &dyn Database) -> Vec<Job> {
    let query = JobQuery::new().order_by(JobOrderKey::JobId, Direction::Ascending);
    database.get_jobs(&query).await.unwrap()
}
