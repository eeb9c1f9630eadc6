//! Loads of several load generators on one store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::backends::{Backend, runtime};
use crate::support::harness::server_trial;
use crate::support::postgres::{schema, shared, store};
use crate::support::proxy::{Mode, Proxy};
use crate::support::server::with;
use broadside::load::record::{Phase, QueryRecord, RunRecord};
use broadside::load::{GeneratorOptions, LoadConfig, LoadTest, MergeError, RunOptions, Share, merge};
use broadside::query::{GroupField, StateField};
use broadside::{Database, DatabaseConfig, GroupQuery, JobQuery, JobState, ScratchStore, SystemClock};
use libtest_mimic::Trial;
use tokio_postgres::NoTls;

pub fn trials() -> Vec<Trial> {
    let server = Backend::POSTGRES;
    vec![
        Trial::test("memory::each-job-is-updated-by-one-share", || {
            runtime().block_on(each_job_is_updated_by_one_share());
            Ok(())
        }),
        Trial::test("memory::the-last-share-reports-a-missing-one", || {
            runtime().block_on(a_missing_share());
            Ok(())
        }),
        Trial::test("memory::a-second-last-share-leaves-the-load-alone", || {
            runtime().block_on(a_second_last_share());
            Ok(())
        }),
        Trial::test("memory::the-memory-backend-has-no-shares", || {
            the_memory_backend_has_no_shares();
            Ok(())
        }),
        server_trial(server, "four-processes-make-the-load-of-one", four_processes),
        server_trial(server, "a-killed-share-keeps-the-data-and-can-be-repeated", a_killed_share),
        server_trial(server, "another-plan-and-a-second-process-are-refused", refusals),
        server_trial(server, "a-silent-server-ends-all-shares", silent_server),
    ]
}

const CONFIG: &str = "
testDuration: 3s
warmupDuration: 500ms
skipTearDown: true
databaseConfig: {inMemory: true}
queueConfig:
  - name: a
    proportion: 0.6
    jobSetConfig:
      - name: s
        proportion: 1
        historicalJobsConfig: {numberOfJobs: 400, proportionSucceeded: 0.1, proportionErrored: 0.1, jobAgeDays: [1]}
  - {name: b, proportion: 0.4, jobSetConfig: [{name: t, proportion: 1}]}
ingestionConfig:
  batchSize: 50
  batchTimeout: 50ms
  numWorkers: 2
  submissionsPerHour: 144000
  jobStateTransitionConfig:
    queueingDuration: 400ms
    leasedDuration: 300ms
    pendingDuration: 300ms
    proportionSucceed: 0.7
    runningToSuccessDuration: 1s
    runningToFailureDuration: 300ms
queryConfig:
  getJobsQueriesPerHour: 36000
  getJobGroupsQueriesPerHour: 18000
  getJobSpecQueriesPerHour: 18000
  getJobRunErrorQueriesPerHour: 18000
slo: [ingest.p99 < 60s, page.p95 < 60s, groups.errors < 1%]
";

/// A separate, empty directory for a test, with a configuration.
fn directory(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    drop(std::fs::remove_dir_all(&directory));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("config.yaml"), CONFIG).unwrap();
    directory
}

