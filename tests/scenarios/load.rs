//! Short load tests on each backend, and on stores with faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::backends::Backend;
use crate::support::faulty::{Fault, Faulty};
use crate::support::harness::{TestStoreRef, Verdict, describe, trial};
use crate::support::jobs::plain_job;
use async_trait::async_trait;
use broadside::ingest::InsertJob;
use broadside::load::record::{ActionType, Phase, QueryType, RunRecord};
use broadside::load::{self, LoadConfig, LoadTest, RecordedRead, RunOptions};
use broadside::{
    Activity, BackendKind, Database, Error, ErrorKind, IngestionBatch, JobQuery, Operation, ReadCall, Result,
};
use libtest_mimic::Trial;
use tokio::sync::watch;

pub fn trials() -> Vec<Trial> {
    let backends = [Backend::MODEL].into_iter().chain(Backend::ALL);
    let mut trials: Vec<_> = backends.flat_map(on_every_backend).collect();
    trials.extend(on_the_model());
    trials
}

fn on_every_backend(backend: Backend) -> [Trial; 3] {
    [
        trial(backend, "all-jobs-are-stored", all_jobs_are_stored),
        trial(backend, "a-store-with-the-same-historical-jobs-is-reused", store_is_reused),
        trial(backend, "a-store-with-other-jobs-is-rejected", other_jobs_are_rejected),
    ]
}

fn on_the_model() -> [Trial; 7] {
    [
        trial(Backend::MODEL, "a-stopped-run-has-a-partial-record", stopped_run),
        trial(Backend::MODEL, "a-dropped-run-ends", dropped_run),
        trial(Backend::MODEL, "the-census-finds-lost-batches", |_| lost_batches()),
        trial(Backend::MODEL, "failed-batches-are-sent-again", |_| failed_batches()),
        trial(Backend::MODEL, "unfinished-reads-are-counted", |_| unfinished_reads()),
        trial(Backend::MODEL, "a-server-without-an-answer-leaves-gaps", |_| silent_server()),
        trial(Backend::MODEL, "a-server-that-falls-silent-ends-the-run", |_| server_falls_silent()),
    ]
}

const BASE: &str = "
testDuration: 2s
warmupDuration: 500ms
databaseConfig: {inMemory: true}
redelivery: 0.3
queueConfig:
  - name: queue-a
    proportion: 0.6
    jobSetConfig:
      - name: set-1
        proportion: 0.5
        historicalJobsConfig: &historical {numberOfJobs: 300, proportionSucceeded: 0.1, proportionErrored: 0.1, proportionCancelled: 0.05, jobAgeDays: [1, 3]}
      - {name: set-2, proportion: 0.5}
  - name: queue-b
    proportion: 0.4
    jobSetConfig: [{name: set-3, proportion: 1, historicalJobsConfig: *historical}]
ingestionConfig:
  batchSize: 100
  batchTimeout: 100ms
  numWorkers: 3
  submissionsPerHour: 720000
  historicalJobWorkers: 2
  jobStateTransitionConfig:
    queueingDuration: 200ms
    leasedDuration: 100ms
    pendingDuration: 100ms
    proportionSucceed: 0.7
    runningToSuccessDuration: 1s
    runningToFailureDuration: 300ms
queryConfig:
  getJobsQueriesPerHour: 36000
  getJobGroupsQueriesPerHour: 36000
  getJobSpecQueriesPerHour: 36000
  getJobRunErrorQueriesPerHour: 36000
  getJobRunDebugMessageQueriesPerHour: 36000
  maxConcurrentQueries: 4
lookoutQueryConfig:
  activeJobSetsQueriesPerHour: 7200
  containsQueriesPerHour: 7200
  deepOffsetQueriesPerHour: 7200
  ownerQueriesPerHour: 7200
  poolQueriesPerHour: 7200
  deepOffset: 200
actionsConfig:
  jobSetReprioritisations: [{performAfterTestStartTime: 600ms, queue: queue-a, jobSet: set-2}]
  jobSetCancellations: [{performAfterTestStartTime: 1s, queue: queue-b, jobSet: set-3}]
slo: [page.errors < 0.1%, groups.max < 10m]
";

fn config(overrides: &str) -> LoadConfig {
    LoadConfig::parse([("base.yaml", BASE), ("test.yaml", overrides)], []).unwrap().config
}

