//! Timestamps with microsecond precision, and clocks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, FixedOffset, Offset, SecondsFormat, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// An instant in UTC, with microsecond precision.
///
/// The range is that of an `i64` of microseconds since 1970-01-01T00:00:00Z; validation imposes stricter limits.
/// Strings are in RFC 3339: any offset is parsed, further digits are truncated toward the past, and times are formatted
/// with 0, 3 or 6 fractional digits and `Z`.
#[derive(Copy, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

    /// The offset with which the time is formatted: UTC, or the greatest offset of RFC 3339 if the year in UTC does not
    /// have four digits. A parsed time can have such a year, by its offset or by a leap second.
    fn offset(self) -> FixedOffset {
        const YEAR_0: i64 = -62_167_219_200 * MICROS_PER_SECOND;
        const YEAR_10000: i64 = 253_402_300_800 * MICROS_PER_SECOND;
        const GREATEST_SECONDS: i32 = (23 * 60 + 59) * 60;

        let seconds = match self.0 {
            ..YEAR_0 => GREATEST_SECONDS,
            YEAR_0..YEAR_10000 => 0,
            YEAR_10000.. => -GREATEST_SECONDS,
        };
        FixedOffset::east_opt(seconds).unwrap_or_else(|| Utc.fix())
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
            Some(time) => f.write_str(&time.with_timezone(&self.offset()).to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => write!(f, "{} µs since 1970", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error of parsing a string that is not an RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time: {0}")]
pub struct ParseTimestampError(chrono::ParseError);

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // chrono stores the fraction relative to the floored second, so truncating it rounds toward the past before
        // 1970 too.
        DateTime::parse_from_rfc3339(text).map(|time| Self(time.timestamp_micros())).map_err(ParseTimestampError)
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
    fn every_parsed_time_is_formatted_as_one_that_can_be_parsed() {
        for (text, formatted) in [
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("0000-01-01T00:00:00+00:01", "0000-01-01T23:58:00+23:59"),
            ("0000-01-01T00:00:00+23:59", "0000-01-01T00:00:00+23:59"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
            ("9999-12-31T23:59:60Z", "9999-12-31T00:01:00-23:59"),
            ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59-23:59"),
        ] {
            assert_eq!(parse(text).to_string(), formatted);
            assert_eq!(parse(formatted), parse(text));
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
