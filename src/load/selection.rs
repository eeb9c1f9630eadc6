//! Which queue, job set, end and attributes a live job has, by its number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::config::LoadConfig;

/// The parts of a whole in upstream's thresholds.
const SCALE: u64 = 1000;

/// How jobs are dealt out among queues, job sets, ends and attributes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SelectionKind {
    /// Each property of a job is drawn by itself, from a seed.
    #[default]
    Independent,
    /// Every property follows from the same job number, as upstream's driver has it: the thresholds are sums of
    /// `trunc(1000 × proportion)`, compared with the number modulo 1000. Properties are correlated, and a job set
    /// may get no job at all.
    Upstream,
}

impl fmt::Display for SelectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Independent => "independent",
            Self::Upstream => "upstream",
        })
    }
}

impl FromStr for SelectionKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "independent" => Ok(Self::Independent),
            "upstream" => Ok(Self::Upstream),
            _ => Err("must be independent or upstream".to_owned()),
        }
    }
}

/// What is drawn for a job. The discriminants are part of a seed's meaning.
#[derive(Debug, Clone, Copy)]
pub(super) enum Draw {
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

/// Where a job belongs and how it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The index of the queue.
    pub queue: usize,
    /// The index of the job set within the queue.
    pub job_set: usize,
    /// Whether it succeeds.
    pub succeeds: bool,
}

/// Decides the properties of live jobs.
#[derive(Debug, Clone)]
pub struct Selector {
    source: Source,
    queues: Shares,
    job_sets: Vec<Shares>,
    success: Shares,
}

/// Where the numbers that decide come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Seed(u64),
    JobNumber,
}

impl Source {
    /// The number that decides a property of a job.
    pub(super) fn draw(self, job: u64, what: Draw) -> u64 {
        self.draw_at(job, what as u64)
    }

    /// The number that decides the annotation at an index.
    pub(super) fn draw_annotation(self, job: u64, index: usize) -> u64 {
        self.draw_at(job, Draw::Annotation as u64 + index as u64)
    }

    fn draw_at(self, job: u64, what: u64) -> u64 {
        match self {
            Self::Seed(seed) => mix(seed, job, what),
            Self::JobNumber => job,
        }
    }

    /// The point in the thresholds of a whole: below 2⁶⁴ or below 1000.
    fn point(self, job: u64, what: Draw) -> u64 {
        match self {
            Self::Seed(_) => self.draw(job, what),
            Self::JobNumber => job % SCALE,
        }
    }
}

/// The thresholds of proportions, each the sum of those up to it.
#[derive(Debug, Clone)]
struct Shares(Vec<u64>);

impl Shares {
    fn new(proportions: impl IntoIterator<Item = f64>, source: Source) -> Self {
        match source {
            Source::JobNumber => Self(accumulate(proportions, |proportion| (proportion * SCALE as f64) as u64)),
            Source::Seed(_) => {
                let mut sum = 0.0;
                let threshold = |proportion| {
                    sum += proportion;
                    (sum * 2_f64.powi(64)) as u64
                };
                Self(proportions.into_iter().map(threshold).collect())
            }
        }
    }

    /// The index of the share that a point lies in; the last one beyond all.
    fn index(&self, point: u64) -> usize {
        let index = self.0.iter().position(|&threshold| point < threshold);
        index.unwrap_or(self.0.len().saturating_sub(1))
    }
}

fn accumulate(proportions: impl IntoIterator<Item = f64>, scaled: impl Fn(f64) -> u64) -> Vec<u64> {
    let mut sum = 0;
    let threshold = |proportion| {
        sum += scaled(proportion);
        sum
    };
    proportions.into_iter().map(threshold).collect()
}

impl Selector {
    /// The selector of a configuration; the seed matters to the independent selection alone.
    pub fn new(kind: SelectionKind, seed: u64, config: &LoadConfig) -> Self {
        let source = match kind {
            SelectionKind::Independent => Source::Seed(seed),
            SelectionKind::Upstream => Source::JobNumber,
        };
        let of_job_sets =
            config.queues.iter().map(|queue| Shares::new(queue.job_sets.iter().map(|set| set.proportion), source));
        Self {
            source,
            queues: Shares::new(config.queues.iter().map(|queue| queue.proportion), source),
            job_sets: of_job_sets.collect(),
            success: Shares::new([config.ingestion.transitions.proportion_succeed], source),
        }
    }

    /// Where job `number` belongs, and how it ends.
    pub fn choose(&self, number: u64) -> Choice {
        let queue = self.queues.index(self.source.point(number, Draw::Queue));
        let job_set = self.job_sets[queue].index(self.source.point(number, Draw::JobSet));
        let succeeds = self.source.point(number, Draw::Success) < self.success.0[0];
        Choice { queue, job_set, succeeds }
    }

    pub(super) fn source(&self) -> Source {
        self.source
    }
}

/// SplitMix64's output function over the three numbers: a fixed, evenly distributed number.
fn mix(seed: u64, number: u64, stream: u64) -> u64 {
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    split_mix(split_mix(seed ^ stream.wrapping_mul(GAMMA)).wrapping_add(number.wrapping_mul(GAMMA)))
}

/// SplitMix64's output function.
pub(super) fn split_mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
