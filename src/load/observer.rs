//! Observation of a run in progress.

use std::time::Duration;

use super::generator::Generator;
use super::record::{ErrorRecord, Phase, RunRecord, SecondRecord, SeriesRecord};
use super::recorder::Recorder;
use crate::database::Progress;

/// Receives reports of a run in progress.
pub trait Observer: Send + Sync {
    /// Called at the start of a phase.
    fn phase(&self, phase: Phase) {
        let _ = phase;
    }

    /// Called before each run of a search for a rate, with its submissions per second and the purpose.
    fn trial(&self, number: usize, rate: f64, confirms: bool) {
        let _ = (number, rate, confirms);
    }

    /// Called with the progress of the creation of historical jobs.
    fn population(&self, progress: Progress) {
        let _ = progress;
    }

    /// Called after each second of the load. May block.
    fn second(&self, snapshot: &Snapshot) {
        let _ = snapshot;
    }

    /// Called at the start of the load with the record of the run, which has no measurements yet.
    fn started(&self, record: &RunRecord) {
        let _ = record;
    }

    /// Called after each second of the load with its measurements, and with each sample of the activity. The record of
    /// the run is the sum of all.
    fn measured(&self, second: &SecondRecord) {
        let _ = second;
    }
}

/// An observer that ignores all reports.
#[derive(Debug)]
pub(super) struct NullObserver;

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
    /// The last interval of ingestion and of each kind of read.
    pub series: Vec<SeriesRecord>,
    /// The number of errors since the start of the load.
    pub errors: u64,
    /// The first error of each kind of call and error, if it occurred since the last snapshot.
    pub new_errors: Vec<ErrorRecord>,
    /// The number of jobs shed since the start of the test.
    pub shed: u64,
}

impl Snapshot {
    pub(super) fn new(
        elapsed: Duration,
        generator: &Generator,
        recorder: &mut Recorder,
        second: &SecondRecord,
    ) -> Self {
        let ingestion = second.series.iter().find(|series| series.query_type.is_none());
        let ingestion = ingestion.and_then(|series| series.intervals.last());
        Self {
            elapsed,
            target: ingestion.map_or(0.0, |interval| interval.target),
            achieved: ingestion.map_or(0.0, |interval| interval.achieved),
            backlog: ingestion.map_or(0, |interval| interval.backlog),
            active_jobs: generator.active_jobs(),
            series: second.series.clone(),
            errors: recorder.error_count(),
            new_errors: recorder.take_new_errors(),
            shed: generator.shed.dropped + generator.shed.rejected,
        }
    }
}
