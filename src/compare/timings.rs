//! How long things took.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long each run of an operation took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timings(Vec<Duration>);

/// The times within which 50, 95 and 99 of 100 runs ended, each the time of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Percentiles {
    /// Nanoseconds within which half of the runs ended.
    pub p50_nanos: u64,
    /// Nanoseconds within which 95 of 100 runs ended.
    pub p95_nanos: u64,
    /// Nanoseconds within which 99 of 100 runs ended.
    pub p99_nanos: u64,
}

impl Timings {
    /// Adds the time of a run.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// How many runs there were.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time of all runs.
    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }

    /// The percentiles by nearest rank; none without runs.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        // The least time that is not less than so many of the times.
        let nearest = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100);
            sorted.get(rank.saturating_sub(1)).map(|&time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        };
        Some(Percentiles { p50_nanos: nearest(50)?, p95_nanos: nearest(95)?, p99_nanos: nearest(99)? })
    }
}

impl FromIterator<Duration> for Timings {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        Self(times.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(p50: u64, p95: u64, p99: u64) -> Option<Percentiles> {
        Some(Percentiles { p50_nanos: p50 * 1000, p95_nanos: p95 * 1000, p99_nanos: p99 * 1000 })
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let timings: Timings = (1..=100).rev().map(Duration::from_micros).collect();
        assert_eq!(timings.percentiles(), micros(50, 95, 99));
        assert_eq!(Timings::from_iter([Duration::from_micros(7)]).percentiles(), micros(7, 7, 7));
        assert_eq!(Timings::default().percentiles(), None);
        assert_eq!(timings.total(), Duration::from_micros(5050));
    }
}
