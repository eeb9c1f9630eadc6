//! Numbers in the forms of Go's YAML parser: `1_000_000`, `3.6e6`, `0x10`, `0b1`, `0o10`, and `010`, which is octal.

use std::ops::RangeInclusive;

use serde::de::{Deserialize, Deserializer, Error};

/// A number from 0 to 1.
pub(super) fn proportion<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    within(0.0..=1.0, deserializer)
}

/// The factor of all rates in a stage.
pub(super) fn stage_rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    within(0.0..=1e6, deserializer)
}

fn within<'de, D: Deserializer<'de>>(range: RangeInclusive<f64>, deserializer: D) -> Result<f64, D::Error> {
    let number = f64::deserialize(deserializer).ok().filter(|number| range.contains(number));
    number.ok_or_else(|| Error::custom(format!("must be a number from {} to {}", range.start(), range.end())))
}

/// A duration in Go's format, or a number of nanoseconds.
pub(super) mod duration {
    use std::time::Duration;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    use super::whole;
    use crate::load::duration::{GoDuration, parse_duration};

    pub(in super::super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&GoDuration(*duration))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        match whole(&text) {
            Some(nanos) => Ok(Duration::from_nanos(nanos)),
            None => parse_duration(&text).map_err(Error::custom),
        }
    }
}

/// Parses a whole number from 0 to 2^63 - 1. It may be written as a float: `3600.0`.
pub(super) fn whole(text: &str) -> Option<u64> {
    // The nearest float of i64::MAX is 2^63.
    let of_float = || decimal(text).filter(|number| number.fract() == 0.0 && *number < i64::MAX as f64);
    integer(text).or_else(|| of_float().map(|number| number as i64)).and_then(|number| u64::try_from(number).ok())
}

/// Parses a finite number.
pub(super) fn float(text: &str) -> Option<f64> {
    integer(text).map(|number| number as f64).or_else(|| decimal(text))
}

fn integer(text: &str) -> Option<i64> {
    let (negative, unsigned) = match text.strip_prefix(['-', '+']) {
        Some(unsigned) => (text.starts_with('-'), unsigned),
        None => (false, text),
    };
    let digits = without_underscores(unsigned)?.to_ascii_lowercase();
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x', ..] => (&digits[2..], 16),
        [b'0', b'o', ..] => (&digits[2..], 8),
        [b'0', b'b', ..] => (&digits[2..], 2),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits.as_str(), 10),
    };
    if digits.starts_with(['-', '+']) {
        return None;
    }
    let number = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -number } else { number })
}

fn decimal(text: &str) -> Option<f64> {
    without_underscores(text)?.parse().ok().filter(|number: &f64| number.is_finite())
}

fn without_underscores(text: &str) -> Option<String> {
    (!text.starts_with('_')).then(|| text.replace('_', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_have_the_forms_of_go() {
        for (text, number) in [
            ("0", 0),
            ("+7", 7),
            ("1_000_000", 1_000_000),
            ("3.6e6", 3_600_000),
            ("36E+5", 3_600_000),
            ("3600.0", 3600),
            ("3600.", 3600),
            ("0x10", 16),
            ("0XfF", 255),
            ("010", 8),
            ("0o10", 8),
            ("0b11", 3),
            // Not an octal number, so Go's parser reads a float.
            ("08", 8),
            ("-0", 0),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(whole(text), Some(number), "{text}");
        }
        for text in ["", "-1", "1.5", "-3600.0", "1e-1", "9223372036854775808", "1e19", "0x", "0b2", "0x-1", "_1"] {
            assert_eq!(whole(text), None, "{text:?}");
        }
        for text in ["inf", "nan", "1,000", "1 000", "five", "0x1.8", "1e"] {
            assert_eq!((whole(text), float(text)), (None, None), "{text}");
        }
    }

    #[test]
    fn floats_have_the_same_forms() {
        for (text, number) in [
            ("0.5", 0.5),
            (".5", 0.5),
            ("5e-1", 0.5),
            ("1", 1.0),
            ("010", 8.0),
            ("0b1", 1.0),
            ("-0.25", -0.25),
            ("1_0.5", 10.5),
        ] {
            assert_eq!(float(text), Some(number), "{text}");
        }
    }
}
