//! `broadside smoke`: a check of a backend's semantics, with query times.

mod behaviours;
mod census;
mod queries;
mod summary;

use std::sync::Arc;

use broadside::measure::LatencyHistogram;
use broadside::workload::{Workload, WorkloadOptions};
use broadside::{Database, DatabaseConfig, ManualClock};
use clap::Args;

use super::messages;
use super::scratch::{check_reachable, with_scratch};
use super::{BackendArgs, ExitStatus, Failure, fill};
use summary::{Row, Summary, Tally};

/// Check the semantics of a backend and measure its queries.
///
/// Executes each scenario of Broadside's tests on an empty scratch store. Then ingests generated jobs into
/// another one, compares group counts with the generated jobs, and executes each kind of query up to 100 times
/// with values that match at least one job.
///
/// Prints a table with the number of checks, the number of passed checks, the maximum number of result rows, and
/// the latency percentiles. Failed checks are reported on standard error.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct SmokeArgs {
    #[command(flatten)]
    backend: BackendArgs,

    /// Number of jobs to generate.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(..=fill::MAX_JOBS))]
    jobs: u64,
}

const AFTER_HELP: &str = "\
Examples:
  broadside smoke
  broadside smoke --jobs 1000000
  broadside smoke --backend clickhouse+http://default@localhost:8123/default --jobs 20000

Exit codes:
  0  all checks passed
  1  a check failed
  2  the backend cannot be reached";

pub async fn run(args: &SmokeArgs) -> Result<ExitStatus, Failure> {
    let config = args.backend.config()?;
    check_reachable(std::slice::from_ref(&config)).await?;
    let mut summary = Summary::new(config.backend(), args.jobs);
    summary.add(behaviours::check(&config).await?);
    let workload = Workload::new(WorkloadOptions { jobs: args.jobs, ..WorkloadOptions::default() });
    generated_jobs(&config, &workload, &mut summary).await?;
    messages::output(&summary)?;
    Ok(if summary.passed() { ExitStatus::Passed } else { ExitStatus::Differed })
}

/// Ingests the workload into a scratch store, checks the counts and runs the queries.
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
    let (mut latencies, mut batches, mut queries) = (LatencyHistogram::default(), 0, 0);
    fill::load(database, workload, |batch, time| {
        latencies.record(time);
        batches += 1;
        queries = queries.max(batch.query_count());
    })
    .await?;
    let tally = Tally { checked: batches, passed: batches };
    let name = format!("ingest the lifecycles of {} jobs", fill::JOBS_PER_BATCH);
    Ok(Row { name, tally, rows: Some(queries), latencies })
}
