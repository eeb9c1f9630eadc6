//! `broadside compare`: the same jobs and queries on several backends.

mod files;
mod html;
mod table;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use broadside::compare::{
    Backend, Comparison, ComparisonOutcome, Settings, Stage, Target, check_baseline, regressions,
};
use broadside::workload::{LoadOrder, QueryKind, Workload, WorkloadOptions};
use broadside::{DatabaseConfig, ManualClock};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use super::arguments::Address;
use super::scratch::{check_reachable, with_scratches};
use super::{ExitStatus, Failure, fill, messages, numbered, progress};
use files::{Baseline, OutputDirectory};
use table::{NOTE, table_of};

/// Compare the results and the speed of backends on the same jobs and queries.
///
/// Loads the same generated jobs into a scratch store on each backend and runs the same ingestion batches and
/// queries on all of them: inserts, updates and complete lifecycles of jobs; pages by each sort order and
/// filter; groups by each field and aggregate, repeated and after writes; single records. The backends take
/// turns, in each of which one runs up to 10 batches or queries of a kind. All execute the same queries, equally
/// often. After the load, the statistics of the planner are updated where a backend has them.
///
/// The results are compared first, except for the order of ties. If they differ, the command reports the
/// differences and no times. Otherwise it prints a table with the number of executions (n), the p50, p95 and
/// p99 of each backend, and the ratio (÷) of its median to that of the first backend with a 95 % interval. p95
/// requires 20 executions, p99 requires 100, an interval requires five turns. Times are specific to the machine;
/// compare ratios.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct CompareArgs {
    /// A backend to compare: memory, postgres, clickhouse or a URL. Repeatable. Ratios are relative to the
    /// first.
    #[arg(long = "backend", value_name = "BACKEND", default_value = "memory")]
    backends: Vec<Address>,

    /// Number of jobs to generate.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(..=fill::MAX_JOBS))]
    jobs: u64,

    /// Seed of the generated jobs.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,

    /// Order in which the generated jobs get ids and are loaded.
    #[arg(long, value_enum, default_value_t = LayoutArg::TimeInterleaved)]
    layout: LayoutArg,

    /// Maximum number of executions of each kind of query, with different values. Slow kinds are executed less
    /// often, on all backends alike.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,

    /// Run group queries only without aggregates and with all of them, not with each combination.
    #[arg(long)]
    brief: bool,

    /// Directory for results.json and report.html, created if it does not exist. If results.json is the baseline
    /// and the comparison finds a regression, the baseline is kept and the files are named results.failed.json
    /// and report.failed.html.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Results of an earlier comparison of the same jobs. Exit with 1 if a ratio of the first backend to another
    /// is worse by more than --tolerance: the whole interval of the ratio is below that of the baseline. Times are
    /// not compared, nor are ratios without an interval, such as those of the load.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,

    /// Factor by which a ratio may be worse than in the baseline.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.3, requires = "baseline", value_parser = tolerance)]
    tolerance: f64,
}

const AFTER_HELP: &str = "\
Examples:
  broadside compare --jobs 20000 --backend memory --backend postgres --backend clickhouse
  broadside compare --jobs 1000000 --backend memory --backend postgres --out results
  broadside compare --backend memory --backend postgres --baseline results/results.json

Exit codes:
  0  all results are equal, and no ratio is worse than in the baseline
  1  a result differs, or a ratio is worse
  2  a backend cannot be reached, a file cannot be read or written, or the baseline has other jobs";

/// [`LoadOrder`] as a command line value.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LayoutArg {
    /// By submission time, interleaving all queues, as in a running cluster.
    TimeInterleaved,
    /// One queue after another, as in a bulk load or migration.
    QueueContiguous,
}

impl From<LayoutArg> for LoadOrder {
    fn from(layout: LayoutArg) -> Self {
        match layout {
            LayoutArg::TimeInterleaved => Self::TimeInterleaved,
            LayoutArg::QueueContiguous => Self::QueueContiguous,
        }
    }
}

