//! Latency histograms, including calls that have not completed.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::histogram::Histogram;

/// A histogram of durations from 1 ns to 1 h, with three significant digits.
///
/// A call that has not completed at the end of the measurement has a latency of *at least* the time since it was
/// due. [`record_unfinished`](Self::record_unfinished) records such calls with that time, so that the statistics
/// include the slowest calls. Statistics at or above the minimum of these times are lower bounds: see
/// [`is_lower_bound`](Self::is_lower_bound).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LatencyHistogram {
    /// All calls.
    all: Histogram,
    /// The calls that have not completed.
    unfinished: Histogram,
}

/// The 50th, 95th and 99th percentile by nearest rank, in nanoseconds.
///
/// The 95th percentile requires 20 samples and the 99th requires 100 ([`supports`]). With fewer samples, they
/// would be the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Percentiles {
    /// The median, in nanoseconds.
    pub p50_nanos: u64,
    /// The 95th percentile, in nanoseconds; `None` with fewer than 20 calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_nanos: Option<u64>,
    /// The 99th percentile, in nanoseconds; `None` with fewer than 100 calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_nanos: Option<u64>,
}

impl Percentiles {
    /// The exact percentiles of times in nanoseconds; `None` without any.
    pub fn of(mut nanos: Vec<u64>) -> Option<Self> {
        nanos.sort_unstable();
        let count = nanos.len();
        let at = |percent: usize| {
            let is_supported = supports(count as u64, percent as f64 / 100.0);
            is_supported.then(|| nanos[(count * percent).div_ceil(100) - 1])
        };
        Some(Self { p50_nanos: at(50)?, p95_nanos: at(95), p99_nanos: at(99) })
    }
}

/// Returns true if the number of samples supports a quantile: `samples × (1 − quantile) ≥ 1`, so that at least one
/// sample is expected above it. One sample supports the median.
///
/// ```
/// use broadside::measure::supports;
///
/// assert!(supports(20, 0.95) && !supports(19, 0.95));
/// assert!(supports(100, 0.99) && !supports(99, 0.99));
/// assert!(supports(1, 0.5) && !supports(0, 0.5));
/// ```
pub fn supports(samples: u64, quantile: f64) -> bool {
    samples >= required_samples(quantile)
}

/// The smallest number of samples that [`supports`] a quantile below 1.
///
/// ```
/// use broadside::measure::required_samples;
///
/// assert_eq!([0.5, 0.95, 0.99].map(required_samples), [1, 20, 100]);
/// ```
pub fn required_samples(quantile: f64) -> u64 {
    if quantile <= 0.5 {
        return 1;
    }
    // The tolerance covers the rounding error of 1 - 0.99.
    ((1.0 - 1e-9) / (1.0 - quantile)).ceil() as u64
}

impl LatencyHistogram {
    /// Records the latency of a completed call.
    pub fn record(&mut self, time: Duration) {
        self.record_n(time, 1);
    }

    /// Records a number of completed calls with the same latency.
    pub fn record_n(&mut self, time: Duration, count: u64) {
        self.all.record_n(nanos(time), count);
    }

    /// Records a call that has not completed after the given time.
    pub fn record_unfinished(&mut self, at_least: Duration) {
        self.all.record(nanos(at_least));
        self.unfinished.record(nanos(at_least));
    }

    /// Adds the calls of another histogram.
    pub fn merge(&mut self, other: &Self) {
        self.all.merge(&other.all);
        self.unfinished.merge(&other.unfinished);
    }

    /// The number of calls, including unfinished ones.
    pub fn count(&self) -> u64 {
        self.all.count()
    }

    /// The number of calls that have not completed.
    pub fn unfinished(&self) -> u64 {
        self.unfinished.count()
    }

    /// The minimum in nanoseconds; `None` without calls.
    pub fn min_nanos(&self) -> Option<u64> {
        self.all.min()
    }

    /// The maximum in nanoseconds, with three significant digits; `None` without calls.
    pub fn max_nanos(&self) -> Option<u64> {
        self.all.max()
    }

    /// The mean in nanoseconds; `None` without calls.
    pub fn mean_nanos(&self) -> Option<f64> {
        self.all.mean()
    }

    /// The latency at a quantile, in nanoseconds; `None` if the number of calls does not support the quantile
    /// ([`supports`]).
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        supports(self.count(), quantile).then(|| self.all.quantile(quantile)).flatten()
    }

    /// The number of calls whose latency is at least `time`, up to the resolution of three digits.
    pub fn count_at_least(&self, time: Duration) -> u64 {
        self.all.count_at_least(nanos(time))
    }

    /// The 95 % confidence interval of a quantile in nanoseconds, from the ranks of the calls and without an assumption
    /// about their distribution. The upper bound is `None` if the number of calls does not bound the quantile from
    /// above. `None` if the number of calls does not support the quantile ([`supports`]).
    ///
    /// ```
    /// use std::time::Duration;
    /// use broadside::measure::LatencyHistogram;
    ///
    /// let of = |count| (1..=count).map(Duration::from_millis).collect::<LatencyHistogram>();
    /// // The ranks of the p99 are 990 ± 6.2 of 1,000 calls, and 198 ± 2.8 of 200.
    /// let (low, high) = of(1000).interval(0.99).unwrap();
    /// assert_eq!((low / 1_000_000, high.map(|high| high / 1_000_000)), (983, Some(997)));
    /// assert_eq!(of(200).interval(0.99).unwrap().1, None);
    /// ```
    pub fn interval(&self, quantile: f64) -> Option<(u64, Option<u64>)> {
        /// The quantile of the standard normal distribution for a two-sided interval of 95 %.
        const Z: f64 = 1.96;

        let count = self.count() as f64;
        supports(self.count(), quantile).then_some(())?;
        let (rank, deviation) = (count * quantile, Z * (count * quantile * (1.0 - quantile)).sqrt());
        // The middle of the rank: `rank / count` may be rounded up to the next one.
        let at = |rank: f64| self.all.quantile((rank - 0.5) / count);
        let (low, high) = ((rank - deviation).floor().max(1.0), (rank + deviation).ceil());
        Some((at(low)?, if high > count { None } else { at(high) }))
    }

    /// The latencies at several quantiles in ascending order, in nanoseconds, for any number of calls. Empty without
    /// calls.
    pub fn curve(&self, quantiles: impl IntoIterator<Item = f64>) -> Vec<u64> {
        self.all.quantiles(quantiles)
    }

    /// The percentiles that the number of calls supports; `None` without calls.
    pub fn percentiles(&self) -> Option<Percentiles> {
        Some(Percentiles {
            p50_nanos: self.quantile(0.5)?,
            p95_nanos: self.quantile(0.95),
            p99_nanos: self.quantile(0.99),
        })
    }

    /// Returns true if a statistic with this value is a lower bound, because it is at or above the time of an
    /// unfinished call.
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

