//! What can be seen of a run while it lasts.

use std::time::Duration;

use super::generator::Generator;
use super::record::{Phase, QueryType};
use super::recorder::Recorder;
use crate::database::Progress;

/// Hears of a run while it lasts. The calls come from the threads of the run and must return soon.
pub trait Observer: Send + Sync {
    /// A phase begins.
    fn phase(&self, phase: Phase) {
        let _ = phase;
    }

    /// The population with historical jobs has come so far.
    fn population(&self, progress: Progress) {
        let _ = progress;
    }

    /// A second of the load is over.
    fn second(&self, snapshot: &Snapshot) {
        let _ = snapshot;
    }
}

/// An observer that looks away.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// The last second of a load.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Since the start of the load.
    pub elapsed: Duration,
    /// Queries that were due.
    pub target: f64,
    /// Queries that were stored.
    pub achieved: f64,
    /// Queries that were due and are not known to be stored.
    pub backlog: u64,
    /// Jobs that have not ended.
    pub active_jobs: usize,
    /// Ingestion, and each kind of read.
    pub kinds: Vec<KindSnapshot>,
    /// Errors since the start of the load.
    pub errors: u64,
    /// Lives left out since the start of the load.
    pub shed: u64,
}

/// The last second of a kind of call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KindSnapshot {
    /// The kind of read; none for ingestion.
    pub query_type: Option<QueryType>,
    /// Calls, or ingestion queries, that completed.
    pub achieved: f64,
    /// Their median latency, in nanoseconds.
    pub p50_nanos: Option<u64>,
    /// The 99th percentile of it.
    pub p99_nanos: Option<u64>,
}

impl Snapshot {
    pub(super) fn new(elapsed: Duration, generator: &Generator, recorder: &Recorder) -> Self {
        let ingestion = recorder.last_second().map(|interval| (None, interval));
        let reads = recorder.last_seconds().map(|(kind, interval)| (Some(kind), interval));
        let kinds = ingestion.into_iter().chain(reads).map(|(query_type, interval)| KindSnapshot {
            query_type,
            achieved: interval.achieved,
            p50_nanos: interval.p50_nanos,
            p99_nanos: interval.p99_nanos,
        });
        Self {
            elapsed,
            target: recorder.last_second().map_or(0.0, |interval| interval.target),
            achieved: recorder.last_second().map_or(0.0, |interval| interval.achieved),
            backlog: recorder.last_second().map_or(0, |interval| interval.backlog),
            active_jobs: generator.active_jobs(),
            kinds: kinds.collect(),
            errors: recorder.error_count,
            shed: generator.shed.dropped + generator.shed.refused,
        }
    }
}
