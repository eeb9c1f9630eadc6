//! Arrival times of streams.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::selection::split_mix;

const MICROS_PER_SECOND: f64 = 1e6;
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The distribution of arrivals over time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArrivalKind {
    /// At equal intervals.
    #[default]
    Uniform,
    /// A Poisson process with the same mean rate.
    Poisson,
}

impl fmt::Display for ArrivalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uniform => "uniform",
            Self::Poisson => "poisson",
        })
    }
}

impl FromStr for ArrivalKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "uniform" => Ok(Self::Uniform),
            "poisson" => Ok(Self::Poisson),
            _ => Err("must be uniform or poisson".to_owned()),
        }
    }
}

/// The arrival times of a stream, in ascending microseconds from its start. They do not depend on the store.
#[derive(Debug, Clone)]
pub(super) struct Arrivals {
    kind: ArrivalKind,
    per_second: f64,
    random: u64,
    number: u64,
    /// The previous arrival of a Poisson process.
    micros: f64,
}

impl Arrivals {
    /// A stream with a rate per second. With rate 0 it is empty.
    pub(super) fn new(kind: ArrivalKind, per_second: f64, seed: u64) -> Self {
        Self { kind, per_second, random: seed, number: 0, micros: 0.0 }
    }

    /// A uniform random number in (0, 1].
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(GAMMA);
        ((split_mix(self.random) >> 11) + 1) as f64 / 2_f64.powi(53)
    }
}

impl Iterator for Arrivals {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.per_second <= 0.0 {
            return None;
        }
        let micros = match self.kind {
            ArrivalKind::Uniform => self.number as f64 * MICROS_PER_SECOND / self.per_second,
            ArrivalKind::Poisson => {
                self.micros -= self.draw().ln() * MICROS_PER_SECOND / self.per_second;
                self.micros
            }
        };
        self.number += 1;
        Some(micros as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_arrivals_have_equal_intervals() {
        let arrivals: Vec<_> = Arrivals::new(ArrivalKind::Uniform, 4.0, 0).take(4).collect();
        assert_eq!(arrivals, [0, 250_000, 500_000, 750_000]);
        assert_eq!(Arrivals::new(ArrivalKind::Uniform, 0.0, 0).next(), None);
        // Rounding errors do not accumulate.
        assert_eq!(Arrivals::new(ArrivalKind::Uniform, 3.0, 0).nth(3_000_000), Some(1_000_000_000_000));
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_exponential_intervals() {
        let arrivals: Vec<_> = Arrivals::new(ArrivalKind::Poisson, 1000.0, 5).take(100_000).collect();
        assert!(arrivals.is_sorted());
        let seconds = arrivals[arrivals.len() - 1] as f64 / MICROS_PER_SECOND;
        assert!((seconds - 100.0).abs() < 2.0, "{seconds}");
        // A fraction 1/e of exponential intervals is longer than the mean.
        let long = arrivals.windows(2).filter(|pair| pair[1] - pair[0] > 1000).count() as f64 / 1e5;
        assert!((long - (-1_f64).exp()).abs() < 0.01, "{long}");
        assert_eq!(arrivals, Arrivals::new(ArrivalKind::Poisson, 1000.0, 5).take(100_000).collect::<Vec<_>>());
        assert_ne!(arrivals, Arrivals::new(ArrivalKind::Poisson, 1000.0, 6).take(100_000).collect::<Vec<_>>());
    }
}
