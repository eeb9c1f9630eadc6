//! Arrival times of streams.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::LoadConfig;
use super::selection::split_mix;

const MICROS_PER_SECOND: f64 = 1e6;
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The distribution of arrivals over time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum ArrivalKind {
    /// At equal intervals.
    #[default]
    Uniform,
    /// A Poisson process with the same mean rate.
    Poisson,
}

/// The rate of the load over time as a factor of the configured rates: a step function.
#[derive(Debug, Clone)]
pub(super) struct Profile(Vec<Step>);

/// A part of a profile with a constant factor, which ends where the next step starts.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// The start, in microseconds from the start of the load.
    start: f64,
    /// The integral of the factor over the time before the start.
    work: f64,
    factor: f64,
}

impl Profile {
    /// A profile of consecutive parts, each with its length and its factor. The last factor also applies to the time
    /// after the last part. Without parts, the factor is 1.
    pub(super) fn new(parts: impl IntoIterator<Item = (Duration, f64)>) -> Self {
        let (mut start, mut work) = (0.0, 0.0);
        let step = |(length, factor): (Duration, f64)| {
            let step = Step { start, work, factor };
            start += length.as_micros() as f64;
            work += length.as_micros() as f64 * factor;
            step
        };
        let steps: Vec<_> = parts.into_iter().map(step).collect();
        Self(if steps.is_empty() { vec![Step { start: 0.0, work: 0.0, factor: 1.0 }] } else { steps })
    }

    /// The profile of a load test. The warm-up has the factor of the first stage.
    pub(super) fn of(config: &LoadConfig) -> Self {
        let first = config.stages.first().map_or(1.0, |stage| stage.rate);
        let stages = config.stages.iter().map(|stage| (stage.duration, stage.rate));
        Self::new([(config.warmup_duration, first)].into_iter().chain(stages))
    }

    /// The time at which the integral of the factor reaches a value; `None` if it never does.
    fn time_of(&self, work: f64) -> Option<f64> {
        let index = self.0.partition_point(|step| step.work <= work).saturating_sub(1);
        let step = self.0[index];
        (step.factor > 0.0).then(|| step.start + (work - step.work) / step.factor)
    }

    /// The integral of the factor over a period in microseconds.
    pub(super) fn work(&self, [from, to]: [u64; 2]) -> f64 {
        let until = |time: f64| {
            let step = self.0[self.0.partition_point(|step| step.start <= time).saturating_sub(1)];
            step.work + (time - step.start) * step.factor
        };
        until(to as f64) - until(from as f64)
    }
}

/// The arrival times of a stream, in ascending microseconds from its start. They do not depend on the store.
#[derive(Debug, Clone)]
pub(super) struct Arrivals {
    kind: ArrivalKind,
    per_second: f64,
    profile: Arc<Profile>,
    /// The first arrival of a uniform stream, as a fraction of its interval.
    phase: f64,
    random: u64,
    number: u64,
    /// The previous arrival of a Poisson process with the factor 1.
    micros: f64,
}

impl Arrivals {
    /// A stream with a rate per second. With rate 0 it is empty.
    pub(super) fn new(kind: ArrivalKind, per_second: f64, profile: Arc<Profile>, seed: u64) -> Self {
        Self { kind, per_second, profile, phase: 0.0, random: seed, number: 0, micros: 0.0 }
    }

