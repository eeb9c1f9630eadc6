//! The measurements of load tests, compared with truths from elsewhere: commit times of the server, times of a proxy
//! that freezes and cuts, counts of the store, and arithmetic.

mod counts;
mod ends;
mod freeze;
mod rate;
mod shares;
use std::sync::Arc;
use std::time::Duration;

use broadside::Database;
use broadside::load::record::RunRecord;
use broadside::load::{LoadConfig, LoadTest, RunOptions};
use broadside::measure::LatencyHistogram;
use libtest_mimic::Trial;

/// The longest ones first.
pub fn trials() -> Vec<Trial> {
    let trials = [rate::trials(), freeze::trials(), ends::trials(), counts::trials(), shares::trials()];
    trials.into_iter().flatten().collect()
}

/// The jobs have no transitions, so that each is one event and one query.
const BASE: &str = "
testDuration: 2s
databaseConfig: {inMemory: true}
queueConfig: [{name: q, proportion: 1, jobSetConfig: [{name: s, proportion: 1}]}]
ingestionConfig:
  batchSize: 100
  batchTimeout: 20ms
  numWorkers: 4
  submissionsPerHour: 720000
  jobStateTransitionConfig: {queueingDuration: 1h}
";

fn config(overrides: &str) -> LoadConfig {
    LoadConfig::parse([("base.yaml", BASE), ("test.yaml", overrides)], []).unwrap().config
}

/// A run that is not stopped.
async fn run(database: Arc<dyn Database>, config: &LoadConfig, options: &RunOptions) -> RunRecord {
    LoadTest::new(config.clone()).with_options(options.clone()).run(database).await.unwrap()
}

/// The value of a sorted list at a quantile by nearest rank.
fn nearest_rank(sorted: &[Duration], quantile: f64) -> Duration {
    sorted[((quantile * sorted.len() as f64).ceil() as usize).max(1) - 1]
}

/// The quantiles of a list, and its maximum.
const QUANTILES: [f64; 5] = [0.5, 0.95, 0.99, 0.999, 1.0];

/// Asserts that a histogram has a value for each of these latencies, which are lower bounds, and that none of its
/// quantiles exceeds that of the list by more than `above`.
fn assert_latencies(latency: &LatencyHistogram, mut truth: Vec<Duration>, below: Duration, above: Duration) {
    truth.sort();
    assert_eq!(latency.count(), truth.len() as u64, "one value for each");
    let measured = latency.curve(QUANTILES).into_iter().map(Duration::from_nanos);
    let table: Vec<_> = QUANTILES.into_iter().zip(measured).map(|(q, got)| (q, nearest_rank(&truth, q), got)).collect();
    for &(quantile, truth, measured) in &table {
        // The histogram has three significant digits.
        let (least, most) = (truth.mul_f64(0.998).saturating_sub(below), truth.mul_f64(1.002) + above);
        assert!((least..=most).contains(&measured), "quantile {quantile} of (quantile, truth, measured) {table:?}");
    }
}

/// Asserts that no part of a latency exceeds the whole.
fn assert_parts(record: &RunRecord) {
    let ingester = &record.ingester;
    let lag = driver_lag(record);
    assert!(lag.count() > 0 && lag.count() <= ingester.latency.count() && lag.unfinished() == 0, "{lag:?}");
    for part in [&ingester.backlog_wait, &ingester.service_time, &lag] {
        assert_is_part("ingestion", part, &ingester.latency);
    }
    assert!(ingester.backlog_wait.count() <= ingester.latency.count());
    for query in &record.queries {
        for part in [&query.slot_wait, &query.service_time] {
            assert_is_part(&query.name(), part, &query.latency);
        }
    }
}

fn assert_is_part(name: &str, part: &LatencyHistogram, whole: &LatencyHistogram) {
    let (part, whole) = (part.max_nanos().unwrap_or(0), whole.max_nanos().unwrap_or(0));
    assert!(part as f64 <= whole as f64 * 1.002, "{name}: a part has {part} ns, the whole {whole} ns");
}

/// The lag of the driver for each event of ingestion.
fn driver_lag(record: &RunRecord) -> LatencyHistogram {
    let json = serde_json::to_value(&record.ingester).unwrap();
    let lag = json.get("driverLag").expect("the record has the lag of the driver");
    serde_json::from_value(lag.clone()).unwrap()
}

/// The start of a phase, in microseconds since the epoch.
fn start_micros(record: &RunRecord, phase: broadside::load::record::Phase) -> i64 {
    record.started.as_micros() + (record.phase(phase).unwrap().start_nanos / 1000) as i64
}

/// The microseconds from one time to another, 0 if it is not later.
fn between(from: i64, to: i64) -> Duration {
    Duration::from_micros(u64::try_from(to - from).unwrap_or(0))
}
