//! `broadside sql`: a question to the memory engine in SQL.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use broadside::ingest::IngestionBatch;
use broadside::memory::{MemoryConfig, MemoryDatabase};
use broadside::workload::{Workload, WorkloadOptions};
use broadside::{Database, ManualClock};
use clap::Args;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::context::SQLOptions;

use super::report::Output;
use super::source::Source;
use super::{Failure, Verdict};

/// Ask the memory engine in SQL and print the answer as a table.
///
/// The tables are job, job_run, job_spec and job_error, filled by the calls of a scenario or
/// with generated jobs. They can only be read. EXPLAIN shows the plan, with the indexes it uses.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct SqlArgs {
    /// The query: one statement of DataFusion's SQL.
    query: String,

    /// Make the calls of this scenario first; `-` for standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "jobs")]
    scenario: Option<PathBuf>,

    /// Generate this many jobs first.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    jobs: u64,
}

const AFTER_HELP: &str = r#"Examples:
  broadside sql "SELECT queue, state, count(*) AS jobs FROM job GROUP BY queue, state ORDER BY jobs DESC LIMIT 10"
  broadside sql --jobs 1000000 "EXPLAIN SELECT job_id FROM job WHERE queue = 'risk' ORDER BY job_id DESC LIMIT 5"
  broadside sql --scenario my-scenario.jsonl "DESCRIBE job"

Exit codes:
  0  the answer is printed
  2  the query or the scenario is invalid"#;

const JOBS_PER_BATCH: u64 = 1000;

pub async fn run(args: &SqlArgs) -> Result<Verdict, Failure> {
    let clock = Arc::new(ManualClock::default());
    let database = MemoryDatabase::new(&MemoryConfig::default(), clock.clone());
    match &args.scenario {
        Some(path) => make_calls(&database, &clock, &Source(path)).await?,
        None => generate(&database, args.jobs).await?,
    }
    let session = database.session_context().await?;
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let frame = session.sql_with_options(&args.query, read_only).await?;
    let schema = Arc::clone(frame.schema().inner());
    let mut batches = frame.collect().await?;
    if batches.is_empty() {
        // The heading of an answer without rows.
        batches.push(RecordBatch::new_empty(schema));
    }
    Output::default().line(pretty_format_batches(&batches)?)?;
    Ok(Verdict::Agreed)
}

/// Makes a scenario's calls, whatever they are expected to get.
async fn make_calls(database: &MemoryDatabase, clock: &ManualClock, source: &Source<'_>) -> Result<(), Failure> {
    for step in source.scenario().map_err(io::Error::other)?.steps {
        step.call.execute(database, clock).await;
    }
    Ok(())
}

async fn generate(database: &MemoryDatabase, jobs: u64) -> Result<(), Failure> {
    database.initialise_schema().await?;
    for batch in Workload::new(WorkloadOptions { jobs, ..WorkloadOptions::default() }).batches(JOBS_PER_BATCH) {
        database.execute_ingestion_query_batch(&IngestionBatch::new(batch)?).await?;
    }
    Ok(())
}
