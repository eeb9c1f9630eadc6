//! A store in a program: jobs are ingested, and read as Lookout's users read them.
//!
//!     cargo run --example store

use broadside::ingest::{InsertJob, NewJob, UpdateJobPriority};
use broadside::query::{GroupField, StateField, TextField};
use broadside::{DatabaseExt, GroupQuery, JobQuery, JobState, Timestamp};

#[tokio::main(flavor = "current_thread")]
async fn main() -> broadside::Result<()> {
    let database = broadside::connect("memory").await?;
    database.initialise_schema().await?;
    let time = Timestamp::from_seconds(1_767_225_600);
    let jobs = (0..10).map(|n| NewJob::new(format!("job-{n}"), "risk", format!("set-{}", n % 3), "ann", time));
    database.ingest(jobs.map(|job| InsertJob { job, job_spec: None })).await?;
    database.ingest([UpdateJobPriority { job_id: "job-4".to_owned(), priority: 7, submitted: None }]).await?;

    let queued = JobQuery::new().filter(TextField::Queue.equals("risk")).filter(StateField.any_of([JobState::Queued]));
    for job in database.get_jobs(&queued.limit(3)).await? {
        println!("{} of {}", job.job_id, job.job_set);
    }
    for group in database.get_job_groups(&GroupQuery::by(GroupField::JobSet)).await? {
        println!("{}: {} jobs", group.name, group.count);
    }
    database.close().await
}
