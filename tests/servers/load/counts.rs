//! Each event and each read is counted once: in-process stores with faults, and arithmetic.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use broadside::load::record::{Phase, QueryType, RunRecord};
use broadside::load::upstream::result_file;
use broadside::load::{LoadConfig, RunOptions, Verdict, parse_duration};
use broadside::measure::LatencyHistogram;
use broadside::{Database, Error, ErrorKind, IngestionBatch, Operation, ReadCall, Result};
use libtest_mimic::Trial;
use parking_lot::Mutex;

use super::{assert_latencies, assert_parts, between, config, driver_lag, nearest_rank, run, start_micros};
use crate::support::backends::Backend;
use crate::support::faulty::{Fault, Faulty};
use crate::support::harness::server_trial;

/// The delay of a slow call.
const DELAY: Duration = Duration::from_millis(20);
/// The duration of a drain that cuts off calls.
const DRAIN: Duration = Duration::from_millis(300);
const ALWAYS: Range<Duration> = Duration::ZERO..Duration::MAX;

pub fn trials() -> Vec<Trial> {
    vec![
        server_trial(Backend::MEMORY, "each-event-has-a-latency", each_event_has_a_latency),
        server_trial(Backend::MEMORY, "each-due-call-is-counted-if-the-store-hangs", || cut_off(Kind::Hangs)),
        server_trial(Backend::MEMORY, "each-due-call-is-counted-if-the-store-fails", || cut_off(Kind::Fails)),
        server_trial(Backend::MEMORY, "each-due-job-is-stored-unfinished-or-shed", shed),
        server_trial(Backend::MEMORY, "failures-of-the-warm-up-are-not-in-the-test", failing_warm_up),
        server_trial(Backend::MEMORY, "shed-jobs-of-the-warm-up-are-not-in-the-test", shedding_warm_up),
        server_trial(Backend::MEMORY, "a-small-backlog-does-not-stop-other-workers", small_backlog),
        server_trial(Backend::MEMORY, "parts-do-not-exceed-the-whole", parts),
        server_trial(Backend::MEMORY, "upstream-execution-is-the-call-alone", execution),
        server_trial(Backend::MEMORY, "a-run-whose-batches-all-fail-ends", all_fail),
        server_trial(Backend::MEMORY, "a-run-whose-reads-all-fail-ends", reads_fail),
        server_trial(Backend::MEMORY, "a-run-that-cannot-meet-an-objective-ends", lost_objective),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Hangs,
    Fails,
    FailsReads,
    /// Each call takes [`DELAY`] longer.
    IsSlow,
}

/// A fault that begins and ends at times since the first batch.
#[derive(Debug)]
struct Phased {
    kind: Kind,
    window: Range<Duration>,
    first: OnceLock<Instant>,
    /// The number of events in batches that succeeded, if all jobs that end succeed.
    events: AtomicU64,
    /// The latency of each job: from its submission to the end of its batch.
    latencies: Mutex<Vec<Duration>>,
    /// The duration of each batch that succeeded.
    calls: Mutex<Vec<Duration>>,
    /// The first submission time in batches that did not succeed.
    hung: Mutex<Option<i64>>,
}

fn phased(kind: Kind, window: Range<Duration>) -> Arc<Phased> {
    let (first, events) = (OnceLock::new(), AtomicU64::new(0));
    let (latencies, calls, hung) = (Default::default(), Default::default(), Default::default());
    Arc::new(Phased { kind, window, first, events, latencies, calls, hung })
}

impl Phased {
    async fn apply(&self, operation: Operation) -> Result<()> {
        if self.first.get().is_none_or(|first| !self.window.contains(&first.elapsed())) {
            return Ok(());
        }
        match self.kind {
            Kind::Hangs => std::future::pending().await,
            Kind::FailsReads if operation == Operation::ExecuteIngestionQueryBatch => Ok(()),
            Kind::Fails | Kind::FailsReads => Err(Error::new(ErrorKind::Unavailable, operation, "away")),
            Kind::IsSlow => {
                tokio::time::sleep(DELAY).await;
                Ok(())
            }
        }
    }

    fn stored_events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Fault for Phased {
    async fn batch(&self, store: &dyn Database, batch: &IngestionBatch) -> Result<()> {
        let began = Instant::now();
        self.first.get_or_init(|| began);
        let due: Vec<_> = batch.jobs().iter().map(|job| job.submitted.as_micros()).collect();
        if self.kind == Kind::Hangs && self.window.contains(&self.first.get().unwrap().elapsed()) {
            let mut hung = self.hung.lock();
            *hung = hung.iter().chain(&due).copied().min();
        }
        self.apply(Operation::ExecuteIngestionQueryBatch).await?;
        store.execute_ingestion_query_batch(batch).await?;
        let inserts = batch.jobs().len();
        // Each other event has two queries.
        self.events.fetch_add((inserts + (batch.query_count() - inserts) / 2) as u64, Ordering::Relaxed);
        let now = broadside::Clock::now(&broadside::SystemClock).as_micros();
        self.latencies.lock().extend(due.into_iter().map(|due| between(due, now)));
        self.calls.lock().push(began.elapsed());
        Ok(())
    }

    async fn read(&self, call: ReadCall) -> Result<()> {
        drop(call);
        self.apply(Operation::GetJobs).await
    }
}

async fn run_on(fault: &Arc<Phased>, config: &LoadConfig, drain: Duration) -> RunRecord {
    let options = RunOptions { drain, ..RunOptions::default() };
    run(Arc::new(Faulty::memory(fault.clone()).await), config, &options).await
}

async fn each_event_has_a_latency() {
    let store = phased(Kind::IsSlow, Duration::from_millis(500)..Duration::from_millis(1500));
    let record = run_on(&store, &config(""), RunOptions::default().drain).await;
    let latencies = store.latencies.lock().clone();
    assert_latencies(&record.ingester.latency, latencies, Duration::from_millis(2), Duration::from_millis(50));
    assert_parts(&record);
}

/// 200 jobs per second for 2 s, with a transition after 200, 300, 400 and 700 ms.
const LIVES: &str = "
ingestionConfig:
  jobStateTransitionConfig:
    queueingDuration: 200ms
    leasedDuration: 100ms
    pendingDuration: 100ms
    proportionSucceed: 1
    runningToSuccessDuration: 300ms
queryConfig: {getJobsQueriesPerHour: 180000, getJobGroupsQueriesPerHour: 180000, maxConcurrentQueries: 4}
";
const EVENTS: u64 = 400 + 360 + 340 + 320 + 260;

async fn cut_off(kind: Kind) {
    // With small queues, some events that are due have not entered a queue.
    for queues in
        ["batchSize: 100", "batchSize: 10, channelBufferSizeMultiplier: 1", "batchSize: 10, maxBacklogSize: 5"]
    {
        let store = phased(kind, Duration::from_secs(1)..Duration::MAX);
        let config = LoadConfig::parse(
            [
                ("base.yaml", super::BASE),
                ("lives.yaml", LIVES),
                ("queues.yaml", &format!("ingestionConfig: {{{queues}}}")),
            ],
            [],
        );
        let record = run_on(&store, &config.unwrap().config, DRAIN).await;
        let latency = &record.ingester.latency;
        let stored = store.stored_events();
        let counted = (latency.count() - latency.unfinished(), latency.unfinished());
        assert_eq!(counted, (stored, EVENTS - stored), "(stored, unfinished) with {queues}");
        for kind in [QueryType::GetJobs, QueryType::GetJobGroups] {
            let of_kind: Vec<_> = record.queries.iter().filter(|query| query.query_type == kind).collect();
            let sum = |count: fn(&&broadside::load::record::QueryRecord) -> u64| of_kind.iter().map(count).sum::<u64>();
            let (failed, unfinished) = (sum(|query| query.failed), sum(|query| query.unfinished));
            assert_eq!(sum(|query| query.executed) + failed + unfinished, 100, "{kind} with {queues}");
            assert_eq!(sum(|query| query.latency.count()), 100, "{kind} with {queues}");
            assert_eq!(sum(|query| query.latency.unfinished()), failed + unfinished, "{kind} with {queues}");
            // The faults began in the middle of the test.
            assert!((10..=90).contains(&(failed + unfinished)), "{kind}: {failed} failed, {unfinished} unfinished");
        }
        assert_parts(&record);
    }
}

async fn shed() {
    let config = config("ingestionConfig: {maxBacklogSize: 10, backlogDropStrategy: drop}");
    let store = phased(Kind::Hangs, Duration::from_secs(1)..Duration::MAX);
    let record = run_on(&store, &config, DRAIN).await;
    let latency = &record.ingester.latency;
    let stored = store.stored_events();
    assert_eq!(latency.count() - latency.unfinished(), stored);
    assert_eq!(latency.count() + record.ingester.jobs_dropped, 400);
    // Each worker has a batch in flight and a full queue. Those that were sent may have been fewer than 10.
    assert!(record.ingester.jobs_dropped > 50 && latency.unfinished() >= 40, "{:?}", record.ingester);
    let oldest = between(store.hung.lock().unwrap(), start_micros(&record, Phase::Drain)) + drain(&record);
    let longest = Duration::from_nanos(latency.max_nanos().unwrap());
    assert!(longest.abs_diff(oldest) <= oldest / 400, "{longest:?} instead of {oldest:?}");
    assert_parts(&record);
}

fn drain(record: &RunRecord) -> Duration {
    let drain = record.phase(Phase::Drain).unwrap();
    Duration::from_nanos(drain.end_nanos - drain.start_nanos)
}

/// Four workers that each have a batch of 10 jobs in flight store 2,000 jobs per second, one 500.
async fn small_backlog() {
    let stored = async |backlog: u64| {
        let store = phased(Kind::IsSlow, ALWAYS);
        let limit =
            format!("ingestionConfig: {{batchSize: 10, submissionsPerHour: 14400000, maxBacklogSize: {backlog}}}");
        run_on(&store, &config(&format!("testDuration: 1s\n{limit}")), Duration::ZERO).await;
        store.stored_events()
    };
    let (limited, unlimited) = (stored(10).await, stored(0).await);
    assert!(limited * 2 >= unlimited, "{limited} jobs with the limit, {unlimited} without");
}

const WARM_UP: &str = "
testDuration: 1s
warmupDuration: 1500ms
queryConfig: {getJobsQueriesPerHour: 180000}
";

async fn failing_warm_up() {
    let store = phased(Kind::Fails, Duration::ZERO..Duration::from_millis(400));
    let record = run_on(&store, &config(WARM_UP), RunOptions::default().drain).await;
    assert_eq!(record.census.as_ref().unwrap().differences, Vec::<String>::new());
    assert_eq!(record.ingester.batches_failed, 0);
    assert_eq!(record.queries.iter().map(|query| query.failed).sum::<u64>(), 0);
    assert_eq!(record.error_count, 0, "{:?}", record.errors);
    assert_of_test(&record);
}

async fn shedding_warm_up() {
    let store = phased(Kind::IsSlow, Duration::ZERO..Duration::from_millis(500));
    let shed = "ingestionConfig: {maxBacklogSize: 1, batchSize: 1, numWorkers: 2, backlogDropStrategy: drop}";
    let config = LoadConfig::parse([("base.yaml", super::BASE), ("warm-up.yaml", WARM_UP), ("shed.yaml", shed)], []);
    let record = run_on(&store, &config.unwrap().config, RunOptions::default().drain).await;
    let stored = store.stored_events();
    // 100 jobs were due in the slow 500 ms, in which two workers have stored at most 50.
    assert!(stored <= 460, "{stored} jobs were stored, so none was shed");
    assert_eq!(record.census.as_ref().unwrap().differences, Vec::<String>::new());
    // A busy machine may shed jobs of the test.
    assert_eq!(record.ingester.latency.count() + record.ingester.jobs_dropped, 200);
}

/// Asserts that the measurements are of the 200 jobs and 50 pages of the test.
fn assert_of_test(record: &RunRecord) {
    assert_eq!(record.ingester.latency.count(), 200);
    assert_eq!(driver_lag(record).count(), 200);
    assert_eq!(record.queries.iter().map(|query| query.latency.count()).sum::<u64>(), 50);
    assert!(Duration::from_nanos(record.ingester.latency.max_nanos().unwrap()) < Duration::from_secs(1));
    // On a busy machine, the lag of the driver may be too long.
    let others: Vec<_> = record.invalid.iter().filter(|reason| !reason.contains("lag")).collect();
    assert!(others.is_empty(), "{others:?}");
}

/// Each batch has one event, so that the means of the parts add up as those of reads do.
async fn parts() {
    let config = config(
        "
ingestionConfig: {batchSize: 1, numWorkers: 2, submissionsPerHour: 288000}
queryConfig: {getJobsQueriesPerHour: 144000, maxConcurrentQueries: 1}
",
    );
    let store = phased(Kind::IsSlow, ALWAYS);
    let record = run_on(&store, &config, RunOptions::default().drain).await;
    assert_parts(&record);
    assert_eq!(record.ingester.latency.count(), 160);
    let json = serde_json::to_value(&record).unwrap();
    let kinds = json["queries"].as_array().unwrap().iter().map(|query| (query, "slotWait"));
    for (kind, wait) in kinds.chain([(&json["ingester"], "backlogWait")]) {
        let [whole, service, wait, lag] = ["latency", "serviceTime", wait, "driverLag"].map(|part| {
            let histogram: LatencyHistogram = serde_json::from_value(kind[part].clone()).unwrap();
            (histogram.count(), histogram.mean_nanos().unwrap())
        });
        assert!([service.0, wait.0, lag.0].iter().all(|&count| count == whole.0), "{kind}");
        assert!(service.1 >= DELAY.as_nanos() as f64 * 0.998, "{kind}");
        let sum = service.1 + wait.1 + lag.1;
        // Due times have the resolution of a microsecond.
        assert!((sum - whole.1).abs() <= whole.1 * 0.002 + 2000.0, "{sum} ns instead of {} ns", whole.1);
    }
}

/// Events wait up to 300 ms for their batches, whose calls take 20 ms.
async fn execution() {
    let config = config("ingestionConfig: {numWorkers: 1, batchTimeout: 300ms}");
    let store = phased(Kind::IsSlow, ALWAYS);
    let record = run_on(&store, &config, RunOptions::default().drain).await;
    let file: serde_json::Value = serde_json::from_str(&result_file(&record)).unwrap();
    let mut calls = store.calls.lock().clone();
    calls.sort();
    for (key, quantile) in [("p50ExecutionLatency", 0.5), ("p99ExecutionLatency", 1.0)] {
        let text = file["results"]["ingester"][key].as_str().unwrap();
        let (measured, truth) = (parse_duration(text).unwrap(), nearest_rank(&calls, quantile));
        assert!(measured >= truth.mul_f64(0.998) && measured <= truth * 2, "{key} is {text}, the calls {calls:?}");
    }
}

async fn all_fail() {
    let config = config("testDuration: 60s\nabortAfter: 2s");
    let store = phased(Kind::Fails, ALWAYS);
    let began = Instant::now();
    let running = run_on(&store, &config, RunOptions::default().drain);
    let record = tokio::time::timeout(Duration::from_secs(20), running).await.expect("the run ends after 2 s");
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(record.errors[0].error.contains("away"), "{:?}", record.errors);
    // All events until the end of the run are lower bounds.
    let latency = &record.ingester.latency;
    assert_eq!((latency.count(), record.ingester.batches_executed), (latency.unfinished(), 0));
    assert!(latency.count() >= 300, "{}", latency.count());
    assert!(!record.is_sound());
}

/// The first batch is stored, and no other is due.
async fn reads_fail() {
    let rates = "ingestionConfig: {submissionsPerHour: 36}\nqueryConfig: {getJobsQueriesPerHour: 72000}";
    let config = config(&format!("testDuration: 60s\nabortAfter: 1s\n{rates}"));
    let store = phased(Kind::FailsReads, ALWAYS);
    let running = run_on(&store, &config, RunOptions::default().drain);
    let record = tokio::time::timeout(Duration::from_secs(20), running).await.expect("the run ends after 1 s");
    assert_eq!(record.aborted.as_deref(), Some("no read succeeded for 1s"));
    assert_eq!((record.ingester.batches_executed, record.verdict()), (1, Verdict::NotSustained));
}

/// Each page takes longer than the maximum.
async fn lost_objective() {
    let pages = "queryConfig: {getJobsQueriesPerHour: 180000}\nabortOn: [ingest.max < 1h, page.max < 10ms]";
    let config = config(&format!("testDuration: 60s\n{pages}"));
    let store = phased(Kind::IsSlow, ALWAYS);
    let running = run_on(&store, &config, RunOptions::default().drain);
    let record = tokio::time::timeout(Duration::from_secs(20), running).await.expect("the run ends after a second");
    assert_eq!(record.aborted.as_deref(), Some("the objective page.max < 10ms cannot be met any more"));
    assert_eq!((record.partial, record.verdict()), (false, Verdict::NotSustained));
    // The record has the pages until then.
    let test = record.phase(Phase::Test).unwrap();
    let seconds = (test.end_nanos - test.start_nanos) as f64 / 1e9;
    let pages = record.queries.iter().map(|query| query.due()).sum::<u64>() as f64;
    assert!((pages - 50.0 * seconds).abs() <= 2.0, "{pages} in {seconds} s");
}
