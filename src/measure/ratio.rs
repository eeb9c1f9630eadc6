//! Ratios of times, and their regressions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The ratio of a time of a backend to that of the first backend.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ratio {
    /// The ratio of the times.
    pub value: f64,
    /// The 95 % interval of the ratio; `None` if the samples are too few for one.
    pub interval: Option<[f64; 2]>,
}

/// The ratio, and its interval in parentheses.
impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.value)?;
        self.interval.map_or(Ok(()), |[low, high]| write!(f, " ({low:.2} to {high:.2})"))
    }
}

/// A ratio that is worse than in a baseline: the first backend fell behind another.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RatioRegression {
    /// What is measured: an operation, or a kind of call and a percentile.
    pub measure: String,
    /// The first backend.
    pub watched: String,
    /// The other backend of the ratio.
    pub other: String,
    /// The ratio in the baseline.
    pub before: Ratio,
    /// The ratio now.
    pub now: Ratio,
}

impl RatioRegression {
    /// The regression of a ratio, if its whole interval is below that of the baseline by more than a factor: two
    /// intervals that overlap may be of the same ratio. A ratio without an interval is not compared.
    pub(crate) fn find(
        measure: &str,
        [watched, other]: [&str; 2],
        before: Ratio,
        now: Ratio,
        tolerance: f64,
    ) -> Option<Self> {
        let ([low, _], [_, high]) = (before.interval?, now.interval?);
        let [measure, watched, other] = [measure, watched, other].map(str::to_owned);
        (high * tolerance < low).then_some(Self { measure, watched, other, before, now })
    }

    /// The quotient of the ratios.
    pub(crate) fn factor(&self) -> f64 {
        self.before.value / self.now.value
    }
}

impl fmt::Display for RatioRegression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { measure, watched, other, before, now } = self;
        let factor = self.factor();
        write!(
            f,
            "{measure}: {watched} fell behind {other} by {factor:.2}: {other} took {before} times as long, now {now}"
        )
    }
}
