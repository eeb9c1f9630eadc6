//! Selection of the queue, job set, outcome and attributes of live jobs, derived from the job number.

use serde::{Deserialize, Serialize};

use super::config::LoadConfig;

/// The scale of the thresholds of Armada's Broadside.
const SCALE: u64 = 1000;

/// The selection of the queue, job set, outcome and attributes of jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum SelectionKind {
    /// Each property of a job is drawn independently from a seeded generator.
    #[default]
    Independent,
    /// Each property is derived from the job number, as in Armada's Broadside: the number modulo 1000 is compared with
    /// cumulative thresholds, sums of `trunc(1000 × proportion)`. The properties are correlated, and some job sets may
    /// not get any jobs.
    Upstream,
}

/// The properties of a job. Changing a discriminant changes the jobs of every seed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Property {
    Queue = 1,
    JobSet,
    Success,
    Namespace,
    Priority,
    PriorityClass,
    Cpu,
    Memory,
    EphemeralStorage,
    Gpu,
    Pool,
    Cluster,
    Node,
    /// The first annotation; the others follow.
    Annotation = 32,
}

/// The queue, job set and outcome of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JobChoice {
    /// The index of the queue.
    pub(super) queue: usize,
    /// The index of the job set within the queue.
    pub(super) job_set: usize,
    /// Whether the job succeeds.
    pub(super) succeeds: bool,
}

/// Selects the queue, job set and outcome of live jobs.
#[derive(Debug, Clone)]
pub(super) struct Selector {
    source: DrawSource,
    queues: Thresholds,
    job_sets: Vec<Thresholds>,
    success: Thresholds,
}

/// The source of the numbers from which properties are derived.
#[derive(Debug, Clone, Copy)]
pub(super) enum DrawSource {
    Seed(u64),
    JobNumber,
}

impl DrawSource {
    /// The number for a property of a job.
    pub(super) fn draw(self, job: u64, property: Property) -> u64 {
        self.draw_at(job, property as u64)
    }

    /// The number for the annotation at an index.
    pub(super) fn draw_annotation(self, job: u64, index: usize) -> u64 {
        self.draw_at(job, Property::Annotation as u64 + index as u64)
    }

    fn draw_at(self, job: u64, stream: u64) -> u64 {
        match self {
            Self::Seed(seed) => mix(seed, job, stream),
            Self::JobNumber => job,
        }
    }

    /// The number to compare with the thresholds, below 2⁶⁴ or below 1000.
    fn point(self, job: u64, property: Property) -> u64 {
        match self {
            Self::Seed(_) => self.draw(job, property),
            Self::JobNumber => job % SCALE,
        }
    }
}

/// The cumulative thresholds of proportions.
#[derive(Debug, Clone)]
struct Thresholds(Vec<u64>);

impl Thresholds {
    fn new(proportions: impl IntoIterator<Item = f64>, source: DrawSource) -> Self {
        let mut sum = 0.0;
        let threshold = |proportion: f64| match source {
            DrawSource::JobNumber => {
                // A whole number, so that the sum is exact.
                sum += (proportion * SCALE as f64).trunc();
                sum as u64
            }
            DrawSource::Seed(_) => {
                sum += proportion;
                (sum * 2_f64.powi(64)) as u64
            }
        };
        Self(proportions.into_iter().map(threshold).collect())
    }

    /// The index of the first threshold above a point, or the last index if there is none.
    fn index(&self, point: u64) -> usize {
        let index = self.0.iter().position(|&threshold| point < threshold);
        index.unwrap_or(self.0.len().saturating_sub(1))
    }
}

impl Selector {
    /// Creates the selector of a configuration. The seed is only used by the independent selection.
    pub(super) fn new(kind: SelectionKind, seed: u64, config: &LoadConfig) -> Self {
        let source = match kind {
            SelectionKind::Independent => DrawSource::Seed(seed),
            SelectionKind::Upstream => DrawSource::JobNumber,
        };
        let of_job_sets =
            config.queues.iter().map(|queue| Thresholds::new(queue.job_sets.iter().map(|set| set.proportion), source));
        Self {
            source,
            queues: Thresholds::new(config.queues.iter().map(|queue| queue.proportion), source),
            job_sets: of_job_sets.collect(),
            success: Thresholds::new([config.ingestion.transitions.proportion_succeed], source),
        }
    }

