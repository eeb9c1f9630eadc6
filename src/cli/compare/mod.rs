//! `broadside compare`: the same jobs and queries on several backends.

mod files;
mod html;
mod table;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use broadside::compare::{
    Activity, Backend, Comparison, ComparisonOutcome, Results, Target, check_baseline, regressions,
};
use broadside::workload::{Layout, QueryKind, Workload, WorkloadOptions};
use broadside::{DatabaseConfig, ManualClock};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use super::arguments::Address;
use super::report::Output;
use super::scratch::{reach, with_scratches};
use super::{Failure, Verdict, progress, report};
use files::{Baseline, OutputDirectory};
use table::ResultsTable;

/// Compare backends: the same jobs and queries on each, every answer checked.
///
/// Loads the same generated jobs into an empty store of its own on each backend and runs the
/// same queries on all of them. Only if every answer is the same on all backends (ties may come in any
/// order) does it print what they took, in one table: the times within which 50, 95 and 99 of
/// 100 runs ended, and how many times as long as the first backend each of the others took.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct CompareArgs {
    /// A backend to compare: memory, postgres, clickhouse or a URL. The first is the one that the others are
    /// measured by; it is best the quickest.
    #[arg(long = "backend", value_name = "BACKEND", default_value = "memory")]
    backends: Vec<Address>,

    /// Another engine to compare with, in this process or beside it.
    #[cfg(feature = "peers")]
    #[arg(long = "peer", value_enum, value_name = "PEER")]
    peers: Vec<Peer>,

    /// How many jobs to generate.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(..=MOST_JOBS))]
    jobs: u64,

    /// Which of all workloads of this size to generate.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,

    /// How the ids of jobs, which ascend in the order of loading, lie to their queues.
    #[arg(long, value_enum, default_value_t = LayoutArg::TimeInterleaved)]
    layout: LayoutArg,

    /// How often to run each query at most, with as many values; slow ones are run less often.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,

    /// Group by none and by all aggregates alone, and not by every combination of them.
    #[arg(long)]
    brief: bool,

    /// Where to write results.json and report.html; the directory is made. A results.json that is also the
    /// baseline is kept if the comparison fell behind it: then the files are results.failed.json and
    /// report.failed.html.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// A results.json of an earlier comparison of the same jobs: fail if the first backend fell behind another
    /// one since. Only ratios within each comparison are held against each other, never times.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,

    /// By what factor a ratio may be worse than that of the baseline.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.3, requires = "baseline", value_parser = tolerance)]
    tolerance: f64,
}

/// Far more than any store holds.
const MOST_JOBS: u64 = 1_000_000_000;

const AFTER_HELP: &str = "\
Examples:
  broadside compare --jobs 20000 --backend memory --backend postgres --backend clickhouse
  broadside compare --jobs 1000000 --backend memory --backend postgres --out results
  broadside compare --backend memory --backend postgres --baseline results/results.json

Exit codes:
  0  every answer is the same, and no ratio is worse than the baseline's
  1  an answer differs, or a ratio is worse
  2  a backend cannot be reached, the baseline cannot be read or is of other jobs, or the results cannot be written";

/// [`Layout`] as an argument.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LayoutArg {
    /// By submission, all queues mixed: how a cluster fills its Lookout.
    TimeInterleaved,
    /// Queue after queue: how a bulk load or a migration fills one.
    QueueContiguous,
}

impl From<LayoutArg> for Layout {
    fn from(layout: LayoutArg) -> Self {
        match layout {
            LayoutArg::TimeInterleaved => Self::TimeInterleaved,
            LayoutArg::QueueContiguous => Self::QueueContiguous,
        }
    }
}

/// An engine that is no backend.
#[cfg(feature = "peers")]
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Peer {
    /// SQLite in memory.
    Sqlite,
    /// DuckDB in memory, on one thread; it needs python3 with the package duckdb.
    Duckdb,
}

#[cfg(feature = "peers")]
fn open_peers(args: &CompareArgs, workload: &Workload) -> broadside::Result<Vec<Box<dyn Target>>> {
    use broadside::compare::peer::{DuckDb, Sqlite};

    let open = |peer: &Peer| -> broadside::Result<Box<dyn Target>> {
        Ok(match peer {
            Peer::Sqlite => Box::new(Sqlite::new(workload.now())?),
            Peer::Duckdb => Box::new(DuckDb::new(workload.now())?),
        })
    };
    args.peers.iter().map(open).collect()
}

#[cfg(not(feature = "peers"))]
fn open_peers(_args: &CompareArgs, _workload: &Workload) -> broadside::Result<Vec<Box<dyn Target>>> {
    Ok(Vec::new())
}

