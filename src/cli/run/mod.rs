//! `broadside run`: a load test of a store.

mod files;
mod live;
mod plan;
mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use broadside::load::record::{Phase, RateSearchRecord};
use broadside::load::upstream::result_file;
use broadside::load::{self, ArrivalKind, GeneratorOptions, LoadTest, RunOptions, RunRecord, SelectionKind, Share};
use broadside::{BackendKind, Clock, Database, DatabaseConfig, SystemClock};
use clap::Args;
use tokio::sync::watch;

use super::arguments::Address;
use super::messages;
use super::{ExitStatus, Failure, interrupt};
use files::Files;
use live::LiveProgress;
use plan::Plan;
pub use summary::Summary;

/// Run a load test: sustained ingestion with concurrent reads.
///
/// Reads the YAML configuration of Armada's Broadside and takes the store through the phases schema, historical
/// jobs, warm-up, test, drain, census and tear-down. The store must be empty, or left by an earlier run with the
/// same historical jobs. Without --config the command runs for about a minute on the memory backend.
///
/// The load is open: jobs and reads arrive at the configured rates, independently of the store. Latency is
/// measured from the due time of a call to its completion; service time, the wait for a slot and the lag of the
/// load generator are recorded separately. The table shows no latency of which the lag is more than 20 %. A run is
/// invalid if the p99 of the lag of a kind of call exceeds both 250 ms and 20 % of the p99 of its latency, if the load
/// generator computed or waited for a core 90 % of the test, or if the process used 95 % of all cores and the
/// backend is a server. If the backlog is full, backlogDropStrategy delays jobs (block) or sheds them (drop,
/// error). A failed batch is sent again until it is stored. After the drain, the census compares the store with the
/// ingested jobs: the counts by state, the number of jobs with a run, and all fields of a sample.
///
/// With --share, several processes on one or several machines generate one load. They wait for each other for up to
/// 60 s and begin together. Each has the workers and the concurrent reads of the configuration. The last share, N/N,
/// initialises the store and creates the historical jobs, and after the load waits for the others, counts the jobs of
/// the store and tears it down; if a share has not ended, the data stay. A store without tables gets them before the
/// shares agree, any other store afterwards. `broadside report --merge` adds the records and evaluates the
/// objectives. After a killed process, start all shares again.
///
/// The command writes two files to --results-dir. `broadside-result-….json` is for the viewer of Armada's
/// Broadside. `broadside-run-….json` is the complete record for `broadside report`: the configuration without
/// secrets, versions, machine, histograms (base64, HdrHistogram V2), one-second series, the activity of the server
/// and of the load driver, census and objectives. On PostgreSQL only members of pg_read_all_stats read all of the
/// activity.
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
    #[arg(long, value_enum, default_value_t)]
    selection: SelectionKind,

    /// Distribution of the arrivals: at equal intervals, or a Poisson process.
    #[arg(long, value_enum, default_value_t)]
    arrivals: ArrivalKind,

    /// Seed of the random number generators.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Timeout of a read: 500ms, 1m30s.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = load::parse_duration)]
    query_timeout: Duration,

    /// Maximum time after the test in which outstanding calls complete, and again in which the other shares end.
    #[arg(long, value_name = "DURATION", default_value = "300s", value_parser = load::parse_duration)]
    drain: Duration,

    /// Generate one of N equal parts of the load, such as 2/4. Another process runs each of the others on the same
    /// store, with the same configuration and options.
    #[arg(long, value_name = "I/N", conflicts_with_all = ["find_rate", "teardown_only"])]
    share: Option<Share>,

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
                          p50, p95, p99, p99.9, mean, max or errors (ingest.errors < 0.1%), optionally
                          for one filter (page.annotations.p99 < 1s)
  stages                  parts of the test, [{duration: 5m, rate: 0.5}, …], each with a factor of
                          all rates; the durations sum to testDuration
  abortAfter: 30s         time without a stored batch after which a run with failing batches stops;
                          0 for no limit
  abortOn                 objectives as in slo that end the run as soon as they cannot be met
  lookoutQueryConfig      rates of the reads that Armada's Broadside does not make, by the keys
                          activeJobSetsQueriesPerHour, containsQueriesPerHour,
                          deepOffsetQueriesPerHour, ownerQueriesPerHour and poolQueriesPerHour;
                          and deepOffset (10000)

Environment variables override the files: ARMADA_INGESTIONCONFIG_BATCHSIZE=1000,
ARMADA_DATABASECONFIG_POSTGRES_PASSWORD=… (if a file has databaseConfig.postgres).

The keys of databaseConfig.postgres are those of pgx, Armada's driver, in its units. Other keys are
settings of the server, in its units: statement_timeout: 30000 is 30 s.

Examples:
  broadside run
  broadside run --config fixtures/load/postgres.yaml --results-dir results
  broadside run --config fixtures/load/clickhouse.yaml --arrivals poisson --yes
  broadside run --config fixtures/load/postgres.yaml --share 1/2  # and --share 2/2 on another machine
  broadside run --config fixtures/load/postgres.yaml --config fixtures/load/find-rate.yaml --find-rate

Exit codes:
  0    the run is complete, the census found no differences and all objectives are met
  1    the census found differences, or an objective is missed
  2    invalid configuration, a store with other data, no connection
  3    not sustained: less was stored or read than was due, the backlog grew until the end, more than 0.1 % of
       the operations failed without an objective on their errors, or the run ended early (abortAfter, abortOn)
  4    invalid: the load generator did not keep its schedule, or a search for this reason found no rate
  130  interrupted; the measurements up to the interruption are written";

