//! `broadside stats`: memory usage of the memory engine.

use std::fmt;

use broadside::memory::{MemoryDatabase, MemoryStats};
use clap::Args;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};

use super::messages;
use super::{Failure, Verdict, fill, format};

/// Show the memory usage of the memory engine's columns and indexes.
///
/// Ingests generated jobs into a memory store and prints the size of each column, dictionary and index: the
/// total, the bytes per job and the share of the total.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Number of jobs to generate.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(..=fill::MAX_JOBS))]
    jobs: u64,

    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &StatsArgs) -> Result<Verdict, Failure> {
    let stats = measure(args.jobs).await?;
    if args.json {
        messages::output(serde_json::to_string_pretty(&stats)?)?;
    } else {
        messages::output(StatsTable(&stats))?;
    }
    Ok(Verdict::Passed)
}

async fn measure(jobs: u64) -> Result<MemoryStats, Failure> {
    let database = MemoryDatabase::new();
    fill::generate(&database, jobs).await?;
    Ok(database.stats().await?)
}

/// A row for each part and a row with the total.
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
        table.add_row([Cell::new("total"), Cell::new("")].into_iter().chain(numbers(total)));
        table.fmt(f)
    }
}
