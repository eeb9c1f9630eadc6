//! The example of the README, on the memory engine.
use std::sync::Arc;

use broadside::ingest::{InsertJob, NewJob};
use broadside::query::{Annotation, Direction, JobOrderKey, TextField};
use broadside::{DatabaseConfig, IngestionBatch, JobQuery, SystemClock, Timestamp};

#[tokio::main(flavor = "current_thread")]
async fn main() -> broadside::Result<()> {
    let database = "memory".parse::<DatabaseConfig>()?.connect(Arc::new(SystemClock)).await?;
    database.initialise_schema().await?;
    let mut job = NewJob::new("job-1", "risk", "nightly", "ann", Timestamp::from_seconds(1_767_225_600));
    job.annotations.insert("team".to_owned(), "fx".to_owned());
    let batch = IngestionBatch::new([InsertJob { job, job_spec: None }.into()])?;
    database.execute_ingestion_query_batch(&batch).await?;
    let query = JobQuery::new()
        .filter(TextField::Queue.equals("risk"))
        .filter(Annotation("team").starts_with("f"))
        .order_by(JobOrderKey::Submitted, Direction::Descending)
        .limit(100);
    let jobs = database.get_jobs(&query).await?;
    assert_eq!(jobs[0].annotations["team"], "fx");
    println!("{} is {}", jobs[0].job_id, jobs[0].state);
    Ok(())
}

#[test]
fn the_example_runs() {
    main().expect("the example runs");
}