pub async fn run(args: &RunArgs) -> Result<ExitStatus, Failure> {
    let backend = args.backend.as_ref().map(Address::config).transpose()?;
    let Some(plan) = Plan::read(&args.configs, backend)? else {
        return Ok(ExitStatus::Failed);
    };
    if args.share.is_some_and(|share| share.parts() > 1) && plan.database.backend() == BackendKind::Memory {
        return Err(Failure::message("--share requires a server: the memory backend is the store of one process"));
    }
    let options = RunOptions {
        generator: GeneratorOptions {
            selection: args.selection,
            arrivals: args.arrivals,
            seed: args.seed,
            share: args.share.unwrap_or_default(),
        },
        query_timeout: args.query_timeout,
        drain: args.drain,
        recorded: plan.recorded_reads()?,
        ..RunOptions::default()
    };
    if args.teardown_only {
        let database = plan.database.connect(Arc::new(SystemClock)).await?;
        load::tear_down(&*database).await?;
        database.close().await?;
        return Ok(ExitStatus::Passed);
    }
    if !args.yes && !plan.confirmed(args.find_rate)? {
        return Ok(ExitStatus::Failed);
    }
    // A signal stops the load; the process ends after the results are written.
    let _guard = interrupt::Guard::of_results()?;
    let files = Arc::new(Files::create(&args.results_dir, SystemClock.now())?);
    if let Some(share) = args.share.filter(|share| share.parts() > 1) {
        messages::note(format!("share {share}: waiting up to {:?} for the others", options.share_wait));
    }
    let record = execute(&plan, &options, args.find_rate, &files).await?;
    let written = files.finish(&result_file(&record), &record.to_json()?);
    messages::output(Summary { record: &record, files: &files.written() })?;
    let status = report_problems(&record);
    // An error of the files must not hide the result.
    written?;
    status
}

/// Executes the plan. A signal stops the load and shortens the drain.
async fn execute(plan: &Plan, options: &RunOptions, find_rate: bool, files: &Arc<Files>) -> Result<RunRecord, Failure> {
    let (stop, stopped) = watch::channel(false);
    let database = connect(&plan.database).await?;
    let live = Arc::new(LiveProgress::new(&plan.config, files.clone()));
    let test =
        LoadTest::new(plan.config.clone()).with_options(options.clone()).with_observer(live.clone()).with_stop(stopped);
    let run =
        async { if find_rate { test.find_rate(database.clone()).await } else { test.run(database.clone()).await } };
    let signal = async {
        interrupt::requested().await;
        messages::note("interrupted: waiting up to 10 s for outstanding calls");
        // Fails if the run has ended at the same time.
        let _ = stop.send(true);
        std::future::pending::<()>().await;
    };
    let record = tokio::select! {
        record = run => record,
        () = signal => unreachable!("the future of the signal never completes"),
    };
    live.finish();
    // An error of closing would lose the record.
    let closed = database.close().await;
    closed.err().iter().for_each(messages::warning);
    Ok(record?)
}

async fn connect(config: &DatabaseConfig) -> Result<Arc<dyn Database>, Failure> {
    tokio::select! {
        database = config.connect(Arc::new(SystemClock)) => Ok(database?),
        () = interrupt::requested() => Err(Failure::Interrupted),
    }
}

/// Reports the reasons for the exit status, and returns it.
fn report_problems(record: &RunRecord) -> Result<ExitStatus, Failure> {
    for failure in &record.failures {
        let kept = if failure.phase == Phase::TearDown { "" } else { "; the data are kept" };
        messages::problem(format!("{}: {}{kept}", failure.phase, failure.error));
    }
    let differences = record.census.iter().flat_map(|census| &census.differences);
    differences.for_each(|difference| messages::problem(format!("census: {difference}")));
    if record.partial {
        return Err(Failure::Interrupted);
    }
    record.invalid.iter().for_each(|reason| messages::problem(format!("invalid: {reason}")));
    if let Some(search) = &record.rate_search {
        return Ok(found(search, record.failures.is_empty()));
    }
    record.aborted.iter().for_each(|reason| messages::problem(format!("ended early: {reason}")));
    record.unsustained.iter().for_each(|reason| messages::problem(format!("not sustained: {reason}")));
    for objective in record.objectives.iter().filter(|objective| !objective.held) {
        let measured = objective.measured.as_deref().unwrap_or("too few samples");
        messages::problem(format!("the objective {} is missed: {measured}", objective.objective));
    }
    Ok(exit(record))
}

/// The exit code of a record.
pub fn exit(record: &RunRecord) -> ExitStatus {
    match record.verdict() {
        _ if record.partial => ExitStatus::Failed,
        load::Verdict::Passed if record.failures.is_empty() => ExitStatus::Passed,
        load::Verdict::Passed => ExitStatus::Failed,
        load::Verdict::NotSustained => ExitStatus::NotSustained,
        load::Verdict::Invalid => ExitStatus::Invalid,
        _ => ExitStatus::Differed,
    }
}

fn found(search: &RateSearchRecord, is_complete: bool) -> ExitStatus {
    search.inconclusive.iter().for_each(|reason| messages::problem(format!("inconclusive: {reason}")));
    match search.highest {
        _ if !is_complete => ExitStatus::Failed,
        Some(_) => ExitStatus::Passed,
        None if search.inconclusive.is_some() => ExitStatus::Invalid,
        None => {
            messages::problem("no rate met all objectives");
            ExitStatus::Differed
        }
    }
}