/// Starts a run whose results are in a directory of their own.
fn start(directory: &Path, backend: &str, results: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT,TERM,HUP").arg(env!("CARGO_BIN_EXE_broadside")).current_dir(directory);
    command.args(["run", "--config", "config.yaml", "--backend", backend, "--results-dir", results]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for the end of a run whose census found no differences. A slow machine may not sustain the load.
fn completed(child: Child) {
    let output = child.wait_with_output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 3 | 4)), "{:?} {}", output.status, stderr(&output));
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The path of the only record in a directory.
fn record_path(directory: &Path) -> PathBuf {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_record = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("broadside-run-");
    let found: Vec<_> = files.filter(is_record).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

fn read(path: &Path) -> RunRecord {
    RunRecord::from_json(&std::fs::read(path).unwrap()).unwrap()
}

fn address_of(store: &ScratchStore) -> String {
    with(&shared(""), &format!("schema={}", schema(store)))
}

/// The number of jobs in each state.
async fn states(database: &dyn Database) -> BTreeMap<String, u64> {
    let groups = database.get_job_groups(&GroupQuery::by(GroupField::State)).await.unwrap();
    groups.into_iter().map(|group| (group.name.to_string(), group.count)).collect()
}

/// The number of reads that succeeded, by kind and filter.
fn reads(record: &RunRecord) -> BTreeMap<String, u64> {
    record.queries.iter().map(|query| (query.name(), query.executed)).collect()
}

async fn four_processes() {
    let directory = directory("shares-four");
    let (one, four) = (store(&shared("")).await, store(&shared("")).await);
    let mut children = vec![start(&directory, &address_of(&one), "one", &["--seed", "7"])];
    for share in 1..=4 {
        // The last share starts first, so that the order does not matter.
        let (results, share) = (format!("share-{}", 5 - share), format!("{}/4", 5 - share));
        children.push(start(&directory, &address_of(&four), &results, &["--seed", "7", "--share", &share]));
    }
    children.into_iter().for_each(completed);
    let whole = read(&record_path(&directory.join("one")));
    let paths: Vec<_> = (1..=4).map(|share| record_path(&directory.join(format!("share-{share}")))).collect();
    let records: Vec<_> = paths.iter().map(|path| read(path)).collect();

    let mut report = Command::new(env!("CARGO_BIN_EXE_broadside"));
    report.current_dir(&directory).args(["report", "--merge", "--merged", "sum.json"]).args(paths.iter().rev());
    let output = report.output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 3 | 4)), "{:?} {}", output.status, stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("objective ingest.p99 < 60s: met"), "{output:?}");
    let sum = read(&directory.join("sum.json"));

    assert_eq!(sum.ingester.queries_due, whole.ingester.queries_due);
    assert_eq!(sum.ingester.queries_executed, whole.ingester.queries_executed);
    assert_eq!(sum.ingester.latency.count(), whole.ingester.latency.count());
    assert_eq!(reads(&sum), reads(&whole));
    assert_eq!(states(&**four.database()).await, states(&**one.database()).await);
    for record in [&sum, &whole] {
        assert_eq!(record.census.as_ref().unwrap().differences, [""; 0]);
        assert!(record.objectives.len() == 3 && record.objectives.iter().all(|objective| objective.held));
    }
    let stored: u64 = states(&**four.database()).await.values().sum();
    assert_eq!(sum.census.as_ref().unwrap().jobs, stored);
    // The samples of the shares contain all of their jobs.
    assert_eq!(sum.census.as_ref().unwrap().sampled, stored - 400);
    check_sum(&sum, &records);
    one.remove().await.unwrap();
    four.remove().await.unwrap();
}

/// Checks a merged record against the records of its shares.
fn check_sum(sum: &RunRecord, records: &[RunRecord]) {
    let total = |count: fn(&RunRecord) -> u64| records.iter().map(count).sum::<u64>();
    assert_eq!(sum.ingester.latency.count(), total(|record| record.ingester.latency.count()));
    assert_eq!(sum.ingester.call_time.count(), total(|record| record.ingester.batches_executed));
    let of = |count: fn(&QueryRecord) -> u64| move |record: &RunRecord| record.queries.iter().map(count).sum::<u64>();
    let executed = of(|query| query.latency.count());
    assert_eq!(executed(sum), records.iter().map(executed).sum::<u64>());
    for series in &sum.series {
        let of_kind = |record: &RunRecord| {
            let same = record.series.iter().filter(|other| other.query_type == series.query_type);
            same.flat_map(|series| series.intervals.clone()).collect::<Vec<_>>()
        };
        let achieved = |record: &RunRecord| of_kind(record).iter().map(|interval| interval.achieved).sum::<f64>();
        assert_eq!(achieved(sum), records.iter().map(achieved).sum::<f64>());
        assert!(records.iter().flat_map(of_kind).all(|interval| interval.latencies.is_some()));
        assert!(series.intervals.is_sorted_by(|one, next| one.second < next.second));
        assert!(series.intervals.iter().all(|interval| interval.latencies.is_none()));
    }
    // All shares begin in the same second of the sum, the one of the last share.
    let test = sum.phase(Phase::Test).unwrap();
    let within = test.start_nanos / 1_000_000_000..=test.end_nanos / 1_000_000_000 + 1;
    let loaded = sum.series[0].intervals.iter().filter(|interval| interval.target > 0.0);
    assert!(loaded.clone().count() >= 2);
    assert!(loaded.skip(1).all(|interval| within.contains(&interval.second)), "{within:?} {:?}", sum.series[0]);
}

