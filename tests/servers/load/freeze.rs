//! A PostgreSQL server behind a proxy that holds requests or responses for a time.

use std::sync::Arc;
use std::time::Duration;

use broadside::load::RunOptions;
use broadside::load::record::{Phase, QueryType, RunRecord};
use broadside::{Clock, DatabaseConfig, SystemClock};
use libtest_mimic::Trial;

use super::{assert_latencies, assert_parts, between, config, run, start_micros};
use crate::support::backends::Backend;
use crate::support::harness::server_trial;
use crate::support::postgres::session;
use crate::support::proxy::{Mode, Proxy};
use crate::support::server::Server;

const FREEZE: Duration = Duration::from_secs(2);
/// The time from the start of a run to the freeze, after the warm-up and well before the end of the test.
const BEFORE: Duration = Duration::from_secs(4);
/// The difference between the measurement of the load driver and that of the server or of this test: both read the same
/// clock, the server before it sends the response.
const CLOCKS: Duration = Duration::from_millis(2);
const SCHEDULING: Duration = Duration::from_millis(150);

pub fn trials() -> Vec<Trial> {
    vec![
        server_trial(Backend::POSTGRES, "latencies-are-those-of-the-commits", held_requests),
        server_trial(Backend::POSTGRES, "latency-includes-a-stall-and-service-time-does-not", held_responses),
    ]
}

/// Sets a mode of the proxy for the duration of the freeze. Returns its start and its end in microseconds.
async fn freeze(proxy: &Proxy, mode: Mode) -> [i64; 2] {
    tokio::time::sleep(BEFORE).await;
    let start = SystemClock.now().as_micros();
    proxy.set(mode);
    tokio::time::sleep(FREEZE).await;
    // The server gets the requests after this time.
    let end = SystemClock.now().as_micros();
    proxy.set(Mode::Open);
    [start, end]
}

/// The least latency of what was due at a time, if nothing completed in the freeze.
fn frozen(due: i64, [start, end]: [i64; 2]) -> Duration {
    if due < start { Duration::ZERO } else { between(due, end) }
}

/// The server stores nothing during the freeze. Its commit times are the truth.
async fn held_requests() {
    let server = Server::postgres("load-truth", "-c track_commit_timestamp=on");
    let proxy = Proxy::start(server.address()).await;
    let through = proxy.address().parse::<DatabaseConfig>().unwrap();
    let scratch = through.create_scratch(Arc::new(SystemClock)).await.unwrap();
    let config = config(
        "
testDuration: 12s
warmupDuration: 1s
skipTearDown: true
ingestionConfig: {submissionsPerHour: 360000, numWorkers: 8, batchTimeout: 50ms}
slo: [ingest.p99 < 1s]
",
    );
    let options = RunOptions::default();
    let (record, freeze) =
        tokio::join!(run(scratch.database().clone(), &config, &options), freeze(&proxy, Mode::HoldRequests("")));

    let stored = session(&scratch, server.address())
        .await
        .query(
            "SELECT (extract(epoch FROM submitted) * 1000000)::bigint,
                (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint
            FROM job ORDER BY submitted",
            &[],
        )
        .await
        .unwrap();
    scratch.remove().await.unwrap();
    // 100 jobs per second; the first ones were due in the warm-up.
    assert_eq!(stored.len(), 1300);
    let of_test: Vec<(i64, i64)> = stored[100..].iter().map(|row| (row.get(0), row.get(1))).collect();
    let commits = of_test.iter().map(|&(due, commit)| between(due, commit)).collect();
    assert_latencies(&record.ingester.latency, commits, CLOCKS, SCHEDULING);
    let by_arithmetic = of_test.iter().map(|&(due, _)| frozen(due, freeze)).collect();
    assert_latencies(&record.ingester.latency, by_arithmetic, CLOCKS, FREEZE / 2);
    assert!(!record.objectives[0].held, "{:?}", record.objectives);
    let slowest = record.series.iter().find(|series| series.query_type.is_none()).unwrap().intervals.iter();
    assert!(slowest.filter_map(|second| second.p99_nanos).max().unwrap() >= nanos(0.9));
    assert_parts(&record);
}

/// The server commits during the freeze, but its responses arrive afterwards.
async fn held_responses() {
    let proxy = Proxy::start(&Backend::POSTGRES.address()).await;
    let through = proxy.address().parse::<DatabaseConfig>().unwrap();
    let scratch = through.create_scratch(Arc::new(SystemClock)).await.unwrap();
    let config = config(
        "
testDuration: 10s
warmupDuration: 1s
ingestionConfig: {submissionsPerHour: 360000, numWorkers: 8, batchTimeout: 50ms}
queryConfig: {getJobSpecQueriesPerHour: 360000, maxConcurrentQueries: 1}
",
    );
    let options = RunOptions::default();
    let (record, freeze) =
        tokio::join!(run(scratch.database().clone(), &config, &options), freeze(&proxy, Mode::Stalled));
    scratch.remove().await.unwrap();
    let specs = record.queries.iter().find(|query| query.query_type == QueryType::GetJobSpec).unwrap();
    // One event and one read every 10 ms, from a phase in the first 10 ms.
    let interval = Duration::from_millis(10);
    for latency in [&specs.latency, &record.ingester.latency] {
        assert_latencies(latency, every_10_ms(&record, freeze), CLOCKS + interval, FREEZE / 2);
    }
    // The service time starts after the wait for the slot, so only one read was slow.
    assert!(specs.service_time.quantile(0.99).unwrap() < nanos(0.25), "{:?}", specs.service_time.percentiles());
    assert!(specs.service_time.max_nanos().unwrap() >= nanos(0.9));
    assert!(specs.slot_wait.quantile(0.99).unwrap() >= nanos(0.8));
    let series = record.series.iter().find(|series| series.query_type == Some(QueryType::GetJobSpec)).unwrap();
    assert!(series.intervals.iter().any(|second| second.achieved == 0.0 && second.backlog > 50));
    assert!(series.intervals.iter().any(|second| second.p99_nanos.unwrap_or(0) >= nanos(0.8)));
    assert_parts(&record);
}

fn every_10_ms(record: &RunRecord, freeze: [i64; 2]) -> Vec<Duration> {
    let start = start_micros(record, Phase::Test);
    (0..1000).map(|number| frozen(start + number * 10_000, freeze)).collect()
}

fn nanos(fraction: f64) -> u64 {
    FREEZE.mul_f64(fraction).as_nanos() as u64
}