/// Parses a tolerance: a finite factor of at least 1.
pub fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor >= 1.0 => Ok(factor),
        _ => Err("must be a factor of at least 1".to_owned()),
    }
}

pub async fn run(args: &CompareArgs) -> Result<ExitStatus, Failure> {
    let configs = args.backends.iter().map(Address::config).collect::<broadside::Result<Vec<_>>>()?;
    let options =
        WorkloadOptions { seed: args.seed, jobs: args.jobs, layout: args.layout.into(), ..WorkloadOptions::default() };
    let workload = Workload::new(options.clone());
    let kinds = if args.brief { QueryKind::essential() } else { QueryKind::all() };
    let settings = Settings { workload: options, samples: args.samples as usize };
    let comparison = Comparison { workload: &workload, kinds, samples: settings.samples };
    // Inputs and outputs are checked before a comparison that may take hours.
    let baseline = args.baseline.as_deref().map(Baseline::read).transpose()?;
    if let Some(baseline) = &baseline {
        let names = names(&configs);
        check_baseline(&baseline.results, &settings, names.iter().map(String::as_str))?;
    }
    let directory = args.out.as_deref().map(OutputDirectory::check).transpose()?;
    check_reachable(&configs).await?;
    let results = match compare(&comparison, &configs).await? {
        ComparisonOutcome::Agreed(results) => results,
        ComparisonOutcome::Differed(differences) => {
            differences.iter().for_each(messages::answers_differ);
            return Ok(ExitStatus::Differed);
        }
    };
    messages::output(format_args!("{}\n{NOTE}", table_of(&results)))?;
    let mut regressed_from = None;
    if let Some(baseline) = &baseline {
        let regressions = regressions(&baseline.results, &results, args.tolerance)?;
        regressions.iter().for_each(messages::regression);
        regressed_from = Some(baseline).filter(|_| !regressions.is_empty());
    }
    if let Some(directory) = directory {
        directory.write(&results, regressed_from)?;
    }
    Ok(if regressed_from.is_some() { ExitStatus::Differed } else { ExitStatus::Passed })
}

/// Runs the comparison on a scratch store of each backend.
async fn compare(comparison: &Comparison<'_>, configs: &[DatabaseConfig]) -> Result<ComparisonOutcome, Failure> {
    let clock = Arc::new(ManualClock::default());
    clock.set(comparison.workload.now());
    with_scratches(configs, &clock, async |databases| {
        let mut targets: Vec<Box<dyn Target>> = Vec::new();
        for (name, database) in names(configs).into_iter().zip(databases) {
            database.initialise_schema().await?;
            targets.push(Box::new(Backend::new(name, Arc::clone(database))));
        }
        let bar = ActivityBar::default();
        Ok(comparison.run(&targets, &|stage, done, total| bar.show(stage, done, total)).await?)
    })
    .await
}

/// The progress bar of the current stage.
#[derive(Default)]
struct ActivityBar(Mutex<Option<(&'static str, ProgressBar)>>);

impl ActivityBar {
    fn show(&self, stage: Stage, done: u64, total: u64) {
        let message = match stage {
            Stage::Ingesting => "loading jobs",
            Stage::Querying => "running queries",
        };
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, old)) = current.take_if(|(other, _)| *other != message) {
            old.finish_and_clear();
        }
        let (_, bar) = current.get_or_insert_with(|| (message, progress::bar(message, total)));
        bar.set_position(done);
        if done == total {
            bar.finish_and_clear();
        }
    }
}

/// The names of the backends.
pub(super) fn names(configs: &[DatabaseConfig]) -> Vec<String> {
    numbered(configs.iter().map(|config| config.backend().name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_backends_are_numbered() {
        let configs = ["memory"; 3].map(|backend| backend.parse().unwrap());
        assert_eq!(names(&configs), ["memory", "memory 2", "memory 3"]);
    }

    #[test]
    fn a_tolerance_is_a_finite_factor_of_at_least_1() {
        assert_eq!(tolerance("1.5"), Ok(1.5));
        for text in ["0.9", "NaN", "inf", "x", ""] {
            assert!(tolerance(text).is_err(), "{text}");
        }
    }
}
