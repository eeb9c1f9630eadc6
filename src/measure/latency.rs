//! Latency histograms, with the calls that had not completed at the end.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::histogram::Histogram;

/// A histogram of durations from 1 ns to 1 h, to three significant digits.
///
/// A call that still runs when the measurement ends took *at least* the time since it was due. Such
/// calls are recorded with [`record_unfinished`](Self::record_unfinished) and count in every
/// statistic with that time, so that the slowest calls are never left out. A percentile at or above the
/// least of these times is a lower bound of the true one: see [`is_lower_bound`](Self::is_lower_bound).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LatencyHistogram {
    /// All calls.
    all: Histogram,
    /// Those among them that had not completed.
    unfinished: Histogram,
}

/// The times within which 50, 95 and 99 of 100 calls completed, by nearest rank.
///
/// A percentile stands only on enough samples ([`supports`]): the 95th on 20, the 99th on 100. With
/// fewer it would be the greatest sample and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Percentiles {
    /// Nanoseconds within which half of the calls completed.
    pub p50_nanos: u64,
    /// Nanoseconds within which 95 of 100 calls completed; none with fewer than 20 calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_nanos: Option<u64>,
    /// Nanoseconds within which 99 of 100 calls completed; none with fewer than 100 calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_nanos: Option<u64>,
}

/// Whether so many samples support a quantile: at least one of them is expected above it, `samples × (1 − quantile) ≥ 1`.
/// One sample supports the median.
///
/// ```
/// use broadside::measure::supports;
///
/// assert!(supports(20, 0.95) && !supports(19, 0.95));
/// assert!(supports(100, 0.99) && !supports(99, 0.99));
/// assert!(supports(1, 0.5) && !supports(0, 0.5));
/// ```
pub fn supports(samples: u64, quantile: f64) -> bool {
    if quantile <= 0.5 {
        return samples > 0;
    }
    // The tolerance covers that 1 - 0.99 is no binary fraction.
    samples as f64 * (1.0 - quantile) >= 1.0 - 1e-9
}

impl LatencyHistogram {
    /// Records the time of a call that completed.
    pub fn record(&mut self, time: Duration) {
        self.all.record(nanos(time));
    }

    /// Records a call that had not completed after this time.
    pub fn record_unfinished(&mut self, at_least: Duration) {
        self.all.record(nanos(at_least));
        self.unfinished.record(nanos(at_least));
    }

    /// Adds the calls of another histogram.
    pub fn merge(&mut self, other: &Self) {
        self.all.merge(&other.all);
        self.unfinished.merge(&other.unfinished);
    }

    /// The number of calls, unfinished ones included.
    pub fn count(&self) -> u64 {
        self.all.count()
    }

    /// The number of calls that had not completed.
    pub fn unfinished(&self) -> u64 {
        self.unfinished.count()
    }

    /// The least time in nanoseconds; none without calls.
    pub fn min_nanos(&self) -> Option<u64> {
        self.all.min()
    }

    /// The greatest time in nanoseconds, to three digits; none without calls.
    pub fn max_nanos(&self) -> Option<u64> {
        self.all.max()
    }

    /// The mean time in nanoseconds; none without calls.
    pub fn mean_nanos(&self) -> Option<f64> {
        self.all.mean()
    }

    /// The nanoseconds within which a share of the calls completed; none if the calls are too few
    /// for the quantile ([`supports`]).
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        supports(self.count(), quantile).then(|| self.all.quantile(quantile)).flatten()
    }

    /// The values at several ascending quantiles, whatever the number of calls: for curves.
    pub fn curve(&self, quantiles: impl IntoIterator<Item = f64>) -> Vec<u64> {
        self.all.quantiles(quantiles)
    }

    /// The percentiles that the number of calls supports; none without calls.
    pub fn percentiles(&self) -> Option<Percentiles> {
        Some(Percentiles {
            p50_nanos: self.quantile(0.5)?,
            p95_nanos: self.quantile(0.95),
            p99_nanos: self.quantile(0.99),
        })
    }

    /// Whether a statistic of this value is a lower bound: an unfinished call stands at or below it,
    /// which may have taken longer.
    pub fn is_lower_bound(&self, nanos: u64) -> bool {
        self.unfinished.min().is_some_and(|least| least <= nanos)
    }
}

