//! Formatting of numbers with units, and parsing of durations.

use std::time::Duration;

use broadside::load::is_resolved;
use broadside::load::record::{RateSearchRecord, TrialOutcome};
use broadside::measure::LatencyHistogram;

/// Formats nanoseconds with three significant digits: `1.23 ms`.
pub fn time(nanos: u64) -> String {
    scaled(nanos as f64, &[("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)])
}

/// Formats a rate per second with three significant digits: `612k/s`.
pub fn rate(per_second: f64) -> String {
    let text = scaled(per_second, &[("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9)]);
    format!("{}/s", text.replace(' ', ""))
}

/// Formats a count with three significant digits: `1.50k`.
pub fn count(count: f64) -> String {
    scaled(count, &[("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9)]).replace(' ', "")
}

/// Formats an integer with thousands separators: `1,234,567`.
pub fn whole(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group));
    groups.collect::<Vec<_>>().join(",")
}

/// Removes trailing zeros from the fraction of a formatted number, for the label of an axis.
pub fn label(text: &str) -> String {
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    format!("{number}{unit}")
}

/// Formats bytes with binary units: `1.50 KiB`.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, &[("B", 1.0), ("KiB", 1024.0), ("MiB", 1_048_576.0), ("GiB", 1_073_741_824.0)])
}

/// Formats a ratio: `1.23×`.
pub fn ratio(ratio: f64) -> String {
    format!("{}×", digits(ratio))
}

/// The units of durations, in seconds.
const DURATION_UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 60 * 60), ('d', 24 * 60 * 60)];

/// Formats a duration in the largest unit that is not longer, rounded down: `1m`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let unit = DURATION_UNITS.iter().rev().find(|(_, length)| seconds >= *length);
    let (name, length) = unit.copied().unwrap_or(('s', 1));
    format!("{}{name}", seconds / length)
}

/// Parses a duration: an integer with one of the units s, m, h and d.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit = |unit: char| DURATION_UNITS.iter().find(|(name, _)| *name == unit);
    let parsed = text.char_indices().last().and_then(|(at, last)| {
        let (_, length) = unit(last)?;
        text[..at].parse::<u64>().ok()?.checked_mul(*length)
    });
    parsed.map(Duration::from_secs).ok_or_else(|| "must be an integer with a unit: 90s, 30m, 2h or 7d".to_owned())
}

/// Parses a number of bytes: an integer, with one of the binary units K, M, G and T.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => Some(0),
        "K" => Some(10),
        "M" => Some(20),
        "G" => Some(30),
        "T" => Some(40),
        _ => None,
    };
    let parsed = shift.and_then(|shift| digits.parse::<u64>().ok()?.checked_mul(1 << shift));
    parsed.ok_or_else(|| "must be an integer with a unit: 512M or 4G".to_owned())
}

/// Formats a latency at a quantile, or the maximum at 1: with `≥` for a lower bound, and as below the resolution of the
/// driver if the driver's lag distorts it. `None` if there are too few calls for the quantile.
pub fn latency(latency: &LatencyHistogram, lag: &LatencyHistogram, quantile: f64) -> Option<String> {
    let nanos = if quantile < 1.0 { latency.quantile(quantile)? } else { latency.max_nanos()? };
    if !is_resolved(latency, lag, quantile) {
        return Some("below the driver's resolution".to_owned());
    }
    let bound = if latency.is_lower_bound(nanos) { "≥ " } else { "" };
    Some(format!("{bound}{}", time(nanos)))
}

/// Formats a value in the largest unit that is not larger after rounding.
fn scaled(value: f64, units: &[(&str, f64)]) -> String {
    let unit = units.iter().rev().find(|(_, size)| value / size >= 0.9995).or(units.first());
    let (name, size) = unit.copied().unwrap_or(("", 1.0));
    format!("{} {name}", digits(value / size)).trim_end().to_owned()
}

/// Formats a number with three significant digits, or as an integer from 100 on.
pub fn digits(value: f64) -> String {
    let digits = match value {
        below if below < 9.995 => 2,
        below if below < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// The highest rate that a search has found, in submissions per second.
pub fn highest_rate(search: &RateSearchRecord) -> String {
    let passed = search.trials.iter().filter(|trial| trial.outcome == TrialOutcome::Passed).map(|trial| trial.rate);
    match (search.highest, passed.reduce(f64::max)) {
        (Some(confirmed), _) => format!("{confirmed:.1} submissions per second"),
        (None, Some(passed)) => format!("none confirmed, {passed:.1} submissions per second passed"),
        (None, None) => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_significant_digits_and_a_unit() {
        assert_eq!(time(1_234), "1.23 µs");
        assert_eq!(time(999_499), "999 µs");
        assert_eq!(time(999_500), "1.00 ms");
        assert_eq!(time(12_345_678), "12.3 ms");
        assert_eq!(time(123_456_789_000), "123 s");
        assert_eq!(time(0), "0.00 ns");
    }

    #[test]
    fn durations_are_parsed_and_formatted() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "1", "-1s", "1.5h", "1y", "1 h", "99999999999999999999d", "9999999999999999d", "1µ"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(duration(Duration::from_millis(1)), "0s");
        assert_eq!(duration(Duration::from_secs(90)), "1m");
        assert_eq!(duration(Duration::from_secs(86_400)), "1d");
    }

    #[test]
    fn sizes_are_parsed() {
        for (text, bytes) in [("1", 1), ("2k", 2 << 10), ("512M", 512 << 20), ("4GiB", 4 << 30), ("1TB", 1 << 40)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "1 G", "1X", "99999999999999T"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn labels_have_no_trailing_zeros() {
        for (text, short) in
            [("1.00 ms", "1 ms"), ("500 µs", "500 µs"), ("2.50k/s", "2.5k/s"), ("0.00/s", "0/s"), ("10", "10")]
        {
            assert_eq!(label(text), short);
        }
    }

    #[test]
    fn rates_counts_bytes_and_ratios_are_formatted() {
        assert_eq!(rate(612_345.0), "612k/s");
        assert_eq!(rate(5.0), "5.00/s");
        assert_eq!(count(1500.0), "1.50k");
        assert_eq!((whole(0), whole(999), whole(1_234_567)), ("0".into(), "999".into(), "1,234,567".into()));
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(ratio(0.123), "0.12×");
        assert_eq!(ratio(1234.5), "1234×");
    }
}
