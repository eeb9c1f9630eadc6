//! The load of a store of known capacity, and the search for its rate.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broadside::load::record::{Phase, QueryType, RunRecord, TrialOutcome};
use broadside::load::{LoadConfig, LoadTest, RunOptions};
use broadside::measure::LatencyHistogram;
use broadside::{Database, IngestionBatch, ReadCall, Result};
use libtest_mimic::Trial;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{config, run};
use crate::support::backends::Backend;
use crate::support::faulty::{Fault, Faulty};
use crate::support::harness::server_trial;

/// The number of searches, 1 by default. A campaign on an idle machine:
/// `BROADSIDE_SEARCHES=10 cargo test --test servers -- token-bucket --nocapture`.
const SEARCHES: &str = "BROADSIDE_SEARCHES";
/// The capacity of the store, in queries per second.
const CAPACITY: f64 = 2700.0;
/// The capacity of the store, in reads per second.
const READ_CAPACITY: f64 = 60.0;
/// The queries of a life: one for the submission and two for each of its four transitions.
const QUERIES_PER_JOB: f64 = 9.0;
/// The maximum credit of a store without calls.
const BURST: Duration = Duration::from_millis(10);

pub fn trials() -> Vec<Trial> {
    vec![
        server_trial(Backend::MEMORY, "the-rate-found-is-that-of-a-token-bucket", searches),
        server_trial(Backend::MEMORY, "the-delay-grows-by-the-surplus-of-the-load", overload),
        server_trial(Backend::MEMORY, "a-trial-that-is-ended-early-is-a-violation", ended_early),
    ]
}

/// Token buckets of ingestion queries and of reads.
#[derive(Debug)]
struct Limited {
    batches: Bucket,
    reads: Bucket,
}

impl Default for Limited {
    fn default() -> Self {
        Self { batches: Bucket::new(CAPACITY), reads: Bucket::new(READ_CAPACITY) }
    }
}

#[derive(Debug)]
struct Bucket {
    capacity: f64,
    /// The time at which all accepted work is done.
    busy_until: Mutex<Instant>,
}

impl Bucket {
    fn new(capacity: f64) -> Self {
        Self { capacity, busy_until: Mutex::new(Instant::now()) }
    }

    async fn take(&self, count: usize) {
        let end = {
            let mut busy_until = self.busy_until.lock();
            let start = (*busy_until).max(Instant::now() - BURST);
            *busy_until = start + Duration::from_secs_f64(count as f64 / self.capacity);
            *busy_until
        };
        tokio::time::sleep_until(end).await;
    }
}

#[async_trait]
impl Fault for Limited {
    async fn batch(&self, store: &dyn Database, batch: &IngestionBatch) -> Result<()> {
        self.batches.take(batch.query_count()).await;
        store.execute_ingestion_query_batch(batch).await
    }

    async fn read(&self, _: ReadCall) -> Result<()> {
        self.reads.take(1).await;
        Ok(())
    }
}

async fn searches() {
    let searches: usize = std::env::var(SEARCHES).map_or(1, |text| text.parse().unwrap());
    let capacity = CAPACITY / QUERIES_PER_JOB;
    let mut wrong = Vec::new();
    for _ in 0..searches {
        let (record, config) = search(capacity).await;
        let search = record.rate_search.clone().unwrap();
        if let Some(highest) = search.highest {
            assert_confirmed(&record, highest);
        }
        assert_eq!(record.configuration, serde_json::to_value(&config).unwrap());
        let share = search.highest.unwrap_or(0.0) / capacity;
        println!("found {share:.3} of the capacity");
        // A search that the lag of the driver disturbs has no result. In a campaign, the machine must be idle.
        let is_right = (0.85..=1.0).contains(&share) || search.inconclusive.is_some() && searches == 1;
        if !is_right {
            wrong.push(search);
        }
    }
    assert!(wrong.is_empty(), "the capacity is {capacity}: {wrong:?}");
}

/// Asserts that the record is that of a test which lasted five times as long as the other trials.
fn assert_confirmed(record: &RunRecord, highest: f64) {
    let test = record.phase(Phase::Test).unwrap();
    let test = test.end_nanos - test.start_nanos;
    assert!((7_500_000_000..7_600_000_000).contains(&test), "{test}");
    let trials = &record.rate_search.as_ref().unwrap().trials;
    let last = trials.last().unwrap();
    assert_eq!((last.rate, last.confirms, last.outcome), (highest, true, TrialOutcome::Passed));
    assert_eq!(last.test_nanos, test);
    assert!(trials.iter().any(|trial| trial.rate == highest && !trial.confirms));
    // The rate times the duration are the submissions that were due, each with nine queries.
    let queries = highest * QUERIES_PER_JOB * 7.5;
    assert!((record.ingester.queries_due as f64 / queries - 1.0).abs() < 0.01, "{queries}: {:?}", record.ingester);
    assert!((0.9..=1.0).contains(&(last.achieved / highest)), "{last:?}");
}

