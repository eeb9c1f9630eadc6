//! Fills a store by a scenario or with generated jobs.

use std::time::{Duration, Instant};

use broadside::exchange::{Endpoint, Table};
use broadside::ingest::IngestionBatch;
use broadside::scenario::Scenario;
use broadside::workload::{Workload, WorkloadOptions};
use broadside::{Database, ManualClock};
use futures::TryStreamExt;

use super::source::Source;
use super::{Failure, messages, progress};

/// Upper limit of the number of generated jobs.
pub const MAX_JOBS: u64 = 1_000_000_000;
/// The number of generated jobs in an ingestion batch.
pub const JOBS_PER_BATCH: u64 = 1000;

/// Reads and parses the scenario of a source.
pub fn scenario(source: &Source<'_>) -> Result<Scenario, Failure> {
    source.scenario().map_err(Failure::message)
}

/// Executes the calls of a scenario. Reports calls that fail and responses that differ from the expected ones.
pub async fn execute(database: &dyn Database, clock: &ManualClock, source: &Source<'_>, scenario: &Scenario) {
    for step in &scenario.steps {
        let response = step.call.execute(database, clock).await;
        if step.expect.is_some() {
            messages::difference(source, step, &response).await;
        } else {
            messages::failed_call(source, step, &response).await;
        }
    }
}

/// Initialises the schema and ingests the given number of generated jobs.
pub async fn generate(database: &dyn Database, jobs: u64) -> Result<(), Failure> {
    database.initialise_schema().await?;
    load(database, &Workload::new(WorkloadOptions { jobs, ..WorkloadOptions::default() }), |_, _| ()).await
}

/// Initialises the schema and adds the rows of another store.
pub async fn import(database: &dyn Database, source: &Endpoint) -> Result<(), Failure> {
    let bar = progress::bar("loading jobs", source.job_count().await?);
    let mut parts = source.export(None).await?;
    database.initialise_schema().await?;
    while let Some(part) = parts.try_next().await? {
        database.import(&part).await?;
        bar.inc(part.batch(Table::Job).num_rows() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Ingests the jobs of a workload, and passes each batch and its time to `observe`.
pub async fn load(
    database: &dyn Database,
    workload: &Workload,
    mut observe: impl FnMut(&IngestionBatch, Duration),
) -> Result<(), Failure> {
    let bar = progress::bar("loading jobs", workload.options().jobs);
    for batch in workload.batches(JOBS_PER_BATCH) {
        let batch = IngestionBatch::new(batch)?;
        let started = Instant::now();
        database.execute_ingestion_query_batch(&batch).await?;
        observe(&batch, started.elapsed());
        bar.inc(JOBS_PER_BATCH);
    }
    bar.finish_and_clear();
    Ok(())
}
