//! `broadside run`: a load test of a store.

mod live;
mod plan;
mod summary;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broadside::load::record::RateSearchRecord;
use broadside::load::upstream::{ResultFile, file_names};
use broadside::load::{self, ArrivalKind, GeneratorOptions, RunOptions, RunRecord, SelectionKind};
use broadside::{Database, DatabaseConfig, SystemClock};
use clap::Args;
use tokio::sync::watch;

use super::arguments::Address;
use super::file::FileError;
use super::report::{self, Output};
use super::{Failure, Verdict, file, interrupt};
use live::LiveProgress;
use plan::Plan;
use summary::Summary;

/// Run a load test: sustained ingestion with concurrent reads.
///
/// Reads the YAML configuration of Armada's Broadside and takes the store through the phases schema, historical
/// jobs, warm-up, test, drain, census and tear-down. The store must be empty, or left by an earlier run with the
/// same historical jobs. Without --config the command runs for about a minute on the memory backend.
///
/// The load is open: jobs and reads arrive at the configured rates, independently of the store. Latency is
/// measured from the due time of a call to its completion; service time, the wait for a slot and the lag of the
/// load generator are recorded separately. A run is invalid if the p99 of the lag of a kind of call exceeds both
/// 250 ms and 20 % of the p99 of its latency. The table shows no latency of which the lag is more than 20 %. If the backlog is full, backlogDropStrategy delays jobs (block) or sheds them
/// (drop, error). A failed batch is sent again until it is stored. After the drain, the census compares the store
/// with the ingested jobs: the counts by state, the number of jobs with a run, and all fields of a sample.
///
/// The command writes two files to --results-dir. `broadside-result-….json` is for the viewer of Armada's
/// Broadside. `broadside-run-….json` is the complete record for `broadside report`: the configuration without
/// secrets, versions, machine, histograms (base64, HdrHistogram V2), one-second series, census and objectives.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct RunArgs {
    /// A configuration file. Repeatable; later files override earlier ones key by key.
    #[arg(long = "config", value_name = "FILE")]
    configs: Vec<PathBuf>,

    /// The backend, instead of databaseConfig: memory, postgres, clickhouse or a URL.
    #[arg(long, value_name = "BACKEND")]
    backend: Option<Address>,

    /// The directory of the result files, created if it does not exist.
    #[arg(long, value_name = "DIR", default_value = ".")]
    results_dir: PathBuf,

    /// Selection of the properties of jobs: drawn independently, or all derived from the job's number as in
    /// Armada's Broadside.
    #[arg(long, value_name = "independent|upstream", default_value_t)]
    selection: SelectionKind,

    /// Distribution of the arrivals: at equal intervals, or a Poisson process.
    #[arg(long, value_name = "uniform|poisson", default_value_t)]
    arrivals: ArrivalKind,

    /// Seed of the random number generators.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Timeout of a read: 500ms, 1m30s.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = load::parse_duration)]
    query_timeout: Duration,

    /// Search by bisection for the highest submission rate at which all objectives (`slo`) are met and the store
    /// keeps up. A trial that the load generator disturbs is repeated. A run five times as long confirms the result.
    #[arg(long)]
    find_rate: bool,

    /// Do not ask for confirmation of a large run.
    #[arg(long)]
    yes: bool,

    /// Only remove the data of an earlier run.
    #[arg(long)]
    teardown_only: bool,
}

const AFTER_HELP: &str = "\
Configuration keys in addition to those of Armada's Broadside:
  redelivery: 0.01        fraction of batches that are sent twice
  reads: FILE             recorded reads to replay, as JSON Lines: getJobs and getJobGroups calls as
                          in scenarios, each with its `time`
  slo: [page.p99 < 50ms]  objectives on page, groups, spec, runError, debugMessage or ingest, by
                          p50, p95, p99, mean, max or errors (ingest.errors < 0.1%), optionally
                          for one filter (page.annotations.p99 < 1s)
  lookoutQueryConfig      rates of the reads that Armada's Broadside does not make, by the keys
                          activeJobSetsQueriesPerHour, containsQueriesPerHour,
                          deepOffsetQueriesPerHour, ownerQueriesPerHour and poolQueriesPerHour;
                          and deepOffset (10000)

Examples:
  broadside run
  broadside run --config fixtures/load/postgres.yaml --results-dir results
  broadside run --config fixtures/load/clickhouse.yaml --arrivals poisson --yes
  broadside run --config fixtures/load/postgres.yaml --config fixtures/load/find-rate.yaml --find-rate

