//! Adds up the measurements of a load on a thread of its own, because merging histograms would delay the driver.

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use tokio::runtime::Handle;

use super::objective::Objective;
use super::observer::{Observer, Snapshot};
use super::record::{Phase, RunRecord, SecondRecord};
use crate::error::{Error, ErrorKind, Operation, Result};

/// Receives the reason for which a load must end.
type Abort = Box<dyn FnOnce(String) + Send>;

/// The thread that adds up the measurements of a load and passes them to the observer.
pub(super) struct Collector {
    sender: Sender<Entry>,
    thread: JoinHandle<RunRecord>,
}

enum Entry {
    OnAbort(Abort),
    Phase(Phase),
    Second(Box<SecondRecord>, Option<Snapshot>),
}

impl Collector {
    /// Starts a thread that adds measurements to a record, and ends the load if one of the objectives, each with the
    /// [maximum number of its calls](Objective::max_calls), cannot be met. The observer's displays run on `runtime`,
    /// because they may block.
    ///
    /// # Errors
    ///
    /// `Backend` if no thread can be started.
    pub(super) fn start(
        mut record: RunRecord,
        abort_on: Vec<(Objective, f64)>,
        observer: Arc<dyn Observer>,
        runtime: Handle,
    ) -> Result<Self> {
        let (sender, entries) = mpsc::channel();
        let body = move || {
            let mut abort: Option<Abort> = None;
            for entry in entries {
                match entry {
                    Entry::OnAbort(callback) => abort = Some(callback),
                    Entry::Phase(phase) => {
                        let observer = observer.clone();
                        runtime.spawn_blocking(move || observer.phase(phase));
                    }
                    Entry::Second(mut second, snapshot) => {
                        second.encode_latencies();
                        observer.measured(&second);
                        record.add(*second);
                        let lost = abort_on.iter().find(|(objective, most)| objective.is_lost(&record, *most));
                        if let Some(((objective, _), abort)) = lost.and_then(|lost| Some((lost, abort.take()?))) {
                            abort(format!("the objective {objective} cannot be met any more"));
                        }
                        if let Some(snapshot) = snapshot {
                            let observer = observer.clone();
                            runtime.spawn_blocking(move || observer.second(&snapshot));
                        }
                    }
                }
            }
            record
        };
        let thread = thread::Builder::new().name("load recorder".to_owned()).spawn(body).map_err(|error| {
            Error::new(ErrorKind::Backend, Operation::LoadTest, "no thread can be started").with_source(error)
        })?;
        Ok(Self { sender, thread })
    }

    // The thread receives until `finish`, so sending does not fail.

    /// Sets the receiver of the reason for which the load must end, if an objective of `abortOn` cannot be met.
    pub(super) fn on_abort(&self, abort: impl FnOnce(String) + Send + 'static) {
        drop(self.sender.send(Entry::OnAbort(Box::new(abort))));
    }

    pub(super) fn phase(&self, phase: Phase) {
        drop(self.sender.send(Entry::Phase(phase)));
    }

    pub(super) fn second(&self, second: SecondRecord, snapshot: Option<Snapshot>) {
        drop(self.sender.send(Entry::Second(Box::new(second), snapshot)));
    }

    /// Waits until all measurements are added, and returns the record.
    ///
    /// # Errors
    ///
    /// `Backend` if the observer has panicked.
    pub(super) fn finish(self) -> Result<RunRecord> {
        drop(self.sender);
        self.thread
            .join()
            .map_err(|_| Error::new(ErrorKind::Backend, Operation::LoadTest, "the recorder of the load panicked"))
    }
}
