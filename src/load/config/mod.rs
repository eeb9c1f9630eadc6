//! The configuration of a load test. The keys are those of Armada's Broadside, with extensions.

mod check;
mod database;
mod environment;
mod node;
mod number;
mod parse;
mod problem;
#[cfg(test)]
mod tests;
mod types;
mod value;

pub use database::{LoadDatabase, LoadTarget};
pub use parse::ParsedConfig;
pub use problem::{ConfigError, Problem};
pub use types::{
    ActionConfig, ActionsConfig, BacklogStrategy, HistoricalJobsConfig, IngestionConfig, JobSetConfig, LoadConfig,
    LookoutQueryConfig, QueryConfig, QueueConfig, StageConfig, TransitionConfig,
};
