//! Ratios of medians, and their intervals.

use crate::measure::Ratio;
use crate::workload::Random;

/// The smallest number of turns of an interval.
pub(super) const MIN_TURNS: usize = 5;
/// The number of resamples, with which the standard error is within about 3 %.
const RESAMPLES: usize = 500;

/// The ratio of the medians of all executions of two backends, given the nanoseconds of the executions in each turn;
/// `None` if one of them has none. It has an interval from five turns of both on.
///
/// The standard error of the logarithm is that of bootstrap samples of the rounds. A round has a turn of each backend,
/// so that what slows both down in the same round does not widen the interval, and what differs from turn to turn does.
/// The interval is Student's, symmetric on a logarithmic scale.
pub(super) fn ratio_of(first: &[Vec<u64>], other: &[Vec<u64>]) -> Option<Ratio> {
    let rounds = first.len().max(other.len());
    let (first_times, other_times) = (Times::new(first), Times::new(other));
    let log_ratio = |weights: &[u64]| {
        let (first, other) = (first_times.median(weights)?, other_times.median(weights)?);
        Some((other as f64 / first as f64).ln())
    };
    let log = log_ratio(&vec![1; rounds])?;
    let paired = first.len().min(other.len());
    let interval = (paired >= MIN_TURNS).then(|| {
        let mut random = Random::new(0, 0);
        let logs: Vec<_> = (0..RESAMPLES).filter_map(|_| log_ratio(&resample(rounds, &mut random))).collect();
        let half = half_width(&logs, paired);
        [(log - half).exp(), (log + half).exp()]
    });
    Some(Ratio { value: log.exp(), interval })
}

/// How often each round is drawn, in as many draws as there are rounds.
fn resample(rounds: usize, random: &mut Random) -> Vec<u64> {
    let mut weights = vec![0; rounds];
    for _ in 0..rounds {
        weights[random.below(rounds as u64) as usize] += 1;
    }
    weights
}

/// Half of the width of the interval. A bootstrap sample of n turns has (n − 1) / n of the variance of their mean.
fn half_width(logs: &[f64], turns: usize) -> f64 {
    let (count, turns) = (logs.len() as f64, turns as f64);
    let mean = logs.iter().sum::<f64>() / count;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / count;
    student(turns - 1.0) * (variance * turns / (turns - 1.0)).sqrt()
}

/// The 97.5th percentile of Student's t distribution, by its expansion for many degrees of freedom; within 0.3 % from 4
/// on (Abramowitz and Stegun, 26.7.5).
fn student(freedom: f64) -> f64 {
    1.959_964 + 2.372_271 / freedom + 2.822_500 / freedom.powi(2) + 2.555_852 / freedom.powi(3)
}

/// The times of all turns in ascending order, each with its round.
struct Times(Vec<(u64, usize)>);

impl Times {
    fn new(turns: &[Vec<u64>]) -> Self {
        let times = turns.iter().enumerate().flat_map(|(round, turn)| turn.iter().map(move |&time| (time, round)));
        let mut times: Vec<_> = times.collect();
        times.sort_unstable();
        Self(times)
    }

