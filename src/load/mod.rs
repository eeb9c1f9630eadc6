//! Load tests: sustained ingestion with concurrent reads.
//!
//! [`LoadConfig`] is parsed from the YAML configuration of Armada's Broadside. A [`LoadTest`] takes a store
//! through the phases of a test and returns a [`RunRecord`] with the measurements.
//!
//! The load is open: the due times of jobs, state transitions and reads do not depend on the store. Latency is measured
//! from the due time to completion, so that it includes the time in which a stalled store delays calls (no coordinated
//! omission).

mod actions;
mod arrivals;
mod attributes;
mod baseline;
mod census;
mod collector;
mod config;
mod cpu;
mod driver;
mod duration;
mod evaluation;
mod expectation;
mod find;
#[cfg(test)]
mod fixtures;
mod generator;
mod ids;
mod lifecycle;
mod liveness;
mod merge;
mod monitor;
mod objective;
mod observer;
mod payloads;
mod reads;
pub mod record;
mod recorder;
mod replay;
mod requests;
mod run;
mod search;
mod selection;
mod share;
mod store;
mod team;
#[cfg(test)]
mod tests;
mod trend;
pub mod upstream;
mod verdict;
mod wake;
mod worker;

pub use arrivals::ArrivalKind;
pub use baseline::{BaselineError, Regression, regressions};
pub use config::{
    ActionConfig, ActionsConfig, BacklogStrategy, ConfigError, HistoricalJobsConfig, IngestionConfig, JobSetConfig,
    LoadConfig, LoadDatabase, LoadTarget, LookoutQueryConfig, ParsedConfig, Problem, QueryConfig, QueueConfig,
    StageConfig, TransitionConfig,
};
pub use duration::{GoDuration, ParseDurationError, parse_duration};
pub use generator::{Generator, GeneratorOptions, PlannedBatch, ShedJobs};
pub use merge::{MergeError, merge};
pub use objective::Objective;
pub use observer::{Observer, Snapshot};
pub use record::RunRecord;
pub use replay::{RecordedRead, RecordedReadError};
pub use requests::{NamedQuery, Requests};
pub use run::{LoadTest, RunOptions};
pub use selection::SelectionKind;
pub use share::Share;
pub use store::tear_down;
pub use verdict::{Rates, Verdict, is_resolved};