/// A run that is not stopped.
async fn run(database: Arc<dyn Database>, config: &LoadConfig, options: &RunOptions) -> Result<RunRecord> {
    LoadTest::new(config.clone()).with_options(options.clone()).run(database).await
}

fn fail(error: Error) -> String {
    describe(&error)
}

async fn all_jobs_are_stored(store: TestStoreRef) -> Verdict {
    let recorded = r#"{"op":"getJobs","time":"2026-01-01T00:00:00Z","take":3}
{"op":"getJobGroups","time":"2026-01-01T00:00:00.5Z","groupedField":{"field":"owner"}}
{"op":"getJobs","time":"2026-01-01T01:00:00Z"}"#;
    let options = RunOptions { recorded: RecordedRead::parse(recorded).unwrap(), ..RunOptions::default() };
    let record = run(store.database.clone(), &config(""), &options).await.map_err(fail)?;
    let census = record.census.as_ref().expect("a census was taken");
    assert_eq!(census.differences, Vec::<String>::new());
    // 600 historical jobs, and 200 per second for 2.5 s.
    assert_eq!((census.jobs, census.sampled), (1100, 256));
    assert_eq!((record.error_count, record.partial), (0, false), "{:?}", record.errors);
    assert!(record.ingester.batches_redelivered > 0);
    assert_eq!(record.ingester.batches_executed, record.ingester.call_time.count());

    let queries = |kind, combo: &str| {
        let query =
            record.queries.iter().find(|query| (query.query_type, query.filter_combo.as_str()) == (kind, combo));
        query.unwrap_or_else(|| panic!("no {kind} {combo}")).executed
    };
    let pages: u64 =
        record.queries.iter().filter(|query| query.query_type == QueryType::GetJobs).map(|query| query.executed).sum();
    // For 2 s: 10 pages per second, 2 per second of each of the five other kinds, and one recorded page.
    assert_eq!(pages, 20 + 5 * 4 + 1);
    for combo in ["none", "annotations", "running_queue", "queued_jobset", "priority", "errored_time", "cluster_node"] {
        assert!(queries(QueryType::GetJobs, combo) >= 2 && queries(QueryType::GetJobGroups, combo) >= 2);
    }
    for combo in ["active_job_sets", "contains", "deep_offset", "owner", "pool"] {
        assert_eq!(queries(QueryType::GetJobs, combo), 4, "{combo}");
    }
    for kind in [QueryType::GetJobSpec, QueryType::GetJobRunError, QueryType::GetJobRunDebugMessage] {
        assert_eq!(queries(kind, "none"), 20, "{kind}");
    }
    assert_eq!((queries(QueryType::GetJobs, "replayed"), queries(QueryType::GetJobGroups, "replayed")), (1, 1));

    // The servers of the tests show their settings and their memory, PostgreSQL from version 13 on.
    let is_12 = record.store.version.as_deref().is_some_and(|version| version.starts_with("PostgreSQL 12"));
    let (setting, memory_is_known) = match store.database.backend() {
        BackendKind::Postgres => (Some("fsync"), !is_12),
        BackendKind::ClickHouse => (Some("max_threads"), true),
        _ => (None, false),
    };
    assert!(setting.is_none_or(|name| record.store.settings.contains_key(name)), "{:?}", record.store.settings);
    assert_eq!(record.resources.len(), 2);
    assert!(record.resources.iter().all(|sample| sample.server_memory_bytes.is_some() == memory_is_known));

    check_activity(&record);
    let actions: Vec<_> = record.actions.iter().map(|action| (action.action, action.end_nanos.is_some())).collect();
    assert_eq!(actions, [(ActionType::Reprioritise, true), (ActionType::Cancel, true)]);
    // A slow server may store the jobs after the action has read the active jobs.
    if store.database.backend() == BackendKind::Memory {
        assert!(record.actions.iter().all(|action| action.jobs > 0), "{:?}", record.actions);
    }
    let phases: Vec<_> = record.phases.iter().map(|phase| phase.phase).collect();
    let all =
        [Phase::Setup, Phase::Historical, Phase::WarmUp, Phase::Test, Phase::Drain, Phase::Census, Phase::TearDown];
    assert_eq!(phases, all);
    assert!(record.phases.windows(2).all(|pair| pair[0].end_nanos == pair[1].start_nanos));
    assert!(record.objectives.iter().all(|objective| objective.held), "{:?}", record.objectives);
    assert_eq!(RunRecord::from_json(record.to_json().unwrap().as_bytes()).unwrap().ingester, record.ingester);

    assert_eq!(store.database.get_jobs(&JobQuery::new()).await.map_err(fail)?, []);
    Ok(())
}

