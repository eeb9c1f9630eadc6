//! Timestamps with microsecond precision, and clocks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const MICROS_PER_SECOND: i64 = 1_000_000;
/// 0000-01-01T00:00:00Z, in seconds since 1970.
const YEAR_0_SECONDS: i64 = -62_167_219_200;
/// 10000-01-01T00:00:00Z, in seconds since 1970.
const YEAR_10000_SECONDS: i64 = 253_402_300_800;

/// An instant in UTC, with microsecond precision.
///
/// The range is that of an `i64` of microseconds since 1970-01-01T00:00:00Z; validation imposes stricter limits.
/// Strings are in RFC 3339: any offset is parsed, further digits are truncated toward the past, and times are formatted
/// with 0, 3 or 6 fractional digits and `Z`.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Creates an instant from microseconds since 1970, which may be negative.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Creates an instant from seconds since 1970, which may be negative. Saturates at the ends of the range.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(MICROS_PER_SECOND))
    }

    /// The microseconds since 1970.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The seconds since 1970, rounded down: Lookout's `last_transition_time_seconds`.
    pub const fn floor_seconds(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }

    /// Adds seconds, which may be negative. Saturates at the ends of the range.
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(MICROS_PER_SECOND)))
    }

    /// The seconds from `earlier` to `self`, rounded half away from zero.
    pub const fn rounded_seconds_since(self, earlier: Self) -> i64 {
        divide_half_away(self.0 as i128 - earlier.0 as i128, MICROS_PER_SECOND as i128) as i64
    }

    /// The average of `count` times whose whole seconds since 1970 have this sum, rounded half away from zero to a
    /// whole second; the epoch if `count` is 0.
    pub const fn from_average_seconds(sum: i128, count: u64) -> Self {
        let count = if count == 0 { 1 } else { count as i128 };
        Self::from_seconds(divide_half_away(sum, count) as i64)
    }
}

/// Divides, rounding half away from zero. The denominator must be positive.
pub(crate) const fn divide_half_away(numerator: i128, denominator: i128) -> i128 {
    let half = if numerator < 0 { -denominator } else { denominator };
    (2 * numerator + half) / (2 * denominator)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_micros(self.0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => write!(f, "{} µs since 1970", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error of parsing a string that is not an RFC 3339 time, or whose year in UTC does not have four digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseTimestampError(Option<chrono::ParseError>);

impl fmt::Display for ParseTimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(error) => write!(f, "not an RFC 3339 time: {error}"),
            None => f.write_str("not an RFC 3339 time: the year in UTC is not between 0000 and 9999"),
        }
    }
}

impl std::error::Error for ParseTimestampError {}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // chrono stores the fraction relative to the floored second, so truncating it rounds toward the past before
        // 1970 too.
        let time = DateTime::parse_from_rfc3339(text).map_err(|error| ParseTimestampError(Some(error)))?;
        let micros = time.timestamp_micros();
        // An offset or a leap second can lead out of the years that RFC 3339 can format.
        let years = YEAR_0_SECONDS * MICROS_PER_SECOND..YEAR_10000_SECONDS * MICROS_PER_SECOND;
        if years.contains(&micros) { Ok(Self(micros)) } else { Err(ParseTimestampError(None)) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

impl From<Timestamp> for serde_json::Value {
    fn from(time: Timestamp) -> Self {
        Self::String(time.to_string())
    }
}

/// The clock of a store, which determines the runtime of runs that have not finished.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The current instant.
    fn now(&self) -> Timestamp;
}

/// The system clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(Utc::now().timestamp_micros())
    }
}

/// A clock that returns a given instant, or the system time until one is set.
#[derive(Debug, Default)]
pub struct ManualClock(Mutex<Option<Timestamp>>);

impl ManualClock {
    /// Sets the instant that the clock returns.
    pub fn set(&self, time: Timestamp) {
        *self.0.lock() = Some(time);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap_or_else(|| SystemClock.now())
    }
}

/// A clock shared by several handles.
pub type SharedClock = Arc<dyn Clock>;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn further_digits_are_truncated_toward_the_past() {
        assert_eq!(parse("1970-01-01T00:00:00.0000019Z").as_micros(), 1);
        assert_eq!(parse("1969-12-31T23:59:59.9999981Z").as_micros(), -2);
    }

    #[test]
    fn every_parsed_time_can_be_formatted_and_parsed() {
        for text in ["0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"] {
            assert_eq!(parse(text).to_string(), text);
        }
        for text in ["0000-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "9999-12-31T23:59:60Z"] {
            assert_eq!(text.parse::<Timestamp>(), Err(ParseTimestampError(None)), "{text}");
        }
    }

    #[test]
    fn times_are_formatted_with_the_digits_that_they_need() {
        for text in ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.500Z", "2026-01-01T00:00:00.000001Z"] {
            assert_eq!(parse(text).to_string(), text);
        }
        assert_eq!(parse("2026-01-01T02:00:00+02:00").to_string(), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn quotients_round_half_away_from_zero() {
        let quotients =
            [(3, 2), (-3, 2), (5, 4), (-5, 4), (7, 4), (0, 3)].map(|(sum, count)| divide_half_away(sum, count));
        assert_eq!(quotients, [2, -2, 1, -1, 2, 0]);
        let greatest = i128::from(i64::MAX) * i128::from(u32::MAX);
        assert_eq!(divide_half_away(greatest, u32::MAX.into()), i64::MAX.into());
    }

    #[test]
    fn seconds_round_half_away_from_zero() {
        let start = Timestamp::from_seconds(10);
        let after = |micros| Timestamp::from_micros(start.as_micros() + micros);
        assert_eq!(after(1_500_000).rounded_seconds_since(start), 2);
        assert_eq!(after(1_499_999).rounded_seconds_since(start), 1);
        assert_eq!(after(-1_500_000).rounded_seconds_since(start), -2);
        assert_eq!(after(-1_499_999).rounded_seconds_since(start), -1);
        assert_eq!(after(-1).floor_seconds(), 9);
        assert_eq!(Timestamp::from_average_seconds(-3, 2), Timestamp::from_seconds(-2));
        assert_eq!(Timestamp::from_average_seconds(5, 4), Timestamp::from_seconds(1));
        assert_eq!(
            Timestamp::from_micros(i64::MIN).rounded_seconds_since(Timestamp::from_micros(i64::MAX)),
            -18_446_744_073_710
        );
    }
}
