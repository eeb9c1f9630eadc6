//! `broadside report`: runs of the load test, side by side.

mod differences;
mod html;
mod latency;
mod over_time;
mod summary;

use std::path::{Path, PathBuf};

use broadside::load::{RunRecord, worse};
use clap::Args;

use super::compare::tolerance;
use super::file::{self, FileError};
use super::report::Output;
use super::{Failure, Verdict, report};

/// Show runs of the load test side by side, in one page that needs no network.
///
/// Reads the records that `broadside run` wrote, one or several, and writes latency curves, rates, backlog and
/// errors over time, and tables with the ratios to the first run.
///
/// With a baseline it also compares. Of several runs, the ratios to the first one are compared with those of
/// the baseline's runs, which are given in the same order; of one run alone, its latencies, on the same
/// machine only. Compared are the p50 and the p99 of each kind of call that has samples enough,
/// whether each objective still holds, and the highest rate of --find-rate.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct ResultsArgs {
    /// The records: broadside-run-….json. The first is the one that the others are measured by.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// The page to write.
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,

    /// An earlier record to compare with, once for each FILE and in the same order: fail if something got worse.
    #[arg(long, value_name = "RUN")]
    baseline: Vec<PathBuf>,

    /// By what factor a ratio, a latency or a rate may be worse than that of the baseline.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.3, requires = "baseline", value_parser = tolerance)]
    tolerance: f64,
}

const AFTER_HELP: &str = "\
Examples:
  broadside report broadside-run-20260801-093000.json
  broadside report memory.json postgres.json --out report.html
  broadside report --baseline old-memory.json --baseline old-postgres.json memory.json postgres.json

Exit codes:
  0  the page is written, and nothing is worse than the baseline
  1  a ratio, a latency, a rate or an objective is worse than the baseline's
  2  a file cannot be read or written, or the baseline is of another load or of other backends";

pub fn run(args: &ResultsArgs) -> Result<Verdict, Failure> {
    let runs = read_all(&args.files)?;
    let baseline = read_all(&args.baseline)?;
    file::write(&args.out, &html::page(&runs)?)?;
    let mut output = Output::default();
    for (name, run) in names(&runs).iter().zip(&runs) {
        summary::problems(run).iter().for_each(|problem| report::warning(format!("{name}: {problem}")));
    }
    output.line(args.out.display())?;
    if baseline.is_empty() {
        return Ok(Verdict::Agreed);
    }
    let worse = worse(&baseline, &runs, args.tolerance)?;
    worse.iter().for_each(report::worse);
    Ok(if worse.is_empty() { Verdict::Agreed } else { Verdict::Differed })
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<RunRecord>, FileError> {
    let read = |path: &Path| RunRecord::from_json(&file::read(path)?).map_err(|error| FileError::new(path, error));
    paths.iter().map(|path| read(path)).collect()
}

/// The names of runs: their backends, and a number where a backend comes again.
fn names(runs: &[RunRecord]) -> Vec<String> {
    let backend = |at: usize| runs[at].store.backend.as_str();
    let name = |at: usize| match (0..at).filter(|&other| backend(other) == backend(at)).count() {
        0 => backend(at).to_owned(),
        before => format!("{} {}", backend(at), before + 1),
    };
    (0..runs.len()).map(name).collect()
}