async fn a_killed_share() {
    let directory = directory("shares-killed");
    let kept = CONFIG.replace("skipTearDown: true", "skipTearDown: false");
    std::fs::write(directory.join("config.yaml"), kept).unwrap();
    let store = store(&shared("")).await;
    let address = address_of(&store);
    let start = |results: &str, share: &str| start(&directory, &address, results, &["--share", share, "--drain", "3s"]);
    let (mut killed, last) = (start("killed", "1/2"), start("last", "2/2"));
    wait_for_load(&**store.database()).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    let begun = Instant::now();
    let output = last.wait_with_output().unwrap();
    assert!(matches!(output.status.code(), Some(2 | 4)), "{:?} {}", output.status, stderr(&output));
    assert!(stderr(&output).contains("share 1/2 did not report an end within 3s"), "{}", stderr(&output));
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let record = read(&record_path(&directory.join("last")));
    assert!(record.failures.len() == 1 && record.phase(Phase::TearDown).is_none(), "{:?}", record.failures);
    assert!(states(&**store.database()).await["QUEUED"] > 0);

    // The properties of the killed load do not confuse the next one, whose last share removes all data.
    let (first, last) = (start("first-again", "1/2"), start("last-again", "2/2"));
    [first, last].into_iter().for_each(completed);
    assert!(states(&**store.database()).await.is_empty());
    let records = ["first-again", "last-again"].map(|name| read(&record_path(&directory.join(name))));
    assert!(records.iter().all(|record| record.census.as_ref().unwrap().differences.is_empty()));
    store.remove().await.unwrap();
}

