//! Comparisons of stores: the same jobs and queries on each, every result checked, every call timed.
//!
//! `broadside compare` runs them. [`Target`] is the interface of a compared store, so that stores other than the
//! backends can take part.

mod baseline;
mod check;
mod operation;
#[cfg(feature = "peers")]
pub mod peer;
mod results;
mod run;
mod target;

pub use baseline::{Incomparable, Regression, check_baseline, read_baseline, regressions};
pub use operation::{Batches, Ingestion, WorkloadOperation};
pub use results::{BackendResult, Measurement, OperationGroup, OperationResult, Results, Settings};
pub use run::{Activity, ActivityFn, Comparison, ComparisonOutcome, QueryDifference};
pub use target::{Backend, Target};
