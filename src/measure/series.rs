//! What was measured second by second.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::histogram::Histogram;

/// One second of a series: what was due in it, and what completed in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interval {
    /// Whole seconds from the run's start to the interval's start.
    pub second: u64,
    /// Arrivals that were due in the second.
    pub target: f64,
    /// Arrivals that completed in it, failed ones included. While a store stalls it is 0.
    pub achieved: f64,
    /// The median latency of those that completed in it, in nanoseconds; none if none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_nanos: Option<u64>,
    /// The 99th percentile of them by nearest rank: with fewer than 100, the greatest latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_nanos: Option<u64>,
    /// What was due and had not completed at the interval's end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub backlog: u64,
    /// Failures in the second.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub errors: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Collects the intervals of a series, one second at a time, in constant memory.
///
/// ```
/// use std::time::Duration;
/// use broadside::measure::IntervalRecorder;
///
/// let mut recorder = IntervalRecorder::default();
/// recorder.record(Duration::from_millis(3), 1);
/// recorder.record_error();
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
    /// Records a call that succeeded, and the number of arrivals that it completed: the queries of a
    /// batch, 1 for a read.
    pub fn record(&mut self, latency: Duration, arrivals: u64) {
        self.latencies.record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        self.completed += arrivals;
    }

    /// Records a call that failed, which completes one arrival.
    pub fn record_error(&mut self) {
        self.completed += 1;
        self.errors += 1;
    }

    /// Ends the interval and begins the next.
    pub fn close(&mut self, second: u64, target: f64, backlog: u64) -> Interval {
        let interval = Interval {
            second,
            target,
            achieved: self.completed as f64,
            p50_nanos: self.latencies.quantile(0.5),
            p99_nanos: self.latencies.quantile(0.99),
            backlog,
            errors: self.errors,
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
    fn an_interval_holds_what_completed_in_it() {
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
