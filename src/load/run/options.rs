//! The options of a run.

use std::time::Duration;

use crate::load::generator::GeneratorOptions;
use crate::load::recorded::RecordedRead;

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
