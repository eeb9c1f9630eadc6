//! Series of one-second intervals.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::histogram::{DecodeHistogramError, Histogram};

/// One second of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Interval {
    /// The start of the interval, in seconds from the start of the run.
    pub second: u64,
    /// The number of arrivals that were due in the interval.
    pub target: f64,
    /// The number of arrivals that completed in the interval, including failed ones.
    pub achieved: f64,
    /// The median latency of the calls that ended in the interval, in nanoseconds; `None` if there are none. Failed calls
    /// are included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_nanos: Option<u64>,
    /// The 99th percentile by nearest rank, in nanoseconds; with fewer than 100 calls, the maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_nanos: Option<u64>,
    /// The number of arrivals that were due and had not completed at the end of the interval.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub backlog: u64,
    /// The number of failed calls in the interval.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub errors: u64,
    /// The latencies of the calls that ended in the interval, as an [encoded](Histogram::encode) histogram. Only the
    /// shares of a load have them, so that their intervals can be added exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latencies: Option<String>,
}

impl Interval {
    /// Adds the interval of another load generator.
    ///
    /// # Errors
    ///
    /// [`DecodeHistogramError`] if an interval does not have its latencies.
    pub fn merge(&mut self, other: &Self) -> Result<(), DecodeHistogramError> {
        let of = |interval: &Self| Histogram::decode(interval.latencies.as_deref().unwrap_or_default());
        let mut latencies = of(self)?;
        latencies.merge(&of(other)?);
        self.target += other.target;
        self.achieved += other.achieved;
        self.backlog += other.backlog;
        self.errors += other.errors;
        (self.p50_nanos, self.p99_nanos) = (latencies.quantile(0.5), latencies.quantile(0.99));
        self.latencies = Some(latencies.encode());
        Ok(())
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Collects the measurements of an interval, with constant memory.
///
/// ```
/// use std::time::Duration;
/// use broadside::measure::IntervalRecorder;
///
/// let mut recorder = IntervalRecorder::default();
/// recorder.record(Duration::from_millis(3), 1);
/// recorder.record_error(Duration::from_millis(7));
/// let interval = recorder.close(0, 10.0, 8);
/// assert_eq!((interval.achieved, interval.errors, interval.backlog), (2.0, 1, 8));
/// assert_eq!(recorder.close(1, 10.0, 18).achieved, 0.0);
/// ```
#[derive(Debug, Clone, Default)]
pub struct IntervalRecorder {
    latencies: Histogram,
    completed: u64,
    errors: u64,
}

impl IntervalRecorder {
    /// Records a successful call or event and the number of arrivals that it completes: the number of ingestion queries
    /// of an event, or 1 for a read.
    pub fn record(&mut self, latency: Duration, arrivals: u64) {
        self.latencies.record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        self.completed += arrivals;
    }

    /// Records a failed call, which completes one arrival.
    pub fn record_error(&mut self, latency: Duration) {
        self.record(latency, 1);
        self.errors += 1;
    }

    /// Records a failed attempt, which will be repeated.
    pub fn record_attempt(&mut self) {
        self.errors += 1;
    }

    /// The latencies of the current interval.
    pub fn latencies(&self) -> &Histogram {
        &self.latencies
    }

    /// Returns the measurements of the interval and starts the next one.
    pub fn close(&mut self, second: u64, target: f64, backlog: u64) -> Interval {
        let interval = Interval {
            second,
            target,
            achieved: self.completed as f64,
            p50_nanos: self.latencies.quantile(0.5),
            p99_nanos: self.latencies.quantile(0.99),
            backlog,
            errors: self.errors,
            latencies: None,
        };
        self.latencies.reset();
        (self.completed, self.errors) = (0, 0);
        interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_the_interval_that_has_seen_all_calls() {
        let mut all = IntervalRecorder::default();
        let mut parts = [const { None::<IntervalRecorder> }; 4].map(Option::unwrap_or_default);
        let mut random = 1_u64;
        for at in 0..1000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // The last part is the slowest, so that a mean of percentiles differs from that of all calls.
            let part = (at % 16_usize).min(3);
            let latency = Duration::from_nanos((random >> 40) * [1, 2, 3, 50][part]);
            for recorder in [&mut all, &mut parts[part]] {
                if at % 10 == 0 { recorder.record_error(latency) } else { recorder.record(latency, 2) }
            }
        }
        let mut intervals = parts.each_mut().map(|part| {
            let latencies = part.latencies().encode();
            Interval { latencies: Some(latencies), ..part.close(3, 25.0, 7) }
        });
        let latencies = all.latencies().encode();
        let expected = Interval { latencies: Some(latencies), ..all.close(3, 100.0, 28) };
        let [sum, others @ ..] = &mut intervals;
        others.iter().for_each(|other| sum.merge(other).unwrap());
        assert_eq!(*sum, expected);
        assert!(sum.merge(&Interval { latencies: None, ..expected }).is_err());
    }

    #[test]
    fn an_interval_has_the_calls_that_completed_in_it() {
        let mut recorder = IntervalRecorder::default();
        for millis in 1..=100 {
            recorder.record(Duration::from_millis(millis), 10);
        }
        let interval = recorder.close(7, 1200.0, 200);
        assert_eq!((interval.second, interval.achieved, interval.backlog, interval.errors), (7, 1000.0, 200, 0));
        assert!(interval.p50_nanos.unwrap().abs_diff(50_000_000) <= 50_000);
        assert!(interval.p99_nanos.unwrap().abs_diff(99_000_000) <= 99_000);
        let stalled = recorder.close(8, 1200.0, 1400);
        assert_eq!((stalled.achieved, stalled.p50_nanos), (0.0, None));
        recorder.record(Duration::from_secs(2), 1);
        assert!(recorder.close(9, 1200.0, 0).p99_nanos.unwrap() >= 1_990_000_000);
    }
}
