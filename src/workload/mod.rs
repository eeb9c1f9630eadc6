//! A synthetic workload: jobs like those of a busy cluster, and the queries of its users. `broadside smoke` and
//! `broadside compare` load and query it.
//!
//! A workload is determined by its [`WorkloadOptions`]: the same options produce the same jobs and queries on every
//! machine and with every version of the dependencies. A job is derived only from its number, so any range can be
//! generated separately.
//!
//! ```
//! use broadside::workload::{QueryKind, Workload, WorkloadOptions};
//!
//! let workload = Workload::new(WorkloadOptions { jobs: 1000, ..WorkloadOptions::default() });
//! assert_eq!(workload.job(7), workload.jobs().nth(7).unwrap());
//! let query = workload.query(QueryKind::all()[0], 0);
//! assert!(query.is_some());
//! ```

mod job;
mod lifecycle;
mod query;
mod random;
mod vocabulary;

#[cfg(test)]
mod tests;

pub use job::{GeneratedJob, GeneratedRun};
pub use lifecycle::Stage;
pub use query::{Aggregate, Grouping, PageKind, QueryKind, Record};
pub use vocabulary::ANNOTATION_KEYS;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;
pub(crate) use random::Random;
use vocabulary::QUEUES;

/// The submission time of the last job: 2026-03-01T00:00:00Z.
const END: Timestamp = Timestamp::from_seconds(1_772_323_200);
/// The time from the first submission to the last.
const SPAN_MICROS: u64 = 14 * 86_400 * 1_000_000;
/// A day after the last submission: later than the last transition of every terminal job.
const NOW: Timestamp = END.plus_seconds(86_400);
/// The average number of jobs in a job set.
const JOBS_PER_JOB_SET: u64 = 100;
/// The number of job sets of a queue that receive jobs at the same time.
const CONCURRENT_JOB_SETS: u64 = 4;

/// The correlation of job ids, which ascend in load order, with queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LoadOrder {
    /// By submission time, interleaving all queues, as in a running cluster.
    #[default]
    TimeInterleaved,
    /// One queue after another, each by submission time, as in a bulk load or migration.
    QueueContiguous,
}

/// The parameters of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadOptions {
    /// The seed.
    pub seed: u64,
    /// The number of jobs.
    pub jobs: u64,
    /// The correlation of job ids with queues.
    pub layout: LoadOrder,
    /// One in this many jobs has a spec; 0 for none. Few suffice, because only one kind of query reads specs.
    pub specs_every: u64,
}

impl Default for WorkloadOptions {
    fn default() -> Self {
        Self { seed: 1, jobs: 100_000, layout: LoadOrder::default(), specs_every: 10 }
    }
}

/// The generator of the jobs and queries of a workload.
#[derive(Debug, Clone)]
pub struct Workload {
    options: WorkloadOptions,
    shares: QueueShares,
}

/// The queue, job set and submission time of a job, derived from its number.
struct Placement {
    queue: usize,
    job_set: u64,
    submitted: Timestamp,
    /// The timestamp of the job id.
    id_time: Timestamp,
    /// The per mille of the queue's jobs that were submitted later.
    age_per_mille: u64,
}

impl Workload {
    /// Creates the workload of the options.
    pub fn new(options: WorkloadOptions) -> Self {
        Self { options, shares: QueueShares::new() }
    }

    /// The options of the workload.
    pub fn options(&self) -> &WorkloadOptions {
        &self.options
    }

    /// A time after all times of the workload, for a [`ManualClock`](crate::ManualClock).
    pub fn now(&self) -> Timestamp {
        NOW
    }

    /// Job `number`, which must be below the number of jobs.
    pub fn job(&self, number: u64) -> GeneratedJob {
        GeneratedJob::new(self, number)
    }

    /// All jobs, in the order of their ids.
    pub fn jobs(&self) -> impl Iterator<Item = GeneratedJob> + '_ {
        (0..self.options.jobs).map(|number| self.job(number))
    }

    fn placement(&self, number: u64, random: &mut Random) -> Placement {
        let jobs = self.options.jobs.max(1);
        // The rank of the job among all jobs, or among those of its queue.
        let (queue, at, of) = match self.options.layout {
            LoadOrder::TimeInterleaved => (self.shares.queue_of(random.below(self.shares.total())), number, jobs),
            LoadOrder::QueueContiguous => self.shares.within_queue(number, jobs),
        };
        let job_sets = (self.shares.part(queue, jobs) / JOBS_PER_JOB_SET).max(1);
        let newest = scale(at, job_sets, of);
        let spacing = SPAN_MICROS / of;
        let first = END.as_micros() - SPAN_MICROS as i64;
        let instant = |micros: u64| Timestamp::from_micros(first + micros as i64);
        Placement {
            queue,
            job_set: newest.saturating_sub(random.below(CONCURRENT_JOB_SETS)),
            submitted: instant(scale(at, SPAN_MICROS, of) + random.below(spacing)),
            id_time: instant(scale(number, SPAN_MICROS, jobs)),
            age_per_mille: scale(of - 1 - at.min(of - 1), 1000, of),
        }
    }
}

/// The distribution of jobs over queues: the first has twice as many as the second,
/// three times as many as the third, and so on.
#[derive(Debug, Clone)]
struct QueueShares {
    /// The cumulative weights of the queues.
    ends: [u64; QUEUES.len()],
}

impl QueueShares {
    fn new() -> Self {
        const HEAVIEST: u64 = 1_000_000;

        let mut end = 0;
        Self {
            ends: std::array::from_fn(|queue| {
                end += HEAVIEST / (queue as u64 + 1);
                end
            }),
        }
    }

    fn total(&self) -> u64 {
        self.ends[self.ends.len() - 1]
    }

    fn start(&self, queue: usize) -> u64 {
        if queue == 0 { 0 } else { self.ends[queue - 1] }
    }

    /// The queue at a point below the total weight.
    fn queue_of(&self, point: u64) -> usize {
        self.ends.partition_point(|&end| end <= point)
    }

    /// A queue's share of a total.
    fn part(&self, queue: usize, whole: u64) -> u64 {
        scale(self.ends[queue] - self.start(queue), whole, self.total())
    }

    /// The queue of a job, its rank in the queue and the number of jobs of the queue, if `jobs` are assigned to the
    /// queues one after another.
    fn within_queue(&self, number: u64, jobs: u64) -> (usize, u64, u64) {
        let job_at = |point| scale(point, jobs, self.total());
        let queue = self.ends.partition_point(|&end| job_at(end) <= number).min(QUEUES.len() - 1);
        let start = job_at(self.start(queue));
        (queue, number - start, (job_at(self.ends[queue]) - start).max(1))
    }
}

/// `value × numerator / denominator`, rounded down. The quotient must fit into a u64.
fn scale(value: u64, numerator: u64, denominator: u64) -> u64 {
    (u128::from(value) * u128::from(numerator) / u128::from(denominator)) as u64
}