/// Checks the activity of a run that has inserted 500 jobs.
fn check_activity(record: &RunRecord) {
    assert_eq!(record.activity_problems, Vec::<String>::new());
    let total = |name: &str| record.activity.iter().filter_map(|sample| sample.counters.get(name)).sum::<u64>();
    // Each job is at least 100 bytes, and other tests write on the same servers.
    match record.store.backend.as_str() {
        "postgres" => assert!(total("walBytes") >= 500 * 100, "{:?}", record.activity),
        "clickhouse" => assert!(total("insertedRows") >= 500, "{:?}", record.activity),
        _ => {}
    }
    // The samples are at least a second apart, except for the first and the last, and cover the whole load.
    let times: Vec<_> = record.activity.iter().map(|sample| sample.at_nanos).collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]) && times.len() >= 3, "{times:?}");
    let test = record.phase(Phase::Test).unwrap();
    assert!(times[0] <= test.start_nanos && times[times.len() - 1] >= test.end_nanos, "{times:?}");
    #[cfg(target_os = "linux")]
    {
        let cpu = (total("driverCpuMicros"), total("generatorCpuMicros"));
        let elapsed = (times[times.len() - 1] - times[0]) / 1000;
        // The generator is one thread.
        assert!(cpu.0 > 0 && cpu.1 <= elapsed + 20_000, "{cpu:?}, {elapsed}");
    }
}

async fn store_is_reused(store: TestStoreRef) -> Verdict {
    let few = "testDuration: 200ms\nwarmupDuration: 0s\nactionsConfig: {jobSetReprioritisations: [], jobSetCancellations: []}\nskipTearDown: true";
    let options = RunOptions::default();
    let first = run(store.database.clone(), &config(few), &options).await.map_err(fail)?;
    if let Err(error) = store.database.set_property("load.probe", Some("")).await {
        // A store without properties cannot be reused.
        assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
        let error = run(store.database.clone(), &config(few), &options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore, "{error}");
        return Ok(());
    }
    let second = run(store.database.clone(), &config(few), &options).await.map_err(fail)?;
    let jobs = |record: &RunRecord| record.census.as_ref().map(|census| (census.jobs, census.differences.clone()));
    assert_eq!(jobs(&first), Some((640, vec![])));
    assert_eq!(jobs(&second), Some((680, vec![])));
    let other = config(&format!("{few}\ntestDuration: 100ms").replace("testDuration: 200ms\n", ""));
    run(store.database.clone(), &other, &options).await.map_err(fail)?;
    let text = BASE.replace("numberOfJobs: 300", "numberOfJobs: 301");
    let changed = LoadConfig::parse([("changed.yaml", text.as_str())], []).unwrap().config;
    let error = run(store.database.clone(), &changed, &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongStore, "{error}");
    load::tear_down(&*store.database).await.map_err(fail)?;
    run(store.database.clone(), &changed, &RunOptions::default()).await.map_err(fail)?;
    Ok(())
}

async fn other_jobs_are_rejected(store: TestStoreRef) -> Verdict {
    store.database.initialise_schema().await.map_err(fail)?;
    let batch =
        IngestionBatch::new([InsertJob { job: plain_job("someones", "set"), job_spec: None }.into()]).map_err(fail)?;
    store.database.execute_ingestion_query_batch(&batch).await.map_err(fail)?;
    for error in [
        run(store.database.clone(), &config(""), &RunOptions::default()).await.map(drop).unwrap_err(),
        load::tear_down(&*store.database).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::WrongStore, "{error}");
    }
    let query = JobQuery::new();
    assert_eq!(store.database.get_jobs(&query).await.map_err(fail)?.len(), 1);
    Ok(())
}

