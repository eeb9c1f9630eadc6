//! Histograms of whole numbers, on the `hdrhistogram` crate.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Deserializer as HdrDeserializer, Serializer as _, V2Serializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The significant digits that a histogram keeps of a value.
const SIGNIFICANT_DIGITS: u8 = 3;
/// The greatest value kept apart: an hour in nanoseconds.
const HIGHEST: u64 = 3_600_000_000_000;

/// A histogram of whole numbers from 0 to 3.6 × 10¹² (an hour in nanoseconds), to three significant digits.
///
/// A value above the range counts as the greatest value of it. The memory is that of the range
/// recorded so far, at most 270 KiB, whatever the number of values.
///
/// Its serialized form is the base64 text of the HdrHistogram V2 encoding, which HdrHistogram's
/// libraries in other languages read too.
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

/// The text is no base64 of an encoded histogram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeHistogramError(String);

impl fmt::Display for DecodeHistogramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an encoded histogram: {}", self.0)
    }
}

impl std::error::Error for DecodeHistogramError {}

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
        let recorded = self.0.record(value.min(HIGHEST));
        debug_assert!(recorded.is_ok(), "a histogram that resizes itself holds every value of its range");
    }

    /// Adds the values of another histogram.
    pub fn merge(&mut self, other: &Self) {
        let added = self.0.add(&other.0);
        debug_assert!(added.is_ok(), "a histogram that resizes itself holds every value of its range");
    }

    /// Removes every value and keeps the memory.
    pub fn reset(&mut self) {
        self.0.reset();
    }

    /// The number of values.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The least value; none without values.
    pub fn min(&self) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.min())
    }

    /// The greatest value; none without values.
    pub fn max(&self) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.max())
    }

    /// The mean; none without values.
    pub fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.mean())
    }

    /// The value at a quantile from 0 to 1, by nearest rank: the least value that is not less than
    /// that share of the values. None without values.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        // A bucket's upper end may lie above the greatest value.
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile).min(self.0.max()))
    }

    /// The values at several ascending quantiles, in one pass. Empty without values.
    pub fn quantiles(&self, quantiles: impl IntoIterator<Item = f64>) -> Vec<u64> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let greatest = self.0.max();
        self.0.value_at_quantiles(quantiles).map(|value| value.min(greatest)).collect()
    }

    /// Base64 of the V2 encoding, with the bounds of the whole range: equal histograms have the same text.
    pub fn encode(&self) -> String {
        let mut bounded = hdrhistogram::Histogram::<u64>::new_with_bounds(1, HIGHEST, SIGNIFICANT_DIGITS)
            .expect("the bounds are ascending and three digits are allowed");
        bounded.add(&self.0).expect("it has the same digits and the whole range");
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&bounded, &mut bytes).expect("a vector takes every write");
        STANDARD.encode(bytes)
    }

    /// Reads base64 of a V2 encoding, compressed or not.
    ///
    /// # Errors
    ///
    /// If the text is no such encoding.
    pub fn decode(text: &str) -> Result<Self, DecodeHistogramError> {
        let bytes = STANDARD.decode(text).map_err(|error| DecodeHistogramError(error.to_string()))?;
        let decoded: hdrhistogram::Histogram<u64> = HdrDeserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| DecodeHistogramError(error.to_string()))?;
        // One with bounds and digits of its own could not take values of the whole range.
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
    fn values_keep_three_digits_over_the_whole_range() {
        for value in [1, 999, 1_234, 123_456, 987_654_321, HIGHEST] {
            let kept = of([value, value]).quantile(0.5).unwrap();
            assert!(kept.abs_diff(value) * 1000 <= value, "{value} is kept as {kept}");
        }
        assert_eq!(of([u64::MAX]).count(), 1);
        let greatest = of([u64::MAX]).max().unwrap();
        assert!(greatest.abs_diff(HIGHEST) * 1000 <= HIGHEST, "{greatest}");
    }

    #[test]
    fn a_merge_is_the_record_of_both() {
        let mut merged = of([1, 50, 900]);
        merged.merge(&of([7_000_000, 0]));
        assert_eq!(merged, of([1, 50, 900, 7_000_000, 0]));
        assert_eq!((merged.count(), merged.min()), (5, Some(0)));
    }

    #[test]
    fn the_encoding_is_read_back() {
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
    fn without_values_there_is_no_statistic() {
        let empty = of([]);
        assert_eq!((empty.min(), empty.max(), empty.mean(), empty.quantile(0.5)), (None, None, None, None));
        assert!(empty.quantiles([0.5]).is_empty());
        let mut reset = of([1, 2]);
        reset.reset();
        assert_eq!(reset.count(), 0);
    }
}
