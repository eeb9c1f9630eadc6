//! Durations in Go's text format.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// An error of [`parse_duration`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseDurationError {
    /// The string does not have Go's format.
    #[error("must be a duration such as 1m30s, 500ms or 1.5h")]
    Malformed,
    /// The duration is negative.
    #[error("must not be negative")]
    Negative,
    /// The duration exceeds the range of Go's durations, about 292 years.
    #[error("must be less than 292 years")]
    OutOfRange,
}

/// Parses a duration in Go's format: numbers with units from `ns` to `h`, or an integer number of nanoseconds.
/// Fractions of a nanosecond are truncated.
///
/// ```
/// use std::time::Duration;
/// use broadside::load::parse_duration;
///
/// assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
/// assert_eq!(parse_duration("1.5h"), Ok(Duration::from_secs(5400)));
/// assert_eq!(parse_duration("1000"), Ok(Duration::from_micros(1)));
/// assert!(parse_duration("90 s").is_err());
/// ```
///
/// # Errors
///
/// [`ParseDurationError`] if the string is malformed, negative or out of range.
pub fn parse_duration(text: &str) -> Result<Duration, ParseDurationError> {
    let (negative, unsigned) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let nanos = if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        unsigned.parse().map_err(|_| ParseDurationError::OutOfRange)?
    } else {
        nanos_of_parts(unsigned)?
    };
    if nanos > i64::MAX as u128 {
        return Err(ParseDurationError::OutOfRange);
    }
    if negative && nanos > 0 {
        return Err(ParseDurationError::Negative);
    }
    Ok(Duration::from_nanos(nanos as u64))
}

fn nanos_of_parts(mut rest: &str) -> Result<u128, ParseDurationError> {
    if rest.is_empty() {
        return Err(ParseDurationError::Malformed);
    }
    let mut nanos = 0_u128;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(ParseDurationError::Malformed)?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        nanos = nanos.saturating_add(part(number, nanos_of_unit(unit)?)?);
        rest = after;
    }
    Ok(nanos)
}

fn nanos_of_unit(unit: &str) -> Result<u128, ParseDurationError> {
    Ok(match unit {
        "ns" => 1,
        // The micro sign and the Greek letter mu.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SECOND,
        "m" => 60 * NANOS_PER_SECOND,
        "h" => 3600 * NANOS_PER_SECOND,
        _ => return Err(ParseDurationError::Malformed),
    })
}

/// Converts a number of units to nanoseconds, truncating fractions of a nanosecond.
fn part(number: &str, unit: u128) -> Result<u128, ParseDurationError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(ParseDurationError::Malformed);
    }
    let digits = |text: &str| match text {
        "" => Ok(0),
        _ => text.parse::<u128>().map_err(|_| ParseDurationError::OutOfRange),
    };
    // 18 digits of an hour are less than a nanosecond.
    let fraction = &fraction[..fraction.len().min(18)];
    let of_fraction = digits(fraction)? * unit / 10_u128.pow(fraction.len() as u32);
    Ok(digits(whole)?.saturating_mul(unit).saturating_add(of_fraction))
}

/// A duration in Go's format, restricted to the units that the viewer supports: h, m, s and µs.
///
/// Durations below a second are formatted in µs, for example `18500µs` and `0.85µs`, because the viewer does not
/// support Go's `18.5ms` and `850ns`. There is no exponent.
///
/// ```
/// use std::time::Duration;
/// use broadside::load::GoDuration;
///
/// assert_eq!(GoDuration(Duration::from_micros(18_500)).to_string(), "18500µs");
/// assert_eq!(GoDuration(Duration::from_millis(90_500)).to_string(), "1m30.5s");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoDuration(pub Duration);

impl GoDuration {
    /// Creates a duration from nanoseconds.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(Duration::from_nanos(nanos))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        if nanos < NANOS_PER_SECOND {
            return decimal(f, nanos, 1000, "µs");
        }
        let (minutes, rest) = (nanos / (60 * NANOS_PER_SECOND), nanos % (60 * NANOS_PER_SECOND));
        let (hours, minutes) = (minutes / 60, minutes % 60);
        if hours > 0 {
            write!(f, "{hours}h{minutes}m")?;
        } else if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        decimal(f, rest, NANOS_PER_SECOND, "s")
    }
}

/// Writes a quotient by a power of ten without trailing zeros.
fn decimal(f: &mut fmt::Formatter<'_>, nanos: u128, unit: u128, name: &str) -> fmt::Result {
    let (whole, fraction) = (nanos / unit, nanos % unit);
    write!(f, "{whole}")?;
    if fraction > 0 {
        let width = unit.ilog10() as usize;
        let digits = format!("{fraction:0width$}");
        write!(f, ".{}", digits.trim_end_matches('0'))?;
    }
    f.write_str(name)
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_units_of_go_are_parsed() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("-0s", 0),
            ("250", 250),
            ("+5ns", 5),
            ("1us", 1_000),
            ("1\u{b5}s", 1_000),
            ("1\u{3bc}s", 1_000),
            ("500ms", 500_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1h15m30.918273645s", 4_530_918_273_645),
            ("0.1ns", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn malformed_durations_are_errors() {
        for text in ["", "s", ".", ".s", "1", "1 s", "1d", "1m 30s", "1.2.3s", "five", "1e3s", "--1s", "1s5"] {
            let expected = if text == "1" { Ok(Duration::from_nanos(1)) } else { Err(ParseDurationError::Malformed) };
            assert_eq!(parse_duration(text), expected, "{text:?}");
        }
        assert_eq!(parse_duration("-1s"), Err(ParseDurationError::Negative));
        assert_eq!(parse_duration("3000000h"), Err(ParseDurationError::OutOfRange));
        assert_eq!(parse_duration("9223372036854775808"), Err(ParseDurationError::OutOfRange));
    }

    #[test]
    fn formatted_durations_are_parsed_back() {
        for nanos in [0, 500, 18_500_000, 999_999_999, 1_500_000_000, 90_000_000_000, 3_600_000_000_000] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(parse_duration(&GoDuration(duration).to_string()), Ok(duration));
        }
    }

    #[test]
    fn only_units_of_the_viewer_are_used() {
        let of = |nanos| GoDuration::from_nanos(nanos).to_string();
        assert_eq!(of(0), "0s");
        assert_eq!(of(1), "0.001µs");
        assert_eq!(of(850), "0.85µs");
        assert_eq!(of(18_500_000), "18500µs");
        assert_eq!(of(999_999_999), "999999.999µs");
        assert_eq!(of(1_000_000_000), "1s");
        assert_eq!(of(1_000_000_001), "1.000000001s");
        assert_eq!(of(62_050_000_000), "1m2.05s");
        assert_eq!(of(3_600_000_000_000), "1h0m0s");
        assert_eq!(GoDuration(Duration::from_secs(300 * 3600 + 61)).to_string(), "300h1m1s");
    }
}
