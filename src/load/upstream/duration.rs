//! Durations in the format of the viewer of Armada's Broadside.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// A duration in Go's format, restricted to the units that the viewer supports: h, m, s and µs.
///
/// Durations below a second are formatted in µs, for example `18500µs` and `0.85µs`, because the viewer does not
/// support Go's `18.5ms` and `850ns`. There is no exponent.
///
/// ```
/// use std::time::Duration;
/// use broadside::load::upstream::GoDuration;
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
