//! Comparisons: the same jobs and queries on several stores, every answer checked, every call timed.
//!
//! `broadside compare` is made of this. What is compared stands behind [`Target`], so that
//! other stores than the backends can take part.

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