Exit codes:
  0    the run is complete, the census found no differences and all objectives are met
  1    the census found differences, or an objective is missed
  2    invalid configuration, a store with other data, no connection
  3    not sustained: less was stored or read than was due, the backlog grew until the end, more than 0.1 % of
       the operations failed without an objective on their errors, or the store stopped responding
  4    invalid: the load generator did not keep its schedule, or a search for this reason found no rate
  130  interrupted; the measurements up to the interruption are written";

pub async fn run(args: &RunArgs) -> Result<Verdict, Failure> {
    let backend = args.backend.as_ref().map(Address::config).transpose()?;
    let Some(plan) = Plan::read(&args.configs, backend)? else {
        return Ok(Verdict::Failed);
    };
    let options = RunOptions {
        generator: GeneratorOptions {
            selection: args.selection,
            arrivals: args.arrivals,
            seed: args.seed,
            ..GeneratorOptions::default()
        },
        query_timeout: args.query_timeout,
        recorded: plan.recorded_reads()?,
        ..RunOptions::default()
    };
    if args.teardown_only {
        let database = plan.database.connect(Arc::new(SystemClock)).await?;
        load::tear_down(&*database).await?;
        database.close().await?;
        return Ok(Verdict::Passed);
    }
    if !args.yes && !plan.confirmed(args.find_rate)? {
        return Ok(Verdict::Failed);
    }
    // A signal stops the load; the process ends after the results are written.
    let _guard = interrupt::guard()?;
    // Before the measurement, which may take hours.
    std::fs::create_dir_all(&args.results_dir).map_err(|error| FileError::new(&args.results_dir, error))?;
    let record = execute(&plan, &options, args.find_rate).await?;
    let files = write(&record, &plan, &args.results_dir)?;
    Output::default().line(Summary { record: &record, files: &files })?;
    verdict(&record)
}

/// Executes the plan. A signal stops the load and shortens the drain.
async fn execute(plan: &Plan, options: &RunOptions, find_rate: bool) -> Result<RunRecord, Failure> {
    let (stop, stopped) = watch::channel(false);
    let database = connect(&plan.database).await?;
    let live = Arc::new(LiveProgress::new(&plan.config));
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
        report::note("interrupted: waiting up to 10 s for outstanding calls");
        // Fails if the run has ended at the same time.
        let _ = stop.send(true);
        std::future::pending::<()>().await;
    };
    let record = tokio::select! {
        record = run => record,
        () = signal => unreachable!("the future of the signal never completes"),
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

/// Writes the result file and the record. Returns their paths.
fn write(record: &RunRecord, plan: &Plan, directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let paths = file_names(record.ended).map(|name| directory.join(name));
    let texts = [ResultFile::new(record, plan.config.upstream()).to_json()?, record.to_json()?];
    for (path, text) in paths.iter().zip(texts) {
        file::write(path, &text)?;
    }
    Ok(paths.to_vec())
}

/// Reports the reasons for the verdict.
fn verdict(record: &RunRecord) -> Result<Verdict, Failure> {
    for failure in &record.failures {
        report::problem(format!("{}: {}; the data are kept", failure.phase, failure.error));
    }
    let differences = record.census.iter().flat_map(|census| &census.differences);
    differences.for_each(|difference| report::problem(format!("census: {difference}")));
    if record.partial {
        return Err(Failure::Interrupted);
    }
    record.invalid.iter().for_each(|reason| report::problem(format!("invalid: {reason}")));
    if let Some(search) = &record.rate_search {
        return Ok(found(search, record.failures.is_empty()));
    }
    record.aborted.iter().for_each(|reason| report::problem(format!("ended early: {reason}")));
    record.unsustained.iter().for_each(|reason| report::problem(format!("not sustained: {reason}")));
    for objective in record.objectives.iter().filter(|objective| !objective.held) {
        let measured = objective.measured.as_deref().unwrap_or("too few samples");
        report::problem(format!("the objective {} is missed: {measured}", objective.objective));
    }
    Ok(match record.verdict() {
        load::Verdict::Passed if record.failures.is_empty() => Verdict::Passed,
        load::Verdict::Passed => Verdict::Failed,
        load::Verdict::NotSustained => Verdict::NotSustained,
        load::Verdict::Invalid => Verdict::Invalid,
        _ => Verdict::Differed,
    })
}

fn found(search: &RateSearchRecord, is_complete: bool) -> Verdict {
    search.inconclusive.iter().for_each(|reason| report::problem(format!("inconclusive: {reason}")));
    match search.highest {
        _ if !is_complete => Verdict::Failed,
        Some(_) => Verdict::Passed,
        None if search.inconclusive.is_some() => Verdict::Invalid,
        None => {
            report::problem("no rate met all objectives");
            Verdict::Differed
        }
    }
}
