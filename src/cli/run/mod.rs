//! `broadside run`: a load test of a store.

mod live;
mod plan;
mod summary;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broadside::load::upstream::{ResultFile, file_names};
use broadside::load::{self, ArrivalKind, Draws, RunOptions, RunRecord, SelectionKind};
use broadside::{Database, DatabaseConfig, SystemClock};
use clap::Args;
use tokio::sync::watch;

use super::file::FileError;
use super::report::{self, Output};
use super::{Failure, Verdict, file, interrupt};
use live::Live;
use plan::Plan;
use summary::Summary;

/// Test a store under sustained load: a whole cluster's ingestion, with people asking all the while.
///
/// Reads the configuration files of Armada's Broadside. Jobs arrive at the configured rate whatever the store does, live
/// their lives and end; reads of each kind come at rates of their own. Latency runs from the time at which a call was
/// due. When all has been stored, the store is compared with what was sent.
///
/// Without --config it runs a minute on the memory backend.
///
/// Writes two files: `broadside-result-….json`, which the viewer of Armada's Broadside opens, and
/// `broadside-run-….json` with all that was measured.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct RunArgs {
    /// A configuration file; of several, later ones prevail key by key.
    #[arg(long = "config", value_name = "FILE")]
    configs: Vec<PathBuf>,

    /// Where to run, in place of the configuration's store: memory, postgres, clickhouse or a URL.
    // Kept as text: clap shows a value that it cannot parse, and a URL may hold a password.
    #[arg(long, value_name = "BACKEND")]
    backend: Option<String>,

    /// Where the files of results go.
    #[arg(long, value_name = "DIR", default_value = ".")]
    results_dir: PathBuf,

    /// How jobs are dealt out: each property by itself, or all by the job's number as upstream does.
    #[arg(long, value_name = "independent|upstream", default_value_t)]
    selection: SelectionKind,

    /// How arrivals are spread over time.
    #[arg(long, value_name = "uniform|poisson", default_value_t)]
    arrivals: ArrivalKind,

    /// The seed of every random draw.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// The deadline of a read: 500ms, 1m30s.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = load::parse_duration)]
    query_timeout: Duration,

    /// Search for the highest submission rate at which every objective (`slo`) holds.
    #[arg(long)]
    find_rate: bool,

    /// Do not ask before a large run.
    #[arg(long)]
    yes: bool,

    /// Only remove the data that an earlier run left.
    #[arg(long)]
    teardown_only: bool,
}

const AFTER_HELP: &str = "\
Examples:
  broadside run
  broadside run --config fixtures/load/postgres.yaml --results-dir results
  broadside run --config fixtures/load/clickhouse.yaml --arrivals poisson --yes
  broadside run --config fixtures/load/postgres.yaml --config fixtures/load/find-rate.yaml --find-rate

Exit codes:
  0    the run went to its end, nothing was lost and every objective held
  1    the store does not hold what was sent, or an objective did not hold
  2    a wrong configuration, a store that is not Broadside's or holds other jobs, no connection
  130  interrupted; what was measured until then is written";

pub async fn run(args: &RunArgs) -> Result<Verdict, Failure> {
    let Some(plan) = Plan::read(&args.configs, args.backend.as_deref())? else {
        return Ok(Verdict::Failed);
    };
    let options = RunOptions {
        draws: Draws { selection: args.selection, arrivals: args.arrivals, seed: args.seed },
        query_timeout: args.query_timeout,
        recorded: plan.recorded_reads()?,
        ..RunOptions::default()
    };
    if args.teardown_only {
        let database = plan.database.connect(Arc::new(SystemClock)).await?;
        load::tear_down(&*database).await?;
        database.close().await?;
        return Ok(Verdict::Agreed);
    }
    if !args.yes && !plan.confirmed(args.find_rate)? {
        return Ok(Verdict::Failed);
    }
    // A signal ends the load, and the process when the results are written.
    let _hold = interrupt::hold()?;
    // Before hours of measurement, not after them.
    std::fs::create_dir_all(&args.results_dir).map_err(|error| FileError::new(&args.results_dir, error))?;
    let record = execute(&plan, &options, args.find_rate).await?;
    let files = write(&record, &plan, &args.results_dir)?;
    Output::default().line(Summary { record: &record, files: &files })?;
    verdict(&record)
}

/// Runs the plan until its end, or until a signal comes and the drain after it is over.
async fn execute(plan: &Plan, options: &RunOptions, find_rate: bool) -> Result<RunRecord, Failure> {
    let (stop, stopped) = watch::channel(false);
    let database = connect(&plan.database).await?;
    let live = Arc::new(Live::new(&plan.config));
    let config = &plan.config;
    let run = async {
        if find_rate {
            load::find_rate(database.clone(), config, options, live.clone(), stopped).await
        } else {
            load::run(database.clone(), config, options, live.clone(), stopped).await
        }
    };
    let signal = async {
        interrupt::requested().await;
        report::note("interrupted: what was due completes for up to 10 s");
        // The run may have ended just now.
        let _ = stop.send(true);
        std::future::pending::<()>().await;
    };
    let record = tokio::select! {
        record = run => record,
        () = signal => unreachable!("the signal only stops the run"),
    };
    live.finish();
    let closed = database.close().await;
    let record = record?;
    closed?;
    Ok(record)
}

async fn connect(config: &DatabaseConfig) -> Result<Arc<dyn Database>, Failure> {
    tokio::select! {
        database = config.connect(Arc::new(SystemClock)) => Ok(database?),
        () = interrupt::requested() => Err(Failure::Interrupted),
    }
}

/// Writes the files of a run.
fn write(record: &RunRecord, plan: &Plan, directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let paths = file_names(record.ended).map(|name| directory.join(name));
    let texts = [ResultFile::new(record, plan.config.upstream()).to_json()?, record.to_json()?];
    for (path, text) in paths.iter().zip(texts) {
        file::write(path, &text)?;
    }
    Ok(paths.to_vec())
}

fn verdict(record: &RunRecord) -> Result<Verdict, Failure> {
    let differences = record.census.iter().flat_map(|census| &census.differences);
    let mut verdict = Verdict::Agreed;
    for difference in differences {
        report::problem(format!("the store differs from what was sent: {difference}"));
        verdict = Verdict::Differed;
    }
    if record.partial {
        return Err(Failure::Interrupted);
    }
    let searched = record.rate_search.is_some();
    for objective in record.objectives.iter().filter(|objective| !objective.held && !searched) {
        let measured = objective.measured.as_deref().unwrap_or("too few samples");
        report::problem(format!("the objective {} did not hold: {measured}", objective.objective));
        verdict = Verdict::Differed;
    }
    if record.rate_search.as_ref().is_some_and(|search| search.highest.is_none()) {
        report::problem("there is no rate at which every objective holds");
        verdict = Verdict::Differed;
    }
    Ok(verdict)
}
