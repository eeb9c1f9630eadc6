//! A load test and its options.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::load::config::LoadConfig;
use crate::load::generator::GeneratorOptions;
use crate::load::observer::{NullObserver, Observer};
use crate::load::replay::RecordedRead;

/// A load test of a store. [`run`](Self::run) executes it, and [`find_rate`](Self::find_rate) searches for the highest
/// rate that the store sustains.
#[derive(Clone)]
pub struct LoadTest {
    pub(in crate::load) config: LoadConfig,
    pub(in crate::load) options: RunOptions,
    pub(in crate::load) observer: Arc<dyn Observer>,
    pub(in crate::load) stop: watch::Receiver<bool>,
}

impl LoadTest {
    /// A load test with the default options and without an observer.
    pub fn new(config: LoadConfig) -> Self {
        // Without a sender, nobody can stop the test.
        let (_, stop) = watch::channel(false);
        Self { config, options: RunOptions::default(), observer: Arc::new(NullObserver), stop }
    }

    /// Replaces the options.
    pub fn with_options(self, options: RunOptions) -> Self {
        Self { options, ..self }
    }

    /// Adds an observer of the progress.
    pub fn with_observer(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer, ..self }
    }

    /// Stops the test when the value becomes true: arrivals end, outstanding calls may complete within
    /// [`RunOptions::drain_when_stopped`], and the record is marked partial.
    pub fn with_stop(self, stop: watch::Receiver<bool>) -> Self {
        Self { stop, ..self }
    }
}

/// Options of a run in addition to its configuration.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The options of the generation of jobs and reads.
    pub generator: GeneratorOptions,
    /// The timeout of a read; 60 s by default.
    pub query_timeout: Duration,
    /// The maximum duration of the drain; 300 s by default. The last share of a load waits for the same time again until
    /// the other shares have ended.
    pub drain: Duration,
    /// The maximum duration of the drain of a stopped run; 10 s by default.
    pub drain_when_stopped: Duration,
    /// Recorded reads to replay from the start of the test.
    pub recorded: Vec<RecordedRead>,
    /// The maximum time for which a share waits for another one that shows no sign of life before the load; 60 s by
    /// default.
    pub share_wait: Duration,
    /// The time between the creation of historical jobs and the load, in which the store may finish its maintenance; 0
    /// by default.
    pub rest: Duration,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            generator: GeneratorOptions::default(),
            query_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(300),
            drain_when_stopped: Duration::from_secs(10),
            recorded: Vec::new(),
            share_wait: Duration::from_secs(60),
            rest: Duration::ZERO,
        }
    }
}
