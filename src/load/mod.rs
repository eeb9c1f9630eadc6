//! Load tests: a store under sustained ingestion, with queries beside it.
//!
//! [`LoadConfig`] is read from the YAML of Armada's Broadside; [`run()`] takes a store through the phases of a test and
//! gives a [`RunRecord`] with all that was measured.
//!
//! The load is open: every job, stage of a life and read is due at a time that does not depend on the store. Latency
//! runs from then to completion, so a store that stalls cannot hide it.

mod actions;
mod arrivals;
mod attributes;
mod baseline;
mod census;
mod config;
mod driver;
mod duration;
mod expectation;
mod find;
mod generator;
mod ids;
mod life;
mod objective;
mod observer;
mod reads;
pub mod record;
mod recorded;
mod recorder;
mod records;
mod requests;
mod run;
mod search;
mod selection;
mod store;
#[cfg(test)]
mod tests;
pub mod upstream;
mod worker;

pub use arrivals::ArrivalKind;
pub use baseline::{Incomparable, Worse, worse};
pub use config::{
    ActionConfig, ActionsConfig, BacklogStrategy, ConfigError, HistoricalJobsConfig, IngestionConfig, JobSetConfig,
    LoadConfig, LoadDatabase, LookoutQueryConfig, Parsed, Problem, QueryConfig, QueueConfig, Target, TransitionConfig,
};
pub use duration::{ParseDurationError, parse_duration};
pub use find::find_rate;
pub use generator::{Draws, Generator, PlannedBatch, Shed};
pub use ids::{LiveId, worker};
pub use objective::Objective;
pub use observer::{KindSnapshot, Observer, Snapshot, Unobserved};
pub use record::RunRecord;
pub use recorded::{RecordedRead, RecordedReadError};
pub use requests::{LookoutPage, Named, Requests};
pub use run::{RunOptions, run};
pub use search::RateSearch;
pub use selection::{Choice, SelectionKind, Selector};
pub use store::tear_down;