/// Waits until a load has stored jobs.
async fn wait_for_load(database: &dyn Database) {
    let queued = JobQuery::new().filter(StateField.any_of([JobState::Queued])).limit(1);
    while database.get_jobs(&queued).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The server ceases to respond during the load. Without a limit the last share waits for the others for 120 s.
async fn silent_server() {
    let proxy = Proxy::start(&shared("")).await;
    let store = store(&shared("")).await;
    let parameters = format!("schema={}&connect_timeout=1", schema(&store));
    let config = config(&CONFIG.replace("testDuration: 3s", "testDuration: 10m\nabortAfter: 2s"));
    let run = async |share| {
        let address: DatabaseConfig = with(proxy.address(), &parameters).parse().unwrap();
        let database = address.connect(Arc::new(SystemClock)).await.unwrap();
        let options = RunOptions { drain: Duration::from_secs(120), ..options(share) };
        LoadTest::new(config.clone()).with_options(options).run(database).await.unwrap()
    };
    let silent = async {
        wait_for_load(&**store.database()).await;
        // The warm-up is over.
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxy.set(Mode::HoldRequests(""));
        Instant::now()
    };
    let (first, last, silent) = futures::future::join3(run("1/2"), run("2/2"), silent).await;
    assert!(silent.elapsed() < Duration::from_secs(60), "{:?}", silent.elapsed());
    for record in [&first, &last] {
        assert!(record.aborted.is_some() && record.ingester.queries_executed > 0, "{:?}", record.aborted);
    }
    assert!(last.phase(Phase::TearDown).is_none() && !last.failures.is_empty(), "{:?}", last.failures);
    proxy.set(Mode::Open);
    store.remove().await.unwrap();
}

async fn refusals() {
    let directory = directory("shares-refusals");
    let store = store(&shared("")).await;
    let address = address_of(&store);
    let (session, connection) = tokio_postgres::connect(&shared(""), NoTls).await.unwrap();
    tokio::spawn(connection);
    let content = async || {
        let rows = format!(
            "SELECT string_agg(row, '\n' ORDER BY row) FROM (
            SELECT m::text AS row FROM {0}.broadside_store AS m
            UNION ALL SELECT relname::text FROM pg_class WHERE relnamespace = '{0}'::regnamespace) AS rows",
            schema(&store)
        );
        session.query_one(&rows, &[]).await.unwrap().get::<_, String>(0)
    };
    let before = content().await;
    // The tuning is a statement that cannot be executed twice.
    let split = with(&address, "hot_cold_split=true&tuning_sql=CREATE TABLE tuned()");
    let output = start(&directory, &split, "split", &["--share", "2/2"]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("has another layout than the address"), "{}", stderr(&output));
    assert_eq!(content().await, before);
    let mut first = start(&directory, &address, "first", &["--share", "1/2"]);
    while store.database().property("load.share.1").await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let second = start(&directory, &address, "second", &["--share", "1/2"]).wait_with_output().unwrap();
    assert_eq!(second.status.code(), Some(2), "{}", stderr(&second));
    assert!(stderr(&second).contains("another process runs share 1/2"), "{}", stderr(&second));
    assert!(first.try_wait().unwrap().is_none(), "the first process still waits");

    let last = start(&directory, &address, "last", &["--share", "2/2", "--seed", "9"]).wait_with_output().unwrap();
    let first = first.wait_with_output().unwrap();
    for output in [first, last] {
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("share 1/2 has another plan than share 2/2"), "{}", stderr(&output));
    }
    assert_eq!(content().await, before);

    // A share that waits can be interrupted.
    let waiting = start(&directory, &address, "waiting", &["--share", "2/2"]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pid = waiting.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(waiting.wait_with_output().unwrap().status.code(), Some(130));
    assert_eq!(content().await, before);
    assert!(states(&**store.database()).await.is_empty());
    store.remove().await.unwrap();
}

