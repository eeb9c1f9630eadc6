//! Measurements: latency histograms, series of one-second intervals, and the machine.
//!
//! Comparisons and load tests use the same percentiles, and therefore the same minimum number of samples. Those of load
//! tests, which have far more calls, are of histograms.
//!
//! ```
//! use std::time::Duration;
//! use broadside::measure::LatencyHistogram;
//!
//! let mut latencies = LatencyHistogram::default();
//! for millis in 1..=100 {
//!     latencies.record(Duration::from_millis(millis));
//! }
//! let percentiles = latencies.percentiles().expect("it has samples");
//! // Three digits: within 0.1 % of 50 ms.
//! assert_eq!(percentiles.p50_nanos / 100_000, 500);
//! assert!(percentiles.p99_nanos.is_some());
//! ```

mod histogram;
mod latency;
mod machine;
mod ratio;
mod series;

pub use histogram::{DecodeHistogramError, Histogram};
pub use latency::{LatencyHistogram, Percentiles, required_samples, supports};
pub use machine::Machine;
#[cfg(feature = "load")]
pub(crate) use machine::bytes_of;
pub use ratio::{Ratio, RatioRegression};
pub use series::{Interval, IntervalRecorder};
