//! Records of runs for unit tests.

use std::time::Duration;

use super::config::LoadConfig;
use super::record::{Phase, PhaseRecord, QueryRecord, QueryType, RunRecord, StoreRecord};
use crate::measure::{LatencyHistogram, Machine};
use crate::time::Timestamp;

/// A run without measurements, whose test phase lasts from the 2nd to the 12th second.
pub(super) fn run() -> RunRecord {
    RunRecord {
        format: RunRecord::FORMAT,
        broadside: "0.0.0".to_owned(),
        started: Timestamp::from_seconds(1_772_323_200),
        ended: Timestamp::from_seconds(1_772_323_213),
        store: StoreRecord { backend: "memory".to_owned(), address: "memory".to_owned(), ..StoreRecord::default() },
        machine: Machine::this(),
        phases: vec![PhaseRecord { phase: Phase::Test, start_nanos: 2_000_000_000, end_nanos: 12_000_000_000 }],
        ..RunRecord::default()
    }
}

/// Reads of a kind that succeeded in time, with their latencies in milliseconds.
pub(super) fn reads(query_type: QueryType, combo: &str, latencies: impl IntoIterator<Item = u64>) -> QueryRecord {
    let latency = millis(latencies);
    QueryRecord { executed: latency.count(), in_time: latency.count(), latency, ..QueryRecord::new(query_type, combo) }
}

pub(super) fn millis(latencies: impl IntoIterator<Item = u64>) -> LatencyHistogram {
    latencies.into_iter().map(Duration::from_millis).collect()
}

/// A test of 10 s with a batch timeout of 50 ms and 360,000 submissions per hour.
pub(super) fn config(overrides: &str) -> LoadConfig {
    const BASE: &str = "
testDuration: 10s
databaseConfig: {inMemory: true}
queueConfig: [{name: q, proportion: 1, jobSetConfig: [{name: s, proportion: 1}]}]
ingestionConfig: {batchSize: 100, batchTimeout: 50ms, submissionsPerHour: 360000}
";
    LoadConfig::parse([("base.yaml", BASE), ("test.yaml", overrides)], []).unwrap().config
}
