//! Jobs for a store: those of a scenario's calls, or generated ones.

use std::io;

use broadside::ingest::IngestionBatch;
use broadside::scenario::Scenario;
use broadside::workload::{Workload, WorkloadOptions};
use broadside::{Database, ManualClock};

use super::source::Source;
use super::{Failure, progress, report};

/// How many jobs a batch tells the lives of.
const JOBS_PER_BATCH: u64 = 1000;

/// The scenario of a source, which must be valid.
pub fn scenario(source: &Source<'_>) -> Result<Scenario, Failure> {
    Ok(source.scenario().map_err(io::Error::other)?)
}

/// Makes the calls of a scenario, and shows those that fail or get another response than they expect.
pub async fn make_calls(database: &dyn Database, clock: &ManualClock, source: &Source<'_>, scenario: &Scenario) {
    for step in &scenario.steps {
        let response = step.call.execute(database, clock).await;
        if step.expect.is_some() {
            report::difference(source, step, &response);
        } else {
            report::failed_call(source, step, &response);
        }
    }
}

/// Initialises the schema and ingests so many generated jobs.
pub async fn generate(database: &dyn Database, jobs: u64) -> Result<(), Failure> {
    database.initialise_schema().await?;
    let bar = progress::bar("loading jobs", jobs);
    for batch in Workload::new(WorkloadOptions { jobs, ..WorkloadOptions::default() }).batches(JOBS_PER_BATCH) {
        database.execute_ingestion_query_batch(&IngestionBatch::new(batch)?).await?;
        bar.inc(JOBS_PER_BATCH);
    }
    bar.finish_and_clear();
    Ok(())
}