async fn stopped_run(store: TestStoreRef) -> Verdict {
    let (stop, stopped) = watch::channel(false);
    let test = LoadTest::new(config("testDuration: 1h\nwarmupDuration: 0s")).with_stop(stopped);
    let running = test.run(store.database.clone());
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        stop.send(true).unwrap();
    };
    let (record, ()) = tokio::join!(running, stopping);
    let record = record.map_err(fail)?;
    assert!(record.partial && record.ingester.queries_executed > 0);
    assert_eq!(record.census.unwrap().differences, Vec::<String>::new());
    Ok(())
}

async fn dropped_run(store: TestStoreRef) -> Verdict {
    let test = LoadTest::new(config("testDuration: 1h\nwarmupDuration: 0s"));
    tokio::time::timeout(Duration::from_millis(700), test.run(store.database.clone())).await.unwrap_err();
    // A batch in flight may complete.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let jobs = store.database.job_count().await.map_err(fail)?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(store.database.job_count().await.map_err(fail)?, jobs);
    assert!(jobs > 600, "the load has begun");
    Ok(())
}

/// A fault of a store, and the number of its batches.
#[derive(Debug)]
struct Counted {
    kind: Kind,
    batches: AtomicU64,
    /// The number of samples of the server's activity.
    samples: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Every tenth batch is acknowledged but not stored.
    LosesBatches,
    /// Every second batch fails.
    FailsBatches,
    /// Pages never complete.
    HangsOnPages,
    /// The server's activity fails at first, and later never comes.
    HidesActivity,
    /// The server does not respond from the first read on that follows this number of batches.
    FallsSilent(u64),
}

async fn faulty(kind: Kind) -> Arc<dyn Database> {
    Arc::new(Faulty::memory(Arc::new(Counted { kind, batches: AtomicU64::new(0), samples: AtomicU64::new(0) })).await)
}

#[async_trait]
impl Fault for Counted {
    async fn activity(&self, store: &dyn Database) -> Result<Activity> {
        if let Kind::FallsSilent(_) = self.kind
            && self.samples.load(Ordering::Relaxed) > 0
        {
            std::future::pending::<()>().await;
        }
        if self.kind != Kind::HidesActivity {
            return store.activity().await;
        }
        if self.samples.fetch_add(1, Ordering::Relaxed) >= 2 {
            std::future::pending::<()>().await;
        }
        Err(Error::new(ErrorKind::Backend, Operation::Activity, "hidden"))
    }

    async fn batch(&self, store: &dyn Database, batch: &IngestionBatch) -> Result<()> {
        let number = self.batches.fetch_add(1, Ordering::Relaxed);
        match self.kind {
            Kind::LosesBatches if number % 10 == 9 => return Ok(()),
            Kind::FailsBatches if number.is_multiple_of(2) => {
                let error = Error::new(ErrorKind::Unavailable, Operation::ExecuteIngestionQueryBatch, "away");
                // A repetition must succeed whether or not the batch was stored.
                if number.is_multiple_of(4) {
                    store.execute_ingestion_query_batch(batch).await?;
                }
                return Err(error.with_unknown_outcome());
            }
            _ => {}
        }
        store.execute_ingestion_query_batch(batch).await
    }

