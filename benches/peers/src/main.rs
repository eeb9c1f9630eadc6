//! Comparisons of the memory engine with other in-process engines: SQLite and DuckDB.
//!
//! Each has suitable tables and indexes, stores the same jobs, and must return the same results. Only the execution of
//! statements is timed, until all rows are fetched, without decoding jobs and groups.

mod answer;
mod cell;
mod duckdb;
mod row;
mod schema;
mod sql;
mod sqlite;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use broadside::compare::{Backend, Comparison, ComparisonOutcome, Results, Target};
use broadside::workload::{LoadOrder, QueryKind, Workload, WorkloadOptions};
use broadside::{DatabaseConfig, ManualClock};
use clap::{Parser, ValueEnum};

use duckdb::DuckDb;
use sqlite::Sqlite;

/// Compares the memory engine with other in-process engines: the median times, and their ratios to the first engine.
#[derive(Debug, Parser)]
struct Arguments {
    /// Number of generated jobs.
    #[arg(long, default_value_t = 100_000)]
    jobs: u64,
    /// Seed of the generated jobs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Maximum number of executions of each kind of query.
    #[arg(long, default_value_t = 100)]
    samples: usize,
    /// Loads one queue after another, as in a bulk load.
    #[arg(long)]
    queue_contiguous: bool,
    /// Runs group queries only without aggregates and with all of them.
    #[arg(long)]
    brief: bool,
    /// A backend: memory, postgres or a URL. Repeatable. Ratios are relative to the first.
    #[arg(long = "backend", default_value = "memory")]
    backends: Vec<DatabaseConfig>,
    /// Another engine. Repeatable.
    #[arg(long = "peer", value_enum, required = true)]
    peers: Vec<Peer>,
    /// File for the results as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Peer {
    /// SQLite in memory.
    Sqlite,
    /// DuckDB in memory with one thread. Requires python3 and the package duckdb.
    Duckdb,
}

impl Peer {
    fn open(self, workload: &Workload) -> broadside::Result<Box<dyn Target>> {
        Ok(match self {
            Self::Sqlite => Box::new(Sqlite::new(workload.now())?),
            Self::Duckdb => Box::new(DuckDb::new(workload.now())?),
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { jobs, seed, samples, queue_contiguous, brief, backends, peers, out } = Arguments::parse();
    let layout = if queue_contiguous { LoadOrder::QueueContiguous } else { LoadOrder::TimeInterleaved };
    let workload = Workload::new(WorkloadOptions { jobs, seed, layout, ..WorkloadOptions::default() });
    let clock = ManualClock::default();
    clock.set(workload.now());
    let clock = Arc::new(clock);
    let (mut stores, mut targets): (Vec<_>, Vec<Box<dyn Target>>) = Default::default();
    for config in backends {
        let store = config.create_scratch(clock.clone()).await?;
        store.database().initialise_schema().await?;
        targets.push(Box::new(Backend::new(config.backend().name(), store.database().clone())));
        stores.push(store);
    }
    for peer in peers {
        targets.push(peer.open(&workload)?);
    }
    let kinds = if brief { QueryKind::essential() } else { QueryKind::all() };
    let compared = (Comparison { workload: &workload, kinds, samples }).run(&targets, &|_, _, _| {}).await;
    for store in stores {
        store.remove().await?;
    }
    match compared? {
        ComparisonOutcome::Agreed(results) => {
            print(&results);
            out.map_or(Ok(()), |path| std::fs::write(path, serde_json::to_string_pretty(&results)?).map_err(Into::into))
        }
        ComparisonOutcome::Differed(differences) => Err(format!("the answers differ: {differences:#?}").into()),
    }
}

/// Prints the median times in microseconds, and the ratios to the first engine.
fn print(results: &Results) {
    let names: Vec<_> = results.backends.iter().map(|engine| engine.name.as_str()).collect();
    println!("{:60} {}", "median in us, ratio", names.join(", "));
    for operation in &results.operations {
        let times = operation.measurements.iter().map(|measured| {
            let Some(measured) = measured else { return "-".to_owned() };
            let ratio = measured.ratio.map_or_else(String::new, |ratio| format!(" ({ratio})"));
            format!("{:.1}{ratio}", measured.times.p50_nanos as f64 / 1e3)
        });
        println!("{:60} {}", operation.name, times.collect::<Vec<_>>().join(", "));
    }
    for engine in &results.backends {
        println!("{}: {:?} bytes per job", engine.name, engine.bytes_per_job.map(f64::round));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DuckDB requires `python3` with the package `duckdb`, which is not installed everywhere.
    #[tokio::test]
    async fn sqlite_agrees_with_memory() {
        for layout in [LoadOrder::TimeInterleaved, LoadOrder::QueueContiguous] {
            let workload = Workload::new(WorkloadOptions { jobs: 3000, layout, ..WorkloadOptions::default() });
            let clock = ManualClock::default();
            clock.set(workload.now());
            let memory = "memory".parse::<DatabaseConfig>().unwrap().connect(Arc::new(clock)).await.unwrap();
            memory.initialise_schema().await.unwrap();
            let targets: [Box<dyn Target>; 2] =
                [Box::new(Backend::new("memory", memory)), Peer::Sqlite.open(&workload).unwrap()];
            let comparison = Comparison { workload: &workload, kinds: QueryKind::all(), samples: 3 };
            match comparison.run(&targets, &|_, _, _| {}).await.unwrap() {
                ComparisonOutcome::Agreed(_) => {}
                ComparisonOutcome::Differed(differences) => panic!("{differences:#?}"),
            }
        }
    }
}
