//! Generated records of runs, in the form of those of a load test.

use std::collections::BTreeMap;
use std::time::Duration;

use broadside::load::RunRecord;
use broadside::load::record::{
    ActionRecord, ActionType, ActivitySample, CensusRecord, ErrorRecord, IngesterRecord, ObjectiveRecord, Phase,
    PhaseRecord, QueryRecord, QueryType, ResourceSample, SeriesRecord, StoreRecord,
};
use broadside::measure::{Histogram, Interval, IntervalRecorder, LatencyHistogram, Machine};
use serde_json::json;

/// The durations of warm-up and test, in seconds.
const WARM_UP: u64 = 10;
const TEST: u64 = 60;
/// The seconds of the test during which the store stalls.
const STALL: std::ops::Range<u64> = 40..42;

const GROUPS: QueryType = QueryType::GetJobGroups;
const READS: [(QueryType, &str, f64); 10] = [
    (QueryType::GetJobs, "none", 1.0),
    (QueryType::GetJobs, "annotations", 1.6),
    (QueryType::GetJobs, "running_queue", 0.8),
    (QueryType::GetJobs, "errored_time", 2.4),
    (QueryType::GetJobs, "deep_offset", 9.0),
    (GROUPS, "none", 4.0),
    (GROUPS, "priority", 3.0),
    (QueryType::GetJobSpec, "none", 0.3),
    (QueryType::GetJobRunError, "none", 0.25),
    (QueryType::GetJobRunDebugMessage, "none", 0.25),
];

/// A deterministic generator of random numbers.
struct Draws(u64);

impl Draws {
    /// The next number, from 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A latency with the given median and a long tail.
    fn latency(&mut self, median_micros: f64) -> Duration {
        let spread = 0.5 + self.next() + 0.02 / (1.0 - self.next()).max(0.001);
        Duration::from_nanos((median_micros * spread * 1000.0) as u64)
    }
}

/// A run on a backend whose calls have the given median latency.
pub fn record(backend: &str, median_micros: f64) -> RunRecord {
    let mut draws = Draws(median_micros as u64);
    RunRecord {
        format: RunRecord::FORMAT,
        broadside: "0.1.0".to_owned(),
        started: "2026-08-01T09:30:00Z".parse().unwrap(),
        ended: "2026-08-01T09:31:25.5Z".parse().unwrap(),
        seed: 42,
        options: BTreeMap::from([
            ("arrivals".to_owned(), json!("poisson")),
            ("selection".to_owned(), json!("independent")),
        ]),
        configuration: configuration(backend),
        store: StoreRecord {
            backend: backend.to_owned(),
            address: if backend == "memory" { String::new() } else { format!("{backend}://db.example:5432/lookout") },
            version: Some(format!("{backend} 17.2")),
            settings: BTreeMap::from([("shared_buffers".to_owned(), "128MB".to_owned())]),
        },
        machine: Machine {
            system: "linux x86_64".to_owned(),
            processor: Some("A processor".to_owned()),
            cores: Some(2),
            memory_bytes: Some(8 << 30),
        },
        partial: false,
        invalid: Vec::new(),
        unsustained: Vec::new(),
        aborted: None,
        failures: Vec::new(),
        phases: phases(),
        ingester: ingester(&mut draws, median_micros),
        queries: READS
            .iter()
            .map(|&(query_type, filter, factor)| reads(&mut draws, query_type, filter, median_micros * factor))
            .collect(),
        actions: actions(),
        errors: vec![ErrorRecord {
            query_type: Some(QueryType::GetJobs),
            filter_combo: "none".to_owned(),
            error: "the statement was cancelled <after 1 s> & retried".to_owned(),
            timestamp: "2026-08-01T09:30:52Z".parse().unwrap(),
        }],
        error_count: 1,
        series: series(&mut draws, median_micros),
        delays: Vec::new(),
        reads_without_id: 0,
        resources: [(0, 12 << 20), (85_000_000_000, 96 << 20)]
            .map(|(at_nanos, bytes)| ResourceSample {
                at_nanos,
                stored_bytes: Some(bytes),
                server_memory_bytes: Some(300 << 20),
                process_memory_bytes: Some(64 << 20),
            })
            .into(),
        activity: if backend == "postgres" { activity() } else { Vec::new() },
        activity_problems: Vec::new(),
        census: Some(CensusRecord { jobs: 60_000, sampled: 500, differences: Vec::new() }),
        objectives: vec![ObjectiveRecord {
            objective: "page.p99 < 50ms".to_owned(),
            measured: Some("12.3 ms".to_owned()),
            interval: Some("11.9 ms to 13.1 ms".to_owned()),
            held: true,
            is_unresolved: false,
        }],
        rate_search: None,
        share: None,
    }
}

/// The activity from the start of the warm-up to the end of the drain. The server does not answer during the stall, and
/// starts a checkpoint 30 s after the start of the test.
fn activity() -> Vec<ActivitySample> {
    let sample = |second: u64| {
        let (test, mut counters, mut gauges) = (5 + WARM_UP, BTreeMap::new(), BTreeMap::new());
        counters.insert("driverCpuMicros".to_owned(), 400_000);
        if !STALL.contains(&second.saturating_sub(test)) {
            counters.insert("walBytes".to_owned(), 3_000_000);
            counters.insert("tempBytes".to_owned(), 0);
            counters.insert("checkpoints".to_owned(), u64::from(second == test + 31));
            gauges.insert("lockWaits".to_owned(), second % 3);
            gauges.insert("runningVacuums".to_owned(), second % 2);
        }
        if second.is_multiple_of(10) {
            gauges.insert("storedBytes".to_owned(), second << 20);
        }
        ActivitySample { at_nanos: second * 1_000_000_000, counters, gauges }
    };
    (5..=77).map(sample).collect()
}

