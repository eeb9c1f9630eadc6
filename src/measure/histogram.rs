//! Histograms of integers, based on the `hdrhistogram` crate.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Deserializer as HdrDeserializer, Serializer as _, V2Serializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The number of significant digits of recorded values.
const SIGNIFICANT_DIGITS: u8 = 3;
/// The maximum value: an hour in nanoseconds.
const HIGHEST: u64 = 3_600_000_000_000;

/// A histogram of integers from 0 to 3.6 × 10¹² (an hour in nanoseconds), with three significant digits.
///
/// Larger values are recorded as the maximum. The memory usage depends on the range of the recorded values and
/// is at most 270 KiB.
///
/// The serialized form is the HdrHistogram V2 encoding in base64, which the HdrHistogram libraries of other
/// languages support.
///
/// ```
/// use broadside::measure::Histogram;
///
/// let mut sizes = Histogram::default();
/// sizes.record(10);
/// sizes.record(20);
/// let decoded = Histogram::decode(&sizes.encode())?;
/// assert_eq!((decoded.count(), decoded.max(), decoded.mean()), (2, Some(20), Some(15.0)));
/// # Ok::<(), broadside::measure::DecodeHistogramError>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Histogram(hdrhistogram::Histogram<u64>);

/// An error of [`Histogram::decode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an encoded histogram: {0}")]
pub struct DecodeHistogramError(String);

impl Default for Histogram {
    fn default() -> Self {
        Self(hdrhistogram::Histogram::new(SIGNIFICANT_DIGITS).expect("three digits are allowed"))
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram").field("count", &self.count()).field("max", &self.max()).finish_non_exhaustive()
    }
}

impl Histogram {
    /// Records a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Records a value a number of times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let recorded = self.0.record_n(value.min(HIGHEST), count);
        debug_assert!(recorded.is_ok(), "an auto-resizing histogram supports all values of its range");
    }

    /// Adds the values of another histogram.
    pub fn merge(&mut self, other: &Self) {
        let added = self.0.add(&other.0);
        debug_assert!(added.is_ok(), "an auto-resizing histogram supports all values of its range");
    }

    /// Removes all values, without releasing memory.
    pub fn reset(&mut self) {
        self.0.reset();
    }

    /// The number of values.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The minimum; `None` without values.
    pub fn min(&self) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.min())
    }

    /// The maximum; `None` without values.
    pub fn max(&self) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.max())
    }

    /// The mean; `None` without values.
    pub fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.mean())
    }

    /// The number of values that are at least `value`, up to the resolution of three digits.
    pub fn count_at_least(&self, value: u64) -> u64 {
        if value > HIGHEST { 0 } else { self.0.count_between(value, HIGHEST) }
    }

    /// The value at a quantile from 0 to 1 by nearest rank: the smallest value such that at least this fraction of
    /// the values does not exceed it. `None` without values.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        // The upper bound of a bucket may exceed the maximum.
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile).min(self.0.max()))
    }

    /// The values at several quantiles in ascending order, in one pass. Empty without values.
    pub fn quantiles(&self, quantiles: impl IntoIterator<Item = f64>) -> Vec<u64> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let greatest = self.0.max();
        self.0.value_at_quantiles(quantiles).map(|value| value.min(greatest)).collect()
    }

    /// Encodes the histogram as base64 of the V2 encoding. Equal histograms have the same encoding.
    pub fn encode(&self) -> String {
        let mut bounded = hdrhistogram::Histogram::<u64>::new_with_bounds(1, HIGHEST, SIGNIFICANT_DIGITS)
            .expect("the bounds are ascending and three digits are allowed");
        bounded.add(&self.0).expect("it has the same digits and the whole range");
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&bounded, &mut bytes).expect("a vector takes every write");
        STANDARD.encode(bytes)
    }

    /// Decodes base64 of a V2 encoding, which may be compressed.
    ///
    /// # Errors
    ///
    /// [`DecodeHistogramError`] if the text is not such an encoding.
    pub fn decode(text: &str) -> Result<Self, DecodeHistogramError> {
        let bytes = STANDARD.decode(text).map_err(|error| DecodeHistogramError(error.to_string()))?;
        let decoded: hdrhistogram::Histogram<u64> = HdrDeserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| DecodeHistogramError(error.to_string()))?;
        // The decoded histogram may have other bounds and digits.
        let mut histogram = Self::default();
        histogram.0.add(&decoded).map_err(|error| DecodeHistogramError(error.to_string()))?;
        Ok(histogram)
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encode())
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::decode(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|value| histogram.record(value));
        histogram
    }

    #[test]
    fn values_have_three_significant_digits() {
        for value in [1, 999, 1_234, 123_456, 987_654_321, HIGHEST] {
            let kept = of([value, value]).quantile(0.5).unwrap();
            assert!(kept.abs_diff(value) * 1000 <= value, "{value} is recorded as {kept}");
        }
        assert_eq!(of([u64::MAX]).count(), 1);
        let greatest = of([u64::MAX]).max().unwrap();
        assert!(greatest.abs_diff(HIGHEST) * 1000 <= HIGHEST, "{greatest}");
    }

    #[test]
    fn a_merge_has_the_values_of_both() {
        let mut merged = of([1, 50, 900]);
        merged.merge(&of([7_000_000, 0]));
        assert_eq!(merged, of([1, 50, 900, 7_000_000, 0]));
        assert_eq!((merged.count(), merged.min()), (5, Some(0)));
    }

    #[test]
    fn an_encoding_is_decoded() {
        for histogram in [of([]), of([0]), of([5, 5, 77_000, HIGHEST])] {
            let decoded = Histogram::decode(&histogram.encode()).unwrap();
            assert_eq!((decoded.count(), decoded.max()), (histogram.count(), histogram.max()));
            assert_eq!(decoded.quantiles([0.1, 0.5, 0.9]), histogram.quantiles([0.1, 0.5, 0.9]));
        }
        let mut decoded = Histogram::decode(&of([3]).encode()).unwrap();
        decoded.record(HIGHEST);
        assert_eq!(decoded.count(), 2);
        for text in ["", "###", "AAAA"] {
            assert!(Histogram::decode(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_empty_histogram_has_no_statistics() {
        let empty = of([]);
        assert_eq!((empty.min(), empty.max(), empty.mean(), empty.quantile(0.5)), (None, None, None, None));
        assert!(empty.quantiles([0.5]).is_empty());
        let mut reset = of([1, 2]);
        reset.reset();
        assert_eq!(reset.count(), 0);
    }
}