impl FromIterator<Duration> for LatencyHistogram {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut histogram = Self::default();
        times.into_iter().for_each(|time| histogram.record(time));
        histogram
    }
}

/// At least 1, since the clock may not resolve a shorter time.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// The histograms, and beside them the statistics for readers that do not decode them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Form {
    #[serde(default)]
    count: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    unfinished: u64,
    #[serde(flatten)]
    percentiles: Option<Percentiles>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_nanos: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mean_nanos: Option<f64>,
    /// Of all calls.
    hdr: Histogram,
    /// Of those that had not completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unfinished_hdr: Option<Histogram>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Serialize for LatencyHistogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = Form {
            count: self.count(),
            unfinished: self.unfinished(),
            percentiles: self.percentiles(),
            max_nanos: self.max_nanos(),
            mean_nanos: self.mean_nanos(),
            hdr: self.all.clone(),
            unfinished_hdr: (self.unfinished() > 0).then(|| self.unfinished.clone()),
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LatencyHistogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = Form::deserialize(deserializer)?;
        Ok(Self { all: form.hdr, unfinished: form.unfinished_hdr.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(range: impl IntoIterator<Item = u64>) -> LatencyHistogram {
        range.into_iter().map(Duration::from_millis).collect()
    }

    fn about(nanos: u64, millis: u64) -> bool {
        nanos.abs_diff(millis * 1_000_000) * 1000 <= millis * 1_000_000
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let percentiles = millis((1..=100).rev()).percentiles().unwrap();
        assert!(about(percentiles.p50_nanos, 50), "{percentiles:?}");
        assert!(about(percentiles.p95_nanos.unwrap(), 95), "{percentiles:?}");
        assert!(about(percentiles.p99_nanos.unwrap(), 99), "{percentiles:?}");
    }

    #[test]
    fn percentiles_need_enough_samples() {
        let given = |count| millis(0..count).percentiles().map(|p| (p.p95_nanos.is_some(), p.p99_nanos.is_some()));
        let expected = [(0, None), (1, Some((false, false))), (19, Some((false, false))), (20, Some((true, false)))];
        for (count, percentiles) in expected {
            assert_eq!(given(count), percentiles, "{count}");
        }
        assert_eq!(given(99), Some((true, false)));
        assert_eq!(given(100), Some((true, true)));
        assert_eq!(millis(0..999).quantile(0.999), None);
        assert!(millis(0..1000).quantile(0.999).is_some());
    }

    #[test]
    fn unfinished_calls_count_as_at_least_their_time() {
        let mut latencies = millis(1..=98);
        latencies.record_unfinished(Duration::from_secs(5));
        latencies.record_unfinished(Duration::from_secs(9));
        assert_eq!((latencies.count(), latencies.unfinished()), (100, 2));
        let percentiles = latencies.percentiles().unwrap();
        assert!(about(percentiles.p99_nanos.unwrap(), 5000), "{percentiles:?}");
        assert!(latencies.is_lower_bound(percentiles.p99_nanos.unwrap()));
        assert!(!latencies.is_lower_bound(percentiles.p95_nanos.unwrap()));
        let mut merged = millis([1]);
        merged.merge(&latencies);
        assert_eq!((merged.count(), merged.unfinished()), (101, 2));
    }

    #[test]
    fn json_has_the_histogram_and_its_statistics() {
        let mut latencies = millis(1..=40);
        let json = serde_json::to_value(&latencies).unwrap();
        assert_eq!(json["count"], 40);
        assert!(json["p95Nanos"].is_u64() && json.get("p99Nanos").is_none() && json.get("unfinished").is_none());
        latencies.record_unfinished(Duration::from_secs(1));
        let json = serde_json::to_value(&latencies).unwrap();
        assert_eq!(json["unfinished"], 1);
        let read: LatencyHistogram = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), json);
        assert_eq!((read.count(), read.unfinished()), (41, 1));
        let empty = serde_json::to_value(LatencyHistogram::default()).unwrap();
        assert_eq!(serde_json::from_value::<LatencyHistogram>(empty).unwrap().count(), 0);
    }
}
