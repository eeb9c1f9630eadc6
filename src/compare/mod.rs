//! Comparisons of stores with the same jobs and queries: all results are compared, and all calls are timed.
//!
//! `broadside compare` executes them. [`Target`] is the interface of a compared store, so that stores other than the
//! backends can take part.

mod baseline;
mod check;
mod operation;
mod ratio;
mod reads;
mod results;
mod run;
mod target;
mod turns;
mod writes;

pub use baseline::{Incomparable, check_baseline, read_baseline, regressions};
pub use operation::{Batches, Ingestion, ReadOperation};
pub use reads::QueryDifference;
pub use results::{BackendResult, Measurement, OperationGroup, OperationResult, Results, Settings};
pub use run::{Comparison, ComparisonOutcome, Stage, StageFn};
pub use target::{Backend, Target};
