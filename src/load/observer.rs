//! Observation of a run in progress.

use std::time::Duration;

use super::record::{ErrorRecord, Phase, RunRecord, SecondRecord, SeriesRecord};
use crate::database::Progress;

/// Receives reports of a run in progress.
#[expect(unused_variables, reason = "the defaults ignore the reports")]
pub trait Observer: Send + Sync {
    /// Called at the start of a phase.
    fn phase(&self, phase: Phase) {}

    /// Called before each run of a search for a rate, with its submissions per second and the purpose.
    fn trial(&self, number: usize, rate: f64, confirms: bool) {}

    /// Called with the progress of the creation of historical jobs.
    fn population(&self, progress: Progress) {}

    /// Called after each second of the load. May block.
    fn second(&self, snapshot: &Snapshot) {}

    /// Called at the start of the load with the record of the run, which has no measurements yet.
    fn started(&self, record: &RunRecord) {}

    /// Called after each second of the load with its measurements, and with each sample of the activity. The record of
    /// the run is the sum of all.
    fn measured(&self, second: &SecondRecord) {}
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
    /// The interval of ingestion and of each kind of read.
    pub series: Vec<SeriesRecord>,
    /// The number of active jobs of the load.
    pub active_jobs: usize,
    /// The number of errors since the start of the load.
    pub errors: u64,
    /// The first error of each kind of call and error, if it occurred since the last snapshot.
    pub new_errors: Vec<ErrorRecord>,
    /// The number of jobs shed since the start of the test.
    pub shed: u64,
}