    async fn read(&self, call: ReadCall) -> Result<()> {
        if let Kind::FallsSilent(batches) = self.kind
            && self.batches.load(Ordering::Relaxed) >= batches
        {
            self.samples.store(1, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        let hangs = self.kind == Kind::HangsOnPages && self.batches.load(Ordering::Relaxed) > 0;
        if let ReadCall::Jobs(query) = call
            && hangs
            && is_page_of_the_load(&query)
        {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

/// Returns true for pages of the load, which are the only reads with this limit.
fn is_page_of_the_load(query: &JobQuery) -> bool {
    query.page().limit().is_some_and(|take| take == 100)
}

async fn lost_batches() -> Verdict {
    let record =
        run(faulty(Kind::LosesBatches).await, &config("redelivery: 0"), &RunOptions::default()).await.map_err(fail)?;
    let differences = record.census.unwrap().differences;
    assert!(differences.iter().any(|difference| difference.contains(" jobs are ")), "{differences:?}");
    assert!(differences.iter().any(|difference| difference.starts_with("job ")), "{differences:?}");
    Ok(())
}

async fn failed_batches() -> Verdict {
    let record = run(faulty(Kind::FailsBatches).await, &config(""), &RunOptions::default()).await.map_err(fail)?;
    assert_eq!(record.census.unwrap().differences, Vec::<String>::new());
    assert!(record.ingester.batches_failed > 0 && record.error_count >= record.ingester.batches_failed);
    assert!(record.errors.iter().all(|error| error.query_type.is_none() && error.error.contains("away")));
    Ok(())
}

async fn unfinished_reads() -> Verdict {
    let quiet =
        "actionsConfig: {jobSetReprioritisations: [], jobSetCancellations: []}\nqueryConfig: {maxConcurrentQueries: 0}";
    let options = RunOptions { drain: Duration::from_millis(300), ..RunOptions::default() };
    let record = run(faulty(Kind::HangsOnPages).await, &config(quiet), &options).await.map_err(fail)?;
    let pages: Vec<_> = record.queries.iter().filter(|query| query.query_type == QueryType::GetJobs).collect();
    assert_eq!(pages.iter().map(|query| query.unfinished).sum::<u64>(), 40);
    // The first page of the test was due 2.3 s before the end.
    let longest = pages.iter().filter_map(|query| query.latency.max_nanos()).max().unwrap();
    assert!(longest >= 2_000_000_000, "{longest}");
    assert!(pages.iter().all(|query| query.latency.is_lower_bound(query.latency.max_nanos().unwrap())));
    assert!(!record.unsustained.is_empty() && record.census.is_none());

    // With a timeout the reads fail, and count with their lower bound.
    let options = RunOptions { query_timeout: Duration::from_millis(200), ..RunOptions::default() };
    let record = run(faulty(Kind::HangsOnPages).await, &config(quiet), &options).await.map_err(fail)?;
    let pages: Vec<_> = record.queries.iter().filter(|query| query.query_type == QueryType::GetJobs).collect();
    assert_eq!(pages.iter().map(|query| query.failed).sum::<u64>(), 40);
    assert!(pages.iter().all(|query| query.latency.min_nanos().unwrap() >= 199_000_000));
    assert!(record.census.unwrap().differences.is_empty());
    Ok(())
}

/// The census of a load without reads does not complete, nor the check of the store before it.
async fn server_falls_silent() -> Verdict {
    let quiet = "
abortAfter: 1s
actionsConfig: {jobSetReprioritisations: [], jobSetCancellations: []}
queryConfig: {getJobsQueriesPerHour: 0, getJobGroupsQueriesPerHour: 0, getJobSpecQueriesPerHour: 0,
  getJobRunErrorQueriesPerHour: 0, getJobRunDebugMessageQueriesPerHour: 0}
lookoutQueryConfig: {activeJobSetsQueriesPerHour: 0, containsQueriesPerHour: 0, deepOffsetQueriesPerHour: 0,
  ownerQueriesPerHour: 0, poolQueriesPerHour: 0}
slo: [ingest.max < 10m]
";
    let options = RunOptions::default();
    let began = Instant::now();
    let record = run(faulty(Kind::FallsSilent(1)).await, &config(quiet), &options).await.map_err(fail)?;
    let [census] = record.failures.as_slice() else { panic!("{:?}", record.failures) };
    assert_eq!((census.phase, census.error.as_str()), (Phase::Census, "the store did not respond for 1s"));
    assert!(record.phase(Phase::TearDown).is_none() && record.ingester.batches_executed > 0);
    let error = run(faulty(Kind::FallsSilent(0)).await, &config(quiet), &options).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Timeout, "the store did not respond for 1s"));
    // Without the limit both would wait for the drain of 300 s.
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    Ok(())
}

async fn silent_server() -> Verdict {
    let record = run(faulty(Kind::HidesActivity).await, &config(""), &RunOptions::default()).await.map_err(fail)?;
    assert_eq!(record.census.unwrap().differences, Vec::<String>::new());
    // Each problem once, although two samples failed and further ones had no answer.
    let [hidden, silent] = record.activity_problems.as_slice() else { panic!("{:?}", record.activity_problems) };
    assert!(hidden.ends_with("hidden") && silent.ends_with("no answer in time"), "{hidden}, {silent}");
    assert!(record.activity.len() >= 3);
    assert!(
        record.activity.iter().all(|sample| sample
            .counters
            .keys()
            .all(|name| name.ends_with("CpuMicros") || name == "generatorWaitMicros"))
    );
    Ok(())
}
