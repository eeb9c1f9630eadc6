//! `broadside stats`: what the memory engine's columns and indexes cost.

use std::fmt;
use std::sync::Arc;

use broadside::ingest::IngestionBatch;
use broadside::memory::{MemoryConfig, MemoryDatabase, MemoryStats};
use broadside::workload::{Workload, WorkloadOptions};
use broadside::{Database, SystemClock};
use clap::Args;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};

use super::report::Output;
use super::{Failure, Verdict, format, progress};

/// Show what the memory engine's columns and indexes cost.
///
/// Fills a memory store with generated jobs and prints the bytes of each column, dictionary and
/// index: in all, and for one job.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// How many jobs to generate.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(..=MOST_JOBS))]
    jobs: u64,

    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Far more than memory holds.
const MOST_JOBS: u64 = 1_000_000_000;
/// How many jobs a batch tells the lives of.
const JOBS_PER_BATCH: u64 = 1000;

pub async fn run(args: &StatsArgs) -> Result<Verdict, Failure> {
    let stats = measure(args.jobs).await?;
    let mut output = Output::default();
    if args.json {
        output.line(serde_json::to_string_pretty(&stats)?)?;
    } else {
        output.line(StatsTable(&stats))?;
    }
    Ok(Verdict::Agreed)
}

async fn measure(jobs: u64) -> Result<MemoryStats, Failure> {
    let workload = Workload::new(WorkloadOptions { jobs, ..WorkloadOptions::default() });
    let database = MemoryDatabase::new(&MemoryConfig::default(), Arc::new(SystemClock));
    database.initialise_schema().await?;
    let bar = progress::bar("loading jobs", jobs);
    for batch in workload.batches(JOBS_PER_BATCH) {
        database.execute_ingestion_query_batch(&IngestionBatch::new(batch)?).await?;
        bar.inc(JOBS_PER_BATCH);
    }
    bar.finish_and_clear();
    Ok(database.stats().await?)
}

/// A row for each part, the total last.
struct StatsTable<'a>(&'a MemoryStats);

impl fmt::Display for StatsTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(stats) = self;
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let total = stats.total_bytes();
        let numbers = |bytes: u64| {
            let per_job = if stats.jobs == 0 { 0.0 } else { bytes as f64 / stats.jobs as f64 };
            let share = if total == 0 { 0.0 } else { 100.0 * bytes as f64 / total as f64 };
            [format::bytes(bytes), format!("{per_job:.1}"), format!("{share:.1} %")].map(right)
        };
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        let title = format!("{} jobs, {} runs", stats.jobs, stats.runs);
        let headings = ["bytes", "per job", "share"].map(|heading| right(heading.to_owned()));
        table.set_header([Cell::new(title), Cell::new("")].into_iter().chain(headings));
        for part in &stats.parts {
            table.add_row([Cell::new(part.of), Cell::new(&part.name)].into_iter().chain(numbers(part.bytes)));
        }
        table.add_row([Cell::new("all"), Cell::new("")].into_iter().chain(numbers(total)));
        table.fmt(f)
    }
}