/// The duration in nanoseconds, at least 1, because the resolution of the clock may be coarser.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// The serialized form: the histograms, and statistics for programs that do not decode them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SerializedLatency {
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
    /// All calls.
    hdr: Histogram,
    /// The calls that have not completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unfinished_hdr: Option<Histogram>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Serialize for LatencyHistogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = SerializedLatency {
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
        let form = SerializedLatency::deserialize(deserializer)?;
        Ok(Self { all: form.hdr, unfinished: form.unfinished_hdr.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

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
    fn percentiles_of_times_are_exact() {
        let of = |count: u64| Percentiles::of((1..=count).rev().map(|time| 1_000_001 * time).collect());
        let expected = [(1, [1, 0, 0]), (2, [1, 0, 0]), (3, [2, 0, 0]), (19, [10, 0, 0]), (20, [10, 19, 0])];
        for (count, ranks) in
            expected.into_iter().chain([(99, [50, 95, 0]), (100, [50, 95, 99]), (700, [350, 665, 693])])
        {
            let [p50, p95, p99] = ranks.map(|rank| (rank > 0).then_some(1_000_001 * rank));
            let got = of(count).unwrap();
            assert_eq!((Some(got.p50_nanos), got.p95_nanos, got.p99_nanos), (p50, p95, p99), "{count}");
        }
        assert_eq!(of(0), None);
    }

    #[test]
    fn percentiles_require_a_number_of_samples() {
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
    fn unfinished_calls_count_with_their_lower_bound() {
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
    fn repeated_calls_are_counted_above_a_latency() {
        let mut latencies = millis([1, 5]);
        latencies.record_n(Duration::from_millis(9), 3);
        let at_least = |millis| latencies.count_at_least(Duration::from_millis(millis));
        assert_eq!([0, 1, 2, 5, 6, 9, 10].map(at_least), [5, 5, 4, 4, 3, 3, 0]);
        assert_eq!(latencies.count_at_least(Duration::from_secs(7200)), 0);
    }

    #[test]
    fn the_bounds_of_an_interval_are_ranks() {
        let ranks = |count: u64, quantile: f64| {
            let rank = |nanos: u64| (nanos + 500) / 1000;
            let times: LatencyHistogram = (1..=count).map(|rank| Duration::from_nanos(rank * 1000)).collect();
            times.interval(quantile).map(|(low, high)| (rank(low), high.map(rank)))
        };
        // The ranks are 0.5 × 100 ± 9.8, 0.5 × 122 ± 10.8 and 0.95 × 100 ± 4.3.
        assert_eq!(ranks(100, 0.5), Some((40, Some(60))));
        assert_eq!(ranks(122, 0.5), Some((50, Some(72))));
        assert_eq!(ranks(100, 0.95), Some((90, Some(100))));
        assert_eq!(ranks(60, 0.95), Some((53, None)), "57 ± 3.3 of 60");
        assert_eq!(ranks(1, 0.5), Some((1, None)), "the rank is at least 1");
        assert_eq!((ranks(19, 0.95), ranks(0, 0.5)), (None, None));
        // No rounding error moves a bound to the next rank: 55 / 100 × 100 is more than 55.
        assert_eq!(ranks(100, 0.645), Some((55, Some(74))), "64.5 ± 9.4");
    }

    #[test]
    fn about_95_of_100_intervals_contain_the_quantile() {
        const SAMPLES: u64 = 1000;
        // Uniform between 1 µs and 1 ms.
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut draw = || Duration::from_nanos(1000 + random.next_u64() % 999_000);
        for (count, quantile) in [(50, 0.5), (400, 0.95), (1000, 0.99)] {
            let truth = (1000.0 + 999_000.0 * quantile) as u64;
            let contains = |(low, high): (u64, Option<u64>)| low <= truth && high.is_none_or(|high| truth <= high);
            let mut interval = || (0..count).map(|_| draw()).collect::<LatencyHistogram>().interval(quantile);
            let covered = (0..SAMPLES).filter(|_| interval().is_some_and(contains)).count();
            assert!((935..=985).contains(&covered), "{covered} of {SAMPLES} intervals of the quantile {quantile}");
        }
    }

    #[test]
    fn json_has_the_histogram_and_the_statistics() {
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