    /// The stream at an index of several: uniform streams of the same rate have distinct arrival times.
    pub(super) fn at_index(self, index: usize) -> Self {
        // Multiples of the golden ratio modulo 1 are evenly distributed for any number of streams.
        const GOLDEN_RATIO: f64 = 1.618_033_988_749_895;
        Self { phase: ((index + 1) as f64 * GOLDEN_RATIO).fract(), ..self }
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
        let work = match self.kind {
            ArrivalKind::Uniform => (self.number as f64 + self.phase) * MICROS_PER_SECOND / self.per_second,
            ArrivalKind::Poisson => {
                self.micros -= self.draw().ln() * MICROS_PER_SECOND / self.per_second;
                self.micros
            }
        };
        self.number += 1;
        self.profile.time_of(work).map(|micros| micros as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(kind: ArrivalKind, per_second: f64, seed: u64) -> Arrivals {
        Arrivals::new(kind, per_second, Arc::new(Profile::new([])), seed)
    }

    fn stages(parts: &[(u64, f64)]) -> Arc<Profile> {
        Arc::new(Profile::new(parts.iter().map(|&(seconds, factor)| (Duration::from_secs(seconds), factor))))
    }

    #[test]
    fn uniform_arrivals_have_equal_intervals() {
        let four: Vec<_> = arrivals(ArrivalKind::Uniform, 4.0, 0).take(4).collect();
        assert_eq!(four, [0, 250_000, 500_000, 750_000]);
        assert_eq!(arrivals(ArrivalKind::Uniform, 0.0, 0).next(), None);
        // Rounding errors do not accumulate.
        assert_eq!(arrivals(ArrivalKind::Uniform, 3.0, 0).nth(3_000_000), Some(1_000_000_000_000));
    }

    #[test]
    fn uniform_streams_of_one_rate_are_spread_over_the_interval() {
        let streams = 10;
        let stream = |index| arrivals(ArrivalKind::Uniform, 1.0, 0).at_index(index);
        let mut first: Vec<_> = (0..streams).map(|index| stream(index).next().unwrap()).collect();
        first.sort_unstable();
        assert!(first.windows(2).all(|pair| pair[1] - pair[0] > 50_000), "{first:?}");
        assert!(first[9] < 1_000_000, "{first:?}");
        // The number of arrivals in a whole number of intervals does not depend on the phase.
        assert!((0..streams).all(|index| stream(index).take_while(|&micros| micros < 60_000_000).count() == 60));
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_exponential_intervals() {
        let thousand = |seed| arrivals(ArrivalKind::Poisson, 1000.0, seed).take(100_000).collect::<Vec<_>>();
        let arrivals = thousand(5);
        assert!(arrivals.is_sorted());
        let seconds = arrivals[arrivals.len() - 1] as f64 / MICROS_PER_SECOND;
        assert!((seconds - 100.0).abs() < 2.0, "{seconds}");
        // A fraction 1/e of exponential intervals is longer than the mean.
        let long = arrivals.windows(2).filter(|pair| pair[1] - pair[0] > 1000).count() as f64 / 1e5;
        assert!((long - (-1_f64).exp()).abs() < 0.01, "{long}");
        assert_eq!(arrivals, thousand(5));
        assert_ne!(arrivals, thousand(6));
    }

    #[test]
    fn stages_multiply_the_rate() {
        let profile = stages(&[(10, 0.5), (10, 2.0), (10, 0.0), (10, 1.0)]);
        for kind in [ArrivalKind::Uniform, ArrivalKind::Poisson] {
            let arrivals: Vec<_> =
                Arrivals::new(kind, 1000.0, profile.clone(), 3).take_while(|&micros| micros < 50_000_000).collect();
            assert!(arrivals.is_sorted());
            for (second, expected) in [(0, 5000), (10, 20_000), (20, 0), (30, 10_000), (40, 10_000)] {
                let of_stage = second * 1_000_000..(second + 10) * 1_000_000;
                let count = arrivals.iter().filter(|&&micros| of_stage.contains(&micros)).count() as i64;
                // Four standard deviations of a Poisson process.
                let tolerance = if kind == ArrivalKind::Uniform { 1 } else { 4 * (expected as f64).sqrt() as i64 };
                assert!((count - expected).abs() <= tolerance, "{kind:?} from {second} s: {count}");
            }
        }
        assert_eq!(profile.work([5_000_000, 25_000_000]), 22_500_000.0);
        assert_eq!(Profile::new([]).work([1, 4]), 3.0);
        // After a last stage with rate 0 there are no arrivals.
        assert_eq!(Arrivals::new(ArrivalKind::Uniform, 1.0, stages(&[(3, 1.0), (1, 0.0)]), 0).count(), 3);
    }
}