    /// The median by nearest rank, where each round counts as often as its weight; `None` without times.
    fn median(&self, weights: &[u64]) -> Option<u64> {
        let total: u64 = self.0.iter().map(|&(_, round)| weights[round]).sum();
        let mut counted = 0;
        let median = self.0.iter().find(|&&(_, round)| {
            counted += weights[round];
            counted > 0 && 2 * counted >= total
        });
        median.map(|&(time, _)| time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Standard normal numbers, by the polar method of Box and Muller.
    fn normal(random: &mut Random) -> f64 {
        let mut uniform = || (random.below(1 << 53) as f64 + 0.5) / (1_u64 << 53) as f64;
        (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()
    }

    #[test]
    fn constant_times_have_an_exact_ratio() {
        let ratio = ratio_of(&vec![vec![1000; 10]; 5], &vec![vec![2500; 10]; 5]).unwrap();
        let [low, high] = ratio.interval.unwrap();
        for value in [low, ratio.value, high] {
            assert!((value - 2.5).abs() < 1e-9, "{ratio:?}");
        }
    }

    #[test]
    fn the_medians_are_by_nearest_rank_over_all_turns() {
        let first = [vec![8, 2], vec![4], vec![6]];
        let ratio = ratio_of(&first, &[vec![100, 60, 20]]).unwrap();
        assert!((ratio.value - 60.0 / 4.0).abs() < 1e-9, "{ratio:?}");
        assert_eq!((ratio_of(&[], &first), ratio_of(&first, &[vec![]])), (None, None));
    }

    #[test]
    fn an_interval_requires_five_turns_of_both() {
        let turns = |count| vec![vec![1, 2, 3]; count];
        for (first, other, has_interval) in [(4, 4, false), (5, 4, false), (4, 9, false), (5, 5, true), (6, 5, true)] {
            let ratio = ratio_of(&turns(first), &turns(other)).unwrap();
            assert_eq!(ratio.interval.is_some(), has_interval, "{first} {other}");
            assert!(ratio.interval.is_none_or(|[low, high]| low <= ratio.value && ratio.value <= high));
        }
    }

    /// The drift of the machine affects both turns of a round alike, so the pairs have no variance.
    #[test]
    fn drift_of_the_machine_does_not_widen_the_interval() {
        let first: Vec<_> = (0..10).map(|round| vec![1000 << round; 10]).collect();
        let other: Vec<_> = first.iter().map(|turn| turn.iter().map(|time| time * 3).collect()).collect();
        let [low, high] = ratio_of(&first, &other).unwrap().interval.unwrap();
        assert!((low - 3.0).abs() < 1e-9 && (high - 3.0).abs() < 1e-9, "{low} {high}");
    }

    /// With one time in each of five turns, the median of a resample is the k-th smallest with probabilities of Efron:
    /// 181, 811, 1141, 811 and 181 of 3125. The logarithms 0, 1, 2, 3, 4 then have a variance of 3070 / 3125.
    #[test]
    fn the_interval_of_five_turns_is_that_of_the_exact_bootstrap() {
        let first = vec![vec![1_000_000_000]; 5];
        let other: Vec<_> = (0..5).map(|power| vec![(1e9 * f64::from(power).exp()) as u64]).collect();
        let ratio = ratio_of(&first, &other).unwrap();
        assert!((ratio.value.ln() - 2.0).abs() < 1e-6, "{ratio:?}");
        let half = 2.776_445 * ((2.0 * (181.0 * 4.0 + 811.0)) / 3125.0 * 5.0 / 4.0_f64).sqrt();
        let [low, high] = ratio.interval.unwrap();
        assert!((low * high - ratio.value.powi(2)).abs() < 1e-6 * low * high, "symmetric by logarithms");
        // The standard deviation of the standard error of 500 resamples is about 3 %.
        assert!(((high / ratio.value).ln() / half - 1.0).abs() < 0.1, "{ratio:?}, {half}");
        assert_eq!(ratio_of(&first, &other), Some(ratio), "the interval depends only on the times");
    }

    /// From tables of Student's t distribution.
    #[test]
    fn percentiles_of_student() {
        for (freedom, expected) in [(4.0, 2.776_445), (9.0, 2.262_157), (29.0, 2.045_230), (999.0, 1.962_341)] {
            assert!((student(freedom) / expected - 1.0_f64).abs() < 0.003, "{freedom}: {}", student(freedom));
        }
    }

    /// Runs whose true ratio is 2. The executions vary, and so do the turns of a store and the rounds of the machine.
    #[test]
    fn about_95_of_100_intervals_contain_the_true_ratio() {
        let mut random = Random::new(7, 0);
        for (rounds, spread, turn, drift) in
            [(5, 0.3, 0.0, 0.0), (10, 0.3, 0.0, 0.0), (10, 0.05, 0.2, 0.3), (20, 0.2, 0.1, 0.0)]
        {
            let mut contained = 0;
            for _ in 0..200 {
                let (mut first, mut other) = (Vec::new(), Vec::new());
                for _ in 0..rounds {
                    let common = drift * normal(&mut random);
                    for (turns, scale) in [(&mut first, 1e6), (&mut other, 2e6)] {
                        let of_turn = common + turn * normal(&mut random);
                        let time = |_| (scale * (of_turn + spread * normal(&mut random)).exp()) as u64;
                        turns.push((0..10).map(time).collect());
                    }
                }
                let [low, high] = ratio_of(&first, &other).unwrap().interval.unwrap();
                contained += usize::from(low <= 2.0 && 2.0 <= high);
            }
            assert!((180..=199).contains(&contained), "{contained} of 200 with {rounds} rounds");
        }
    }
}