/// A factor by which something may be worse.
pub fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor >= 1.0 => Ok(factor),
        _ => Err("a factor of at least 1".to_owned()),
    }
}

pub async fn run(args: &CompareArgs) -> Result<Verdict, Failure> {
    let configs = args.backends.iter().map(Address::config).collect::<broadside::Result<Vec<_>>>()?;
    let options =
        WorkloadOptions { seed: args.seed, jobs: args.jobs, layout: args.layout.into(), ..WorkloadOptions::default() };
    let workload = Workload::new(options.clone());
    let kinds = if args.brief { QueryKind::essential() } else { QueryKind::all() };
    let comparison = Comparison { workload: &workload, kinds, samples: args.samples as usize };
    let peers = open_peers(args, &workload)?;
    // Whatever could waste a long comparison is checked before it.
    let baseline = args.baseline.as_deref().map(Baseline::read).transpose()?;
    if let Some(baseline) = &baseline {
        let names = names(&configs);
        let names = names.iter().map(String::as_str).chain(peers.iter().map(|peer| peer.name()));
        check_baseline(&baseline.results, &options, names)?;
    }
    let directory = args.out.as_deref().map(OutputDirectory::prepare).transpose()?;
    reach(&configs).await?;
    let results = match compare(&comparison, &configs, peers).await? {
        ComparisonOutcome::Agreed(results) => results,
        ComparisonOutcome::Differed(differences) => {
            differences.iter().for_each(report::answers_differ);
            return Ok(Verdict::Differed);
        }
    };
    Output::default().line(ResultsTable(&results))?;
    let fell_behind = match &baseline {
        Some(baseline) if hold_against(&baseline.results, &results, args.tolerance)? == Verdict::Differed => {
            Some(baseline)
        }
        _ => None,
    };
    if let Some(directory) = directory {
        match fell_behind {
            None => directory.write(&results)?,
            Some(baseline) => {
                if let Some(kept) = directory.write_failed(&results, baseline)? {
                    report::kept(&kept);
                }
            }
        }
    }
    Ok(if fell_behind.is_some() { Verdict::Differed } else { Verdict::Agreed })
}

/// Runs the comparison on a store of its own on each backend.
async fn compare(
    comparison: &Comparison<'_>,
    configs: &[DatabaseConfig],
    peers: Vec<Box<dyn Target>>,
) -> Result<ComparisonOutcome, Failure> {
    let clock = Arc::new(ManualClock::default());
    clock.set(comparison.workload.now());
    with_scratches(configs, &clock, async |databases| {
        let mut targets: Vec<Box<dyn Target>> = Vec::new();
        for (name, database) in names(configs).into_iter().zip(databases) {
            database.initialise_schema().await?;
            targets.push(Box::new(Backend::new(name, Arc::clone(database))));
        }
        targets.extend(peers);
        let bar = ActivityBar::default();
        Ok(comparison.run(&targets, &|stage, done, total| bar.show(stage, done, total)).await?)
    })
    .await
}

/// The bar of the stage that a comparison is at.
#[derive(Default)]
struct ActivityBar(Mutex<Option<(&'static str, ProgressBar)>>);

impl ActivityBar {
    fn show(&self, stage: Activity, done: u64, total: u64) {
        let work = match stage {
            Activity::Ingesting => "loading jobs",
            Activity::Querying => "running queries",
        };
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, old)) = current.take_if(|(name, _)| *name != work) {
            old.finish_and_clear();
        }
        let (_, bar) = current.get_or_insert_with(|| (work, progress::bar(work, total)));
        bar.set_position(done);
        if done == total {
            bar.finish_and_clear();
        }
    }
}

/// The backends' names; those that come again have a number.
pub(super) fn names(configs: &[DatabaseConfig]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for config in configs {
        let name = config.backend().name();
        let before = names.iter().filter(|other| other.split(' ').next() == Some(name)).count();
        names.push(if before == 0 { name.to_owned() } else { format!("{name} {}", before + 1) });
    }
    names
}

fn hold_against(baseline: &Results, results: &Results, tolerance: f64) -> Result<Verdict, Failure> {
    let regressions = regressions(baseline, results, tolerance)?;
    regressions.iter().for_each(report::worse);
    Ok(if regressions.is_empty() { Verdict::Agreed } else { Verdict::Differed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_that_come_again_have_names_of_their_own() {
        let configs = ["memory"; 3].map(|backend| backend.parse().unwrap());
        assert_eq!(names(&configs), ["memory", "memory 2", "memory 3"]);
    }

    #[test]
    fn a_tolerance_is_a_factor() {
        assert_eq!(tolerance("1.5"), Ok(1.5));
        for text in ["0.9", "NaN", "inf", "x", ""] {
            assert!(tolerance(text).is_err(), "{text}");
        }
    }
}
