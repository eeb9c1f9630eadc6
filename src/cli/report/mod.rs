//! `broadside report`: reports and comparisons of load test runs.

mod activity;
mod differences;
mod html;
mod latency;
mod over_time;
mod summary;

use std::path::{Path, PathBuf};

use broadside::load::{RunRecord, merge, regressions};
use clap::Args;

use super::compare::tolerance;
use super::file::{self, FileError};
use super::run::{Summary, exit};
use super::{ExitStatus, Failure, messages, numbered};

/// Write a report of one or several load test runs, and compare them with a baseline.
///
/// Reads the records that `broadside run` writes. The report is an HTML file without external references. It has
/// latency distributions, rates, backlog and errors over time with the phases, the actions and the server's
/// checkpoints, vacuums and merges, the activity of the server and of the load driver over time, tables with the
/// ratios to the first run, and the differences between the configurations. Latency is measured from the due
/// time of a call. A call that had not completed at the end counts with the time until then, and statistics that
/// depend on such calls are marked ≥. Runs that are invalid or partial, or whose census found differences, are
/// marked at the top.
///
/// With --merge, the files are the records of all shares of one load (`broadside run --share`), which are added to one
/// run: counts and histograms are the sums, also in each second. The command evaluates its objectives, prints its
/// summary, and exits as `broadside run` does.
///
/// With --baseline, given once for each FILE in the same order, the command exits with 1 if a measurement is
/// worse by more than --tolerance: for several runs, the ratio of the p50 or p99 of a kind of call to that of
/// the first run; for a single run, its p50 or p99, if both runs are from the same machine; for each run, an
/// objective that the baseline met, a load that the baseline sustained, and the highest rate of --find-rate. A
/// percentile is worse if its 95 % interval is. The configuration of the load and the backends must be the same, and
/// the runs must be valid and complete.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct ReportArgs {
    /// The records (broadside-run-….json). Ratios are relative to the first.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// The report to write.
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,

    /// Add the records, which are those of all shares of one load, to one run.
    #[arg(long)]
    merge: bool,

    /// Also write the sum of --merge as a record.
    #[arg(long, value_name = "FILE", requires = "merge")]
    merged: Option<PathBuf>,

    /// The record of an earlier run to compare with, once for each FILE in the same order.
    #[arg(long, value_name = "RUN")]
    baseline: Vec<PathBuf>,

    /// Factor by which a ratio, a latency or a rate may be worse than in the baseline.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.3, requires = "baseline", value_parser = tolerance)]
    tolerance: f64,
}

const AFTER_HELP: &str = "\
Examples:
  broadside report broadside-run-20260801-093000.json
  broadside report memory.json postgres.json --out report.html
  broadside report --merge --merged load.json share-1.json share-2.json
  broadside report --baseline old-memory.json --baseline old-postgres.json memory.json postgres.json

Exit codes:
  0  the report is written, and no measurement is worse than in the baseline
  1  a ratio, latency, rate or objective is worse than in the baseline, or the load is no longer sustained
  2  a file cannot be read or written, the runs cannot be compared with the baseline, or the records are not those
     of all shares of one load
  With --merge also 1, 3 and 4 as `broadside run`, and 2 if a share was interrupted or a step after the load failed";

pub fn run(args: &ReportArgs) -> Result<ExitStatus, Failure> {
    let mut runs = read_all(&args.files)?;
    if args.merge {
        runs = vec![merge(args.files.iter().map(|path| path.display().to_string()).zip(runs))?];
    }
    let baseline = read_all(&args.baseline)?;
    // Runs that cannot be compared leave the file unchanged.
    let regressions = if baseline.is_empty() { Vec::new() } else { regressions(&baseline, &runs, args.tolerance)? };
    file::write(&args.out, &html::page(&runs).into_string())?;
    if let (Some(path), [sum]) = (&args.merged, &runs[..]) {
        file::write(path, &sum.to_json()?)?;
    }
    for (name, run) in names(&runs).iter().zip(&runs) {
        summary::problems(run).iter().for_each(|problem| messages::warning(format!("{name}: {problem}")));
    }
    let mut status = ExitStatus::Passed;
    match &runs[..] {
        [sum] if args.merge => {
            let files: Vec<_> = args.merged.iter().chain([&args.out]).map(PathBuf::as_path).collect();
            messages::output(Summary { record: sum, files: &files })?;
            status = exit(sum);
        }
        _ => messages::output(args.out.display())?,
    }
    regressions.iter().for_each(messages::regression);
    Ok(if regressions.is_empty() { status } else { status.max(ExitStatus::Differed) })
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<RunRecord>, FileError> {
    let read = |path: &Path| RunRecord::from_json(&file::read(path)?).map_err(|error| FileError::new(path, error));
    paths.iter().map(|path| read(path)).collect()
}

/// The names of the runs: their backends.
fn names(runs: &[RunRecord]) -> Vec<String> {
    numbered(runs.iter().map(|run| run.store.backend.as_str()))
}
