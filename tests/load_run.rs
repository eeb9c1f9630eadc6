//! Load tests, short ones, on every backend: that nothing is lost, and that what goes wrong is seen.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use broadside::ingest::InsertJob;
use broadside::load::record::{ActionType, Phase, QueryType, RunRecord};
use broadside::load::{self, LoadConfig, RecordedRead, RunOptions, Unobserved};
use broadside::{
    BackendKind, Database, Error, ErrorKind, GroupQuery, HistoricalJobs, IngestionBatch, Job, JobGroup, JobQuery,
    Operation, Progress, Result, api,
};
use libtest_mimic::{Arguments, Trial};
use support::backends::Backend;
use support::harness::{TestStoreRef, Verdict, describe, trial};
use support::jobs::plain_job;
use tokio::sync::watch;

fn main() {
    let arguments = Arguments::from_args();
    let backends = [Backend::MODEL].into_iter().chain(Backend::ALL);
    let mut trials: Vec<_> = backends.flat_map(on_every_backend).collect();
    trials.extend(on_the_model());
    trials.push(stall::trial());
    libtest_mimic::run(&arguments, trials).exit();
}

fn on_every_backend(backend: Backend) -> [Trial; 3] {
    [
        trial(backend, "a-load-is-stored-whole", stored_whole),
        trial(backend, "historical-jobs-are-resumed-if-they-are-the-same", resumed),
        trial(backend, "a-store-with-other-jobs-is-refused", refused),
    ]
}