    /// The selection of job `number`.
    pub(super) fn select(&self, number: u64) -> JobChoice {
        let queue = self.queues.index(self.source.point(number, Property::Queue));
        let job_set = self.job_sets[queue].index(self.source.point(number, Property::JobSet));
        let succeeds = self.source.point(number, Property::Success) < self.success.0[0];
        JobChoice { queue, job_set, succeeds }
    }

    pub(super) fn source(&self) -> DrawSource {
        self.source
    }
}

/// Hashes three numbers by the output function of SplitMix64.
fn mix(seed: u64, number: u64, stream: u64) -> u64 {
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    split_mix(split_mix(seed ^ stream.wrapping_mul(GAMMA)).wrapping_add(number.wrapping_mul(GAMMA)))
}

/// The output function of SplitMix64.
pub(super) fn split_mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::load::fixtures;

    fn config() -> LoadConfig {
        fixtures::config(
            "
ingestionConfig: {jobStateTransitionConfig: {proportionSucceed: 0.95, proportionFail: 0.05}}
queueConfig:
  - name: queue-a
    proportion: 0.5695
    jobSetConfig: [{name: a-1, proportion: 0.7}, {name: a-2, proportion: 0.3}]
  - name: queue-b
    proportion: 0.4305
    jobSetConfig: [{name: b-1, proportion: 0.2}, {name: b-2, proportion: 0.5}, {name: b-3, proportion: 0.3}]
",
        )
    }

    #[test]
    fn the_upstream_selection_compares_the_job_number_with_all_thresholds() {
        let selector = Selector::new(SelectionKind::Upstream, 7, &config());
        let mut job_sets: BTreeMap<_, u64> = BTreeMap::new();
        for n in 0..10_000 {
            let choice = selector.select(n);
            let point = n % 1000;
            // trunc(1000 × 0.5695) is 569.
            let queue = if point < 569 { 0 } else { 1 };
            let job_set = match (queue, point) {
                (0, 0..700) => 0,
                (0, _) => 1,
                (_, 0..200) => 0,
                (_, 200..700) => 1,
                _ => 2,
            };
            assert_eq!((choice.queue, choice.job_set, choice.succeeds), (queue, job_set, point < 950), "{n}");
            *job_sets.entry((choice.queue, choice.job_set)).or_default() += 1;
        }
        // The job set with 30 % of the first queue gets no jobs, as in Armada's Broadside.
        assert_eq!(job_sets, BTreeMap::from([((0, 0), 5690), ((1, 1), 1310), ((1, 2), 3000)]));
    }

    #[test]
    fn the_independent_selection_is_deterministic_and_keeps_the_proportions() {
        let jobs = 100_000;
        let chosen = |seed| {
            let selector = Selector::new(SelectionKind::Independent, seed, &config());
            (0..jobs).map(|n| selector.select(n)).collect::<Vec<_>>()
        };
        let choices = chosen(1);
        assert_eq!(choices, chosen(1));
        assert_ne!(choices, chosen(2));
        let fraction = |holds: &dyn Fn(&JobChoice) -> bool| {
            choices.iter().filter(|choice| holds(choice)).count() as f64 / jobs as f64
        };
        for (queue, of_queue, job_sets) in [(0, 0.57, &[0.7, 0.3][..]), (1, 0.43, &[0.2, 0.5, 0.3])] {
            for (job_set, of_job_set) in job_sets.iter().enumerate() {
                let expected = of_queue * of_job_set;
                let found = fraction(&|choice| (choice.queue, choice.job_set) == (queue, job_set));
                assert!((found - expected).abs() < 0.005, "{queue} {job_set}: {found}");
                // Failures are distributed over all job sets.
                let failed = fraction(&|choice| (choice.queue, choice.job_set) == (queue, job_set) && !choice.succeeds);
                assert!((failed - expected * 0.05).abs() < 0.003, "{queue} {job_set}: {failed}");
            }
        }
    }
}