fn the_memory_backend_has_no_shares() {
    let directory = directory("shares-memory");
    let output = start(&directory, "memory", "results", &["--share", "1/2"]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--share requires a server"), "{}", stderr(&output));
    assert!(!directory.join("results").exists());
    let output =
        start(&directory, "postgres://nowhere", "results", &["--share", "1/2", "--find-rate"]).wait_with_output();
    assert_eq!(output.unwrap().status.code(), Some(2));
}

async fn memory() -> Arc<dyn Database> {
    let database = "memory".parse::<DatabaseConfig>().unwrap().connect(Arc::new(SystemClock)).await.unwrap();
    database.initialise_schema().await.unwrap();
    database
}

fn config(text: &str) -> LoadConfig {
    LoadConfig::parse([("config.yaml", text)], []).unwrap().config
}

fn options(share: &str) -> RunOptions {
    RunOptions {
        generator: GeneratorOptions { share: share.parse::<Share>().unwrap(), ..GeneratorOptions::default() },
        drain: Duration::from_secs(20),
        ..RunOptions::default()
    }
}

async fn run(database: &Arc<dyn Database>, config: &LoadConfig, options: RunOptions) -> broadside::Result<RunRecord> {
    LoadTest::new(config.clone()).with_options(options).run(database.another_handle().await.unwrap()).await
}

/// An action updates the active jobs of the load and of an earlier one, each by exactly one share.
async fn each_job_is_updated_by_one_share() {
    let database = memory().await;
    let text =
        CONFIG.replace("testDuration: 3s", "testDuration: 2s").replace("leasedDuration: 300ms", "leasedDuration: 1h");
    let text = text.lines().filter(|line| !line.starts_with("slo")).collect::<Vec<_>>().join("\n");
    run(&database, &config(&text), options("1/1")).await.unwrap();
    let earlier = states(&*database).await["LEASED"];
    assert!(earlier > 30);
    let action = "
actionsConfig:
  jobSetCancellations:
    - {performAfterTestStartTime: 1s, queue: a, jobSet: s}
";
    let with_action = config(&(text + action));
    let runs = ["1/3", "2/3", "3/3"].map(|share| run(&database, &with_action, options(share)));
    let records: Vec<_> = futures::future::join_all(runs).await.into_iter().collect::<broadside::Result<_>>().unwrap();
    let names = || records.iter().enumerate().map(|(at, record)| (format!("{at}.json"), record.clone()));
    let sum = merge(names()).unwrap();
    assert_eq!(sum.census.as_ref().unwrap().differences, [""; 0]);
    let cancelled = states(&*database).await["CANCELLED"];
    assert!(sum.actions.len() == 1 && sum.actions[0].end_nanos.is_some(), "{:?}", sum.actions);
    assert_eq!(sum.actions[0].jobs, cancelled, "{:?}", sum.actions);
    assert!(records.iter().all(|record| record.actions[0].jobs > 10), "each share has its part");
    check_sum(&sum, &records);

    assert_eq!(merge(names().skip(1)).unwrap_err(), MergeError::Missing(vec!["1/3".to_owned()]));
    let repeated = merge(names().chain([("again.json".to_owned(), records[1].clone())])).unwrap_err();
    assert_eq!(repeated.to_string(), "1.json and again.json are both records of share 2/3");
    let mut other = records[2].clone();
    other.share.as_mut().unwrap().load = "other".to_owned();
    let mixed = merge(names().take(2).chain([("other.json".to_owned(), other)])).unwrap_err();
    assert_eq!(mixed.to_string(), "1.json and other.json are records of different loads");
    assert_eq!(merge([("sum.json".to_owned(), sum)]).unwrap_err(), MergeError::NotAShare("sum.json".to_owned()));
}

async fn a_missing_share() {
    let database = memory().await;
    let config = config(&CONFIG.replace("skipTearDown: true", "skipTearDown: false"));
    let short = RunOptions { share_wait: Duration::from_millis(500), ..options("2/2") };
    let error = run(&database, &config, short.clone()).await.unwrap_err();
    assert_eq!(error.message(), "share 1/2 did not join the load within 500ms");
    let error = run(&database, &config, RunOptions { generator: options("1/2").generator, ..short }).await.unwrap_err();
    assert_eq!(error.message(), "share 2/2 did not join the load within 500ms");
    for key in ["load.share.1", "load.share.last"] {
        assert_eq!(database.property(key).await.unwrap(), None);
    }
    assert!(states(&*database).await.is_empty());
}

/// A second process with the last share, started during the load, is refused and removes nothing.
async fn a_second_last_share() {
    let database = memory().await;
    let config = config(&CONFIG.replace("skipTearDown: true", "skipTearDown: false"));
    let second = async {
        wait_for_load(&*database).await;
        let entry = database.property("load.share.last").await.unwrap();
        let short = RunOptions { share_wait: Duration::from_millis(500), ..options("2/2") };
        let error = run(&database, &config, short).await.unwrap_err();
        assert!(entry.is_some() && database.property("load.share.last").await.unwrap() == entry);
        (error.message().to_owned(), states(&*database).await.values().sum::<u64>())
    };
    let (first, last) = (run(&database, &config, options("1/2")), run(&database, &config, options("2/2")));
    let (first, last, (error, jobs)) = futures::future::join3(first, last, second).await;
    assert_eq!(error, "share 1/2 did not join the load within 500ms");
    assert!(jobs > 400, "{jobs}");
    let sum = merge([("1.json".to_owned(), first.unwrap()), ("2.json".to_owned(), last.unwrap())]).unwrap();
    assert!(sum.census.unwrap().differences.is_empty() && sum.failures.is_empty());
    assert!(states(&*database).await.is_empty());
}
