//! `broadside stats`: memory usage of the memory engine.

use broadside::memory::{MemoryDatabase, MemoryStats};
use clap::Args;
use comfy_table::Table;

use super::arguments::Address;
use super::messages;
use super::table::table;
use super::{ExitStatus, Failure, fill, format};

/// Show the memory usage of the memory engine's columns and indexes.
///
/// Ingests generated jobs into a memory store and prints the size of each column, dictionary and index: the
/// total, the bytes per job and the share of the total.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Number of jobs to generate.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(..=fill::MAX_JOBS))]
    jobs: u64,

    /// Fill the store with the rows of this store: a backend, a URL, or parquet:FOLDER.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["jobs"])]
    from: Option<Address>,

    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &StatsArgs) -> Result<ExitStatus, Failure> {
    let stats = measure(args).await?;
    if args.json {
        messages::output(serde_json::to_string_pretty(&stats)?)?;
    } else {
        messages::output(table_of(&stats))?;
    }
    Ok(ExitStatus::Passed)
}

async fn measure(args: &StatsArgs) -> Result<MemoryStats, Failure> {
    let database = MemoryDatabase::new();
    match &args.from {
        Some(address) => fill::import(&database, &address.endpoint()?.open().await?).await?,
        None => fill::generate(&database, args.jobs).await?,
    }
    Ok(database.stats().await?)
}

/// A row for each part and a row with the total.
fn table_of(stats: &MemoryStats) -> Table {
    let total = stats.total_bytes();
    let row = |of: &str, name: &str, bytes: u64| {
        let per_job = if stats.jobs == 0 { 0.0 } else { bytes as f64 / stats.jobs as f64 };
        let share = if total == 0 { 0.0 } else { 100.0 * bytes as f64 / total as f64 };
        let numbers = [format::bytes(bytes), format!("{per_job:.1}"), format!("{share:.1} %")];
        [of.to_owned(), name.to_owned()].into_iter().chain(numbers).collect()
    };
    let title = format!("{} jobs, {} runs", stats.jobs, stats.runs);
    let header = [title.as_str(), "", "bytes", "per job", "share"].map(str::to_owned);
    let parts = stats.parts.iter().map(|part| row(part.of, &part.name, part.bytes));
    table(2, header.into(), parts.chain([row("total", "", total)]))
}
