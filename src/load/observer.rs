//! Observation of a run in progress.

use std::time::Duration;

use super::generator::Generator;
use super::record::{Phase, QueryType};
use super::recorder::Recorder;
use crate::database::Progress;

/// Receives reports of a run in progress. The methods are called by the threads of the run and must not block.
pub trait Observer: Send + Sync {
    /// Called at the start of a phase.
    fn phase(&self, phase: Phase) {
        let _ = phase;
    }

    /// Called with the progress of the creation of historical jobs.
    fn population(&self, progress: Progress) {
        let _ = progress;
    }

    /// Called after each second of the load.
    fn second(&self, snapshot: &Snapshot) {
        let _ = snapshot;
    }
}

/// An observer that ignores all reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullObserver;

impl Observer for NullObserver {}

/// The measurements of the last second of a load.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The time since the start of the load.
    pub elapsed: Duration,
    /// The number of ingestion queries that were due.
    pub target: f64,
    /// The number of ingestion queries that were stored.
    pub achieved: f64,
    /// The number of ingestion queries that are due and not known to be stored.
    pub backlog: u64,
    /// The number of active jobs of the load.
    pub active_jobs: usize,
    /// The measurements of ingestion and of each kind of read.
    pub kinds: Vec<KindSnapshot>,
    /// The number of errors since the start of the load.
    pub errors: u64,
    /// The number of jobs shed since the start of the load.
    pub shed: u64,
}

/// The measurements of a kind of call in the last second.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct KindSnapshot {
    /// The kind of read; `None` for ingestion.
    pub query_type: Option<QueryType>,
    /// The number of completed reads, or of stored ingestion queries.
    pub achieved: f64,
    /// The median latency, in nanoseconds.
    pub p50_nanos: Option<u64>,
    /// The 99th percentile of the latency, in nanoseconds.
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
            shed: generator.shed.dropped + generator.shed.rejected,
        }
    }
}