fn configuration(backend: &str) -> serde_json::Value {
    json!({
        "testDuration": "1m0s",
        "warmupDuration": "10s",
        "databaseConfig": { "type": backend },
        "queueConfig": [{ "name": "risk", "proportion": 1.0, "jobSetConfig": [{ "name": "nightly", "proportion": 1.0 }] }],
        "ingestionConfig": { "batchSize": 1000, "numWorkers": 2, "submissionsPerHour": 3_600_000 },
    })
}

fn phases() -> Vec<PhaseRecord> {
    let seconds = [
        (Phase::Setup, 0, 1),
        (Phase::Historical, 1, 5),
        (Phase::WarmUp, 5, 5 + WARM_UP),
        (Phase::Test, 5 + WARM_UP, 5 + WARM_UP + TEST),
        (Phase::Drain, 75, 77),
        (Phase::Census, 77, 78),
        (Phase::TearDown, 78, 79),
    ];
    seconds
        .map(|(phase, start, end)| PhaseRecord {
            phase,
            start_nanos: start * 1_000_000_000,
            end_nanos: end * 1_000_000_000,
        })
        .into()
}

fn ingester(draws: &mut Draws, median_micros: f64) -> IngesterRecord {
    let mut backlog_size = Histogram::default();
    (0..600).for_each(|_| backlog_size.record((draws.next() * 900.0) as u64));
    IngesterRecord {
        queries_executed: 600_000,
        batches_executed: 600,
        batches_redelivered: 6,
        latency: (0..600).map(|_| draws.latency(median_micros * 12.0)).collect(),
        service_time: (0..600).map(|_| draws.latency(median_micros * 8.0)).collect(),
        backlog_wait: (0..600).map(|_| draws.latency(median_micros * 3.0)).collect(),
        driver_lag: (0..600).map(|_| draws.latency(median_micros * 0.01)).collect(),
        call_time: (0..600).map(|_| draws.latency(median_micros * 8.0)).collect(),
        queries_due: 600_000,
        queries_in_time: 599_000,
        backlog_size,
        ..IngesterRecord::default()
    }
}

fn reads(draws: &mut Draws, query_type: QueryType, filter: &str, median_micros: f64) -> QueryRecord {
    // One kind has too few samples for its 99th percentile.
    let count = if filter == "deep_offset" { 60 } else { 3000 };
    let mut latency: LatencyHistogram = (0..count).map(|_| draws.latency(median_micros)).collect();
    let unfinished = u64::from(filter == "deep_offset");
    (0..unfinished).for_each(|_| latency.record_unfinished(Duration::from_secs(2)));
    QueryRecord {
        query_type,
        filter_combo: filter.to_owned(),
        executed: count - u64::from(filter == "none"),
        failed: u64::from(filter == "none"),
        not_found: 0,
        unfinished,
        latency,
        service_time: (0..count).map(|_| draws.latency(median_micros * 0.8)).collect(),
        slot_wait: (0..count).map(|_| draws.latency(5.0)).collect(),
        driver_lag: (0..count).map(|_| draws.latency(median_micros * 0.01)).collect(),
        in_time: count - unfinished,
    }
}

fn actions() -> Vec<ActionRecord> {
    let action = |action, due: u64, took: u64, error: Option<&str>| ActionRecord {
        action,
        queue: "risk".to_owned(),
        job_set: "nightly".to_owned(),
        due_nanos: (15 + due) * 1_000_000_000,
        end_nanos: Some((15 + due) * 1_000_000_000 + took * 1_000_000),
        jobs: 15_000,
        error: error.map(str::to_owned),
    };
    vec![
        action(ActionType::Reprioritise, 20, 850, None),
        action(ActionType::Cancel, 45, 1_250, Some("deadlock detected")),
    ]
}

fn series(draws: &mut Draws, median_micros: f64) -> Vec<SeriesRecord> {
    let kinds =
        [(None, 12.0), (Some(QueryType::GetJobs), 1.0), (Some(GROUPS), 4.0), (Some(QueryType::GetJobSpec), 0.3)];
    kinds
        .map(|(query_type, factor)| SeriesRecord {
            query_type,
            intervals: intervals(draws, query_type.is_none(), median_micros * factor),
        })
        .into()
}

fn intervals(draws: &mut Draws, ingestion: bool, median_micros: f64) -> Vec<Interval> {
    let (target, each) = if ingestion { (10_000, 1000) } else { (50, 1) };
    let mut recorder = IntervalRecorder::default();
    let mut backlog = 0;
    let seconds = 5..5 + WARM_UP + TEST;
    seconds
        .map(|second| {
            backlog += target;
            if !STALL.contains(&(second.saturating_sub(5 + WARM_UP))) {
                let late = (backlog - target) as f64 / target as f64;
                while backlog >= each {
                    recorder.record(draws.latency(median_micros) + Duration::from_secs_f64(late * draws.next()), each);
                    backlog -= each;
                }
            }
            if second == 52 {
                recorder.record_error(Duration::from_secs(1));
            }
            recorder.close(second, target as f64, backlog)
        })
        .collect()
}
