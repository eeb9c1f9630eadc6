//! `broadside smoke`: whether a backend behaves as documented, and how quick it is.

mod behaviours;
mod census;
mod queries;
mod summary;

use std::sync::Arc;
use std::time::Instant;

use broadside::ingest::IngestionBatch;
use broadside::measure::LatencyHistogram;
use broadside::workload::{Workload, WorkloadOptions};
use broadside::{Database, DatabaseConfig, ManualClock};
use clap::Args;

use super::report::Output;
use super::scratch::{reach, with_scratch};
use super::{BackendArgs, Failure, Verdict, progress};
use summary::{Row, Summary, Tally};

/// Check that a backend behaves as documented, and time its queries.
///
/// Runs every scenario that Broadside is tested with, each on an empty store of its own; then
/// fills another one with generated jobs, checks that what is read of them adds up, and runs
/// each kind of query that Lookout's users run, with many values.
///
/// Prints one table. What is not as it should be is shown on standard error.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct SmokeArgs {
    #[command(flatten)]
    backend: BackendArgs,

    /// How many jobs to generate.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(..=MOST_JOBS))]
    jobs: u64,
}

/// Far more than any store holds.
const MOST_JOBS: u64 = 1_000_000_000;

const AFTER_HELP: &str = "\
Examples:
  broadside smoke
  broadside smoke --jobs 1000000
  broadside smoke --backend clickhouse+http://default@localhost:8123/default --jobs 20000

Exit codes:
  0  everything is as it should be
  1  something is not
  2  the backend cannot be reached";

/// How many jobs a batch tells the lives of.
const JOBS_PER_BATCH: u64 = 1000;

pub async fn run(args: &SmokeArgs) -> Result<Verdict, Failure> {
    let config = args.backend.config()?;
    reach(std::slice::from_ref(&config)).await?;
    let mut summary = Summary::new(config.backend(), args.jobs);
    summary.add(behaviours::check(&config).await?);
    let workload = Workload::new(WorkloadOptions { jobs: args.jobs, ..WorkloadOptions::default() });
    generated_jobs(&config, &workload, &mut summary).await?;
    Output::default().line(&summary)?;
    Ok(if summary.passed() { Verdict::Agreed } else { Verdict::Differed })
}

/// Fills a store with the workload, checks it and queries it.
async fn generated_jobs(config: &DatabaseConfig, workload: &Workload, summary: &mut Summary) -> Result<(), Failure> {
    let clock = Arc::new(ManualClock::default());
    clock.set(workload.now());
    with_scratch(config, &clock, async |database| {
        database.initialise_schema().await?;
        summary.add(load(database, workload).await?);
        summary.add(census::check(database, workload).await);
        queries::run(database, workload, summary).await;
        Ok(())
    })
    .await
}

async fn load(database: &dyn Database, workload: &Workload) -> Result<Row, Failure> {
    let bar = progress::bar("loading jobs", workload.options().jobs);
    let mut latencies = LatencyHistogram::default();
    let mut batches = 0;
    let mut queries = 0;
    for batch in workload.batches(JOBS_PER_BATCH) {
        let started = Instant::now();
        let batch = IngestionBatch::new(batch)?;
        database.execute_ingestion_query_batch(&batch).await?;
        latencies.record(started.elapsed());
        batches += 1;
        queries = queries.max(batch.query_count());
        bar.inc(JOBS_PER_BATCH);
    }
    bar.finish_and_clear();
    let tally = Tally { checked: batches, passed: batches };
    Ok(Row { name: format!("ingest a batch of {JOBS_PER_BATCH} jobs' lives"), tally, rows: Some(queries), latencies })
}