async fn search(capacity: f64) -> (RunRecord, LoadConfig) {
    // The life takes 160 ms. No rate of the bisection is within 3 % above the capacity, where a short test cannot
    // detect that the backlog grows.
    let config = config(&format!(
        "
testDuration: 1500ms
warmupDuration: 400ms
ingestionConfig:
  submissionsPerHour: {}
  batchTimeout: 50ms
  jobStateTransitionConfig:
    queueingDuration: 40ms
    leasedDuration: 40ms
    pendingDuration: 40ms
    proportionSucceed: 1
    runningToSuccessDuration: 40ms
",
        (capacity * 0.8 * 3600.0) as u64
    ));
    (find_rate(Limited::default(), &config).await, config)
}

async fn find_rate(fault: impl Fault + 'static, config: &LoadConfig) -> RunRecord {
    let store = Faulty::memory(Arc::new(fault)).await;
    LoadTest::new(config.clone()).find_rate(Arc::new(store)).await.unwrap()
}

/// A trial that `abortOn` ends early is a violation, and its data are removed: the next trial requires an empty store.
async fn ended_early() {
    let mut config = config("{testDuration: 3s, ingestionConfig: {submissionsPerHour: 7200}, slo: ingest.max < 1us}");
    config.abort_on = config.slo.clone();
    let record = find_rate(Limited::default(), &config).await;
    let search = record.rate_search.unwrap();
    assert_eq!((search.highest, search.inconclusive), (None, None), "{:?}", search.trials);
    let trials: Vec<_> = search.trials.iter().map(|trial| (trial.rate, trial.outcome)).collect();
    assert_eq!(trials, [2.0, 1.0].map(|rate| (rate, TrialOutcome::Violated)));
    let reason = "the objective ingest.max < 1us cannot be met any more";
    assert!(search.trials[0].reasons.iter().any(|other| other == reason), "{:?}", search.trials);
    assert_eq!(record.failures, []);
}

/// The load of a store beyond its capacity grows by the surplus, also if the calls wait for the store and not for the
/// driver: reads without a limit of their number all call at once.
async fn overload() {
    for (load, is_sustained) in [(0.7, true), (1.5, false)] {
        let config = config(&format!(
            "
ingestionConfig: {{submissionsPerHour: {}, batchTimeout: 50ms}}
queryConfig: {{getJobSpecQueriesPerHour: {}}}
testDuration: 3s
warmupDuration: 200ms
",
            (load * CAPACITY * 3600.0) as u64,
            (load * READ_CAPACITY * 3600.0) as u64
        ));
        let store = Faulty::memory(Arc::new(Limited::default())).await;
        let record = run(Arc::new(store), &config, &RunOptions::default()).await;
        assert_eq!(record.unsustained.is_empty(), is_sustained, "load {load}: {:?}", record.unsustained);
        for (name, query_type) in [("ingestion", None), ("GetJobSpec", Some(QueryType::GetJobSpec))] {
            let reason = format!("{name}: the delay grew by ");
            assert_eq!(record.unsustained.iter().any(|text| text.starts_with(&reason)), !is_sustained);
            // An arrival after t seconds waits for t × (load - 1) seconds of work. From the middle of the first part to
            // that of the last are 19 of 20 parts.
            let delays = record.delays.iter().find(|delays| delays.query_type == query_type).unwrap();
            let mean = |part: usize| delays.nanos[part] as f64 / delays.arrivals[part] as f64 / 1e9;
            let (grew, surplus) = (mean(19) - mean(0), f64::max(load - 1.0, 0.0) * 3.0 * 19.0 / 20.0);
            assert!((grew - surplus).abs() < 0.25, "{name} at {load}: {grew} s, expected {surplus}");
            assert_eq!(delays.arrivals.iter().sum::<u64>(), latency(&record, query_type).count());
        }
    }
}

fn latency(record: &RunRecord, query_type: Option<QueryType>) -> &LatencyHistogram {
    let reads = |query_type| record.queries.iter().find(|query| query.query_type == query_type).unwrap();
    query_type.map_or(&record.ingester.latency, |query_type| &reads(query_type).latency)
}