fn on_the_model() -> [Trial; 5] {
    [
        trial(Backend::MODEL, "a-stopped-run-writes-what-was-measured", stopped),
        trial(Backend::MODEL, "what-a-store-loses-is-named", |_| loses()),
        trial(Backend::MODEL, "batches-that-fail-are-sent-again", |_| fails_at_times()),
        trial(Backend::MODEL, "reads-that-never-complete-count", |_| never_answers()),
        trial(Backend::MODEL, "a-rate-is-found", |_| finds_a_rate()),
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
    LoadConfig::parse([("base.yaml", BASE), ("test.yaml", overrides)]).unwrap().config
}

/// A run that is not stopped.
async fn run(database: Arc<dyn Database>, config: &LoadConfig, options: &RunOptions) -> Result<RunRecord> {
    let (_stop, stopped) = watch::channel(false);
    load::run(database, config, options, Arc::new(Unobserved), stopped).await
}

fn fail(error: Error) -> String {
    describe(&error)
}

async fn stored_whole(store: TestStoreRef) -> Verdict {
    let recorded = r#"{"op":"getJobs","time":"2026-01-01T00:00:00Z","take":3}
{"op":"getJobGroups","time":"2026-01-01T00:00:00.5Z","groupedField":{"field":"owner"}}
{"op":"getJobs","time":"2026-01-01T01:00:00Z"}"#;
    let options = RunOptions { recorded: RecordedRead::parse(recorded).unwrap(), ..RunOptions::default() };
    let record = run(store.database.clone(), &config(""), &options).await.map_err(fail)?;
    let census = record.census.as_ref().expect("a census was taken");
    assert_eq!(census.differences, Vec::<String>::new());
    // 600 historical jobs, and 2.5 s of 200 a second.
    assert_eq!((census.jobs, census.sampled), (1100, 256));
    assert_eq!((record.error_count, record.partial), (0, false), "{:?}", record.errors);
    assert!(record.ingester.batches_redelivered > 0);
    assert_eq!(record.ingester.batches_executed, record.ingester.latency.count());

    let queries = |kind, combo: &str| {
        let query =
            record.queries.iter().find(|query| (query.query_type, query.filter_combo.as_str()) == (kind, combo));
        query.unwrap_or_else(|| panic!("no {kind} {combo}")).executed
    };
    let pages: u64 =
        record.queries.iter().filter(|query| query.query_type == QueryType::GetJobs).map(|query| query.executed).sum();
    // 10 a second of upstream's, 2 of each of the five others, and one recorded, for 2 s.
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

    // The servers of the tests show their settings and their memory.
    let (setting, memory_is_known) = match store.database.backend() {
        BackendKind::Postgres => (Some("fsync"), true),
        BackendKind::ClickHouse => (Some("max_threads"), true),
        _ => (None, false),
    };
    assert!(setting.is_none_or(|name| record.store.settings.contains_key(name)), "{:?}", record.store.settings);
    assert_eq!(record.resources.len(), 2);
    assert!(record.resources.iter().all(|sample| sample.server_memory_bytes.is_some() == memory_is_known));

    let actions: Vec<_> = record.actions.iter().map(|action| (action.action, action.end_nanos.is_some())).collect();
    assert_eq!(actions, [(ActionType::Reprioritise, true), (ActionType::Cancel, true)]);
    // A server that lags may store the jobs only after the action has read the active ones.
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

async fn resumed(store: TestStoreRef) -> Verdict {
    let few = "testDuration: 200ms\nwarmupDuration: 0s\nactionsConfig: {jobSetReprioritisations: [], jobSetCancellations: []}\nskipTearDown: true";
    let options = RunOptions::default();
    let first = run(store.database.clone(), &config(few), &options).await.map_err(fail)?;
    if let Err(error) = store.database.set_property("load.probe", "").await {
        // A store that cannot say whose jobs it has is not taken for one's own.
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
    let changed = LoadConfig::parse([("changed.yaml", text.as_str())]).unwrap().config;
    let error = run(store.database.clone(), &changed, &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongStore, "{error}");
    load::tear_down(&*store.database).await.map_err(fail)?;
    run(store.database.clone(), &changed, &RunOptions::default()).await.map_err(fail)?;
    Ok(())
}

async fn refused(store: TestStoreRef) -> Verdict {
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

async fn stopped(store: TestStoreRef) -> Verdict {
    let (stop, stopped) = watch::channel(false);
    let config = config("testDuration: 1h\nwarmupDuration: 0s");
    let options = RunOptions::default();
    let running = load::run(store.database.clone(), &config, &options, Arc::new(Unobserved), stopped);
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

/// A store that fails in a way of its own.
#[derive(Debug)]
struct Faulty {
    inner: Arc<dyn Database>,
    fault: Fault,
    batches: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// Every tenth batch is confirmed and not stored.
    LosesBatches,
    /// Every second batch fails.
    FailsBatches,
    /// Pages are never answered.
    HangsOnPages,
    /// A batch takes as long as its queries do at this rate.
    Slow { queries_per_second: f64 },
}

async fn faulty(fault: Fault) -> Arc<dyn Database> {
    let inner = Backend::MEMORY.open().await.unwrap().database.clone();
    Arc::new(Faulty { inner, fault, batches: AtomicU64::new(0) })
}

#[async_trait]
impl Database for Faulty {
    fn backend(&self) -> BackendKind {
        self.inner.backend()
    }

    async fn initialise_schema(&self) -> Result<()> {
        self.inner.initialise_schema().await
    }

    async fn execute_ingestion_query_batch(&self, batch: &IngestionBatch) -> Result<()> {
        let number = self.batches.fetch_add(1, Ordering::Relaxed);
        match self.fault {
            Fault::LosesBatches if number % 10 == 9 => return Ok(()),
            Fault::FailsBatches if number.is_multiple_of(2) => {
                let error = Error::new(ErrorKind::Unavailable, Operation::ExecuteIngestionQueryBatch, "away");
                // Stored or not, a repetition is right.
                if number.is_multiple_of(4) {
                    self.inner.execute_ingestion_query_batch(batch).await?;
                }
                return Err(error.with_unknown_outcome());
            }
            Fault::Slow { queries_per_second } => {
                tokio::time::sleep(Duration::from_secs_f64(batch.query_count() as f64 / queries_per_second)).await;
            }
            _ => {}
        }
        self.inner.execute_ingestion_query_batch(batch).await
    }

    async fn get_jobs(&self, query: &JobQuery) -> Result<Vec<Job>> {
        if self.fault == Fault::HangsOnPages && self.batches.load(Ordering::Relaxed) > 0 && is_page_of_the_load(query) {
            std::future::pending::<()>().await;
        }
        self.inner.get_jobs(query).await
    }

    async fn get_job_groups(&self, query: &GroupQuery) -> Result<Vec<JobGroup>> {
        self.inner.get_job_groups(query).await
    }

    async fn get_job_spec(&self, job_id: &str) -> Result<api::Job> {
        self.inner.get_job_spec(job_id).await
    }

    async fn get_job_error(&self, job_id: &str) -> Result<String> {
        self.inner.get_job_error(job_id).await
    }

    async fn get_job_run_error(&self, run_id: &str) -> Result<String> {
        self.inner.get_job_run_error(run_id).await
    }

    async fn get_job_run_debug_message(&self, run_id: &str) -> Result<String> {
        self.inner.get_job_run_debug_message(run_id).await
    }

    async fn populate_historical_jobs(
        &self,
        jobs: &HistoricalJobs,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<()> {
        self.inner.populate_historical_jobs(jobs, progress).await
    }

    async fn tear_down(&self) -> Result<()> {
        self.inner.tear_down().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

/// Whether it is a read of the load itself, which alone have a limit of a page.
fn is_page_of_the_load(query: &JobQuery) -> bool {
    query.page().limit().is_some_and(|take| take == 100)
}

async fn loses() -> Verdict {
    let record =
        run(faulty(Fault::LosesBatches).await, &config("redelivery: 0"), &RunOptions::default()).await.map_err(fail)?;
    let differences = record.census.unwrap().differences;
    assert!(differences.iter().any(|difference| difference.contains("jobs should be")), "{differences:?}");
    assert!(differences.iter().any(|difference| difference.contains("is not stored")), "{differences:?}");
    Ok(())
}

async fn fails_at_times() -> Verdict {
    let record = run(faulty(Fault::FailsBatches).await, &config(""), &RunOptions::default()).await.map_err(fail)?;
    assert_eq!(record.census.unwrap().differences, Vec::<String>::new());
    assert!(record.ingester.batches_failed > 0 && record.error_count >= record.ingester.batches_failed);
    assert!(record.errors.iter().all(|error| error.query_type.is_none() && error.error.contains("away")));
    Ok(())
}

async fn never_answers() -> Verdict {
    let quiet =
        "actionsConfig: {jobSetReprioritisations: [], jobSetCancellations: []}\nqueryConfig: {maxConcurrentQueries: 0}";
    let options = RunOptions { drain: Duration::from_millis(300), ..RunOptions::default() };
    let record = run(faulty(Fault::HangsOnPages).await, &config(quiet), &options).await.map_err(fail)?;
    let pages: Vec<_> = record.queries.iter().filter(|query| query.query_type == QueryType::GetJobs).collect();
    assert_eq!(pages.iter().map(|query| query.unfinished).sum::<u64>(), 40);
    // The first page of the test was due 2.3 s before the end.
    let longest = pages.iter().filter_map(|query| query.latency.max_nanos()).max().unwrap();
    assert!(longest >= 2_000_000_000, "{longest}");
    assert!(pages.iter().all(|query| query.latency.is_lower_bound(query.latency.max_nanos().unwrap())));
    assert!(!record.invalid.is_empty() && record.census.is_none());

    // With a deadline they fail, and still count with the time that they took at least.
    let options = RunOptions { query_timeout: Duration::from_millis(200), ..RunOptions::default() };
    let record = run(faulty(Fault::HangsOnPages).await, &config(quiet), &options).await.map_err(fail)?;
    let pages: Vec<_> = record.queries.iter().filter(|query| query.query_type == QueryType::GetJobs).collect();
    assert_eq!(pages.iter().map(|query| query.failed).sum::<u64>(), 40);
    assert!(pages.iter().all(|query| query.latency.min_nanos().unwrap() >= 199_000_000));
    assert!(record.census.unwrap().differences.is_empty());
    Ok(())
}

async fn finds_a_rate() -> Verdict {
    let small = "
testDuration: 1s
warmupDuration: 0s
actionsConfig: {jobSetReprioritisations: [], jobSetCancellations: []}
ingestionConfig: {submissionsPerHour: 360000, numWorkers: 1, jobStateTransitionConfig: {queueingDuration: 1h}}
slo: ingest.max < 400ms
";
    let config = config(small);
    let (_stop, stopped) = watch::channel(false);
    let store = faulty(Fault::Slow { queries_per_second: 500.0 }).await;
    let record =
        load::find_rate(store, &config, &RunOptions::default(), Arc::new(Unobserved), stopped).await.map_err(fail)?;
    let search = record.rate_search.unwrap();
    // Only what arrives within the linger of a batch, on top of what the store takes, can be above its rate. A busy
    // machine may break lower rates too.
    assert!(search.highest.is_none_or(|highest| highest < 1600.0), "{search:?}");
    let first = search.broke_first().unwrap();
    assert!(search.highest.is_none_or(|highest| first.rate > highest) && !first.broke.is_empty(), "{search:?}");
    Ok(())
}

/// A server that stands still for two seconds, as our way of measuring sees it and as upstream's does.
mod stall {
    use broadside::{DatabaseConfig, POSTGRES_URL_VARIABLE, SystemClock};

    use super::support::harness::server_trial;
    use super::support::proxy::{Mode, Proxy};
    use super::*;

    const STALL: Duration = Duration::from_secs(2);

    pub fn trial() -> Trial {
        server_trial(Backend::POSTGRES, "a-stall-shows-in-latency-and-not-in-service-time", shows)
    }

    async fn shows() {
        let address = std::env::var(POSTGRES_URL_VARIABLE).unwrap();
        let proxy = Proxy::start(&address).await;
        let through = proxy.address().parse::<DatabaseConfig>().unwrap();
        let scratch = through.create_scratch(Arc::new(SystemClock)).await.unwrap();
        let config = config(
            "
testDuration: 8s
warmupDuration: 0s
actionsConfig: {jobSetReprioritisations: [], jobSetCancellations: []}
queryConfig: {getJobsQueriesPerHour: 0, getJobGroupsQueriesPerHour: 0, getJobSpecQueriesPerHour: 720000, maxConcurrentQueries: 1, getJobRunErrorQueriesPerHour: 0, getJobRunDebugMessageQueriesPerHour: 0}
lookoutQueryConfig: {activeJobSetsQueriesPerHour: 0, containsQueriesPerHour: 0, deepOffsetQueriesPerHour: 0, ownerQueriesPerHour: 0, poolQueriesPerHour: 0}
ingestionConfig: {submissionsPerHour: 3600}
",
        );
        let options = RunOptions::default();
        let stalling = async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            proxy.set(Mode::Stalled);
            tokio::time::sleep(STALL).await;
            proxy.set(Mode::Open);
        };
        let (record, ()) = tokio::join!(run(scratch.database().clone(), &config, &options), stalling);
        let record = record.unwrap();
        let specs = record.queries.iter().find(|query| query.query_type == QueryType::GetJobSpec).unwrap();
        // Of 1,600 reads, 400 were due while the server stood still, by our way of measuring.
        let nanos = |share: f64| (STALL.as_nanos() as f64 * share) as u64;
        assert!(specs.latency.quantile(0.99).unwrap() >= nanos(0.8), "{:?}", specs.latency.percentiles());
        assert!(specs.latency.max_nanos().unwrap() >= nanos(0.95));
        // Upstream's clock starts after the wait for the slot: one read was slow.
        let service = specs.service_time.quantile(0.99).unwrap();
        assert!(service < nanos(0.25), "{:?}", specs.service_time.percentiles());
        assert!(specs.slot_wait.quantile(0.99).unwrap() >= nanos(0.8));
        let series = record.series.iter().find(|series| series.query_type == Some(QueryType::GetJobSpec)).unwrap();
        assert!(series.intervals.iter().any(|interval| interval.achieved == 0.0 && interval.backlog > 100));
        assert!(series.intervals.iter().any(|interval| interval.p99_nanos.unwrap_or(0) >= nanos(0.8)));
        scratch.remove().await.unwrap();
    }
}
