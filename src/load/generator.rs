//! The generator of ingestion events. It has no store and no clock.

use std::collections::VecDeque;
use std::iter::{self, Peekable};
use std::sync::Arc;

use super::actions::ActiveJob;
use super::arrivals::{ArrivalKind, Arrivals, Profile};
use super::config::{BacklogStrategy, LoadConfig};
use super::expectation::ExpectedCounts;
use super::lifecycle::{JobFactory, LifeStage, LiveJob};
use super::selection::{SelectionKind, split_mix};
use super::share::Share;
use super::worker::{Change, DueEvent, Event, Limits, Worker};
use crate::error::Result;
use crate::ingest::{IngestionBatch, IngestionQuery};
use crate::time::Timestamp;

/// The size of the sample that the census compares field by field.
const SAMPLE_SIZE: usize = 256;

/// Options of the generation of jobs and reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GeneratorOptions {
    /// The selection of the properties of jobs.
    pub selection: SelectionKind,
    /// The distribution of arrivals over time.
    pub arrivals: ArrivalKind,
    /// The seed of the random number generators.
    pub seed: u64,
    /// The part of the load that this process generates; all of it by default.
    pub share: Share,
}

/// Generates the ingestion queries of a load test: arrivals of jobs at a rate, their state transitions, and the batches
/// of the workers that own the jobs.
///
/// The caller advances the time, which is in microseconds from the start of the load. An active job takes 24 bytes.
#[derive(Debug)]
pub struct Generator {
    factory: Arc<JobFactory>,
    arrivals: Peekable<Arrivals>,
    next_number: u64,
    share: Share,
    workers: Vec<Worker>,
    strategy: BacklogStrategy,
    /// The start of the test phase. Jobs that are shed before it are not counted.
    test_start: u64,
    /// The end of the load. Events that are due at or after it are not generated.
    horizon: u64,
    random: u64,
    redelivery: f64,
    sample: Sample,
    pub(super) expectation: ExpectedCounts,
    pub(super) shed: ShedJobs,
}

/// The numbers of jobs of the test phase that were shed because the backlog was full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShedJobs {
    /// Jobs shed by [`BacklogStrategy::Drop`].
    pub dropped: u64,
    /// Jobs shed by [`BacklogStrategy::Error`].
    pub rejected: u64,
}

/// A batch to send.
#[derive(Debug)]
#[non_exhaustive]
pub struct PlannedBatch {
    /// The index of the worker.
    pub worker: usize,
    pub(super) events: Arc<[DueEvent]>,
    /// The time from which on the batch could be sent, in microseconds from the start of the load: it was full or its
    /// timeout had expired, and no batch of the worker was in flight.
    pub(super) ready: u64,
    /// Whether to send the batch a second time after it has succeeded.
    pub redelivered: bool,
}

impl Generator {
    /// Creates a generator. `start` is the wall-clock time of the start of the load.
    pub fn new(config: &LoadConfig, options: GeneratorOptions, start: Timestamp) -> Self {
        let ingestion = &config.ingestion;
        let factory = JobFactory::new(config, options.selection, options.seed, start);
        let limits = Limits {
            // The limit of the backlog is that of each worker, as in Armada's Broadside.
            capacity: ingestion
                .channel_buffer_size_multiplier
                .saturating_mul(ingestion.batch_size)
                .min(Some(ingestion.max_backlog_size).filter(|&size| size > 0).unwrap_or(u64::MAX)),
            batch_size: ingestion.batch_size,
            linger: u64::try_from(ingestion.linger().as_micros()).unwrap_or(u64::MAX),
        };
        let per_second = ingestion.submissions_per_hour as f64 / 3600.0;
        let profile = Arc::new(Profile::of(config));
        Self {
            workers: (0..ingestion.num_workers).map(|_| Worker::new(*factory.delays(), limits)).collect(),
            factory: Arc::new(factory),
            arrivals: Arrivals::new(options.arrivals, per_second, profile, options.seed).peekable(),
            next_number: 0,
            share: options.share,
            strategy: ingestion.backlog_drop_strategy,
            test_start: config.warmup_duration.as_micros() as u64,
            horizon: u64::MAX,
            random: split_mix(options.seed ^ 0x5eed),
            redelivery: config.redelivery,
            sample: Sample::default(),
            expectation: ExpectedCounts::default(),
            shed: ShedJobs::default(),
        }
    }

    /// Ends the load at a time. Events that are due at or after it are not generated.
    pub fn end_at(&mut self, micros: u64) {
        self.horizon = self.horizon.min(micros);
    }

    pub(super) fn horizon(&self) -> u64 {
        self.horizon
    }

    pub(super) fn factory(&self) -> &Arc<JobFactory> {
        &self.factory
    }

    /// The actions of the updates that were skipped since the last call, one entry for each update.
    pub(super) fn take_skipped(&mut self) -> Vec<usize> {
        self.workers.iter_mut().flat_map(|worker| std::mem::take(&mut worker.skipped)).collect()
    }

    /// The number of workers.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The number of active jobs.
    pub fn active_jobs(&self) -> usize {
        self.workers.iter().map(Worker::active).sum()
    }

    /// Returns true if this process may update a job for an action. Of the jobs of this load, a worker skips those that
    /// are not its own, and so those of other shares; the jobs of earlier loads are divided among the shares.
    pub(super) fn may_update(&self, job: &ActiveJob) -> bool {
        self.factory.key(job.submitted, &job.id).is_some() || self.share.has(super::ids::hash(&job.id))
    }

    /// Passes an update of a job to the worker that owns it.
    pub(super) fn change(&mut self, due: u64, job_id: &str, change: Change) {
        let worker = super::ids::worker(job_id, self.workers.len());
        self.workers[worker].change(due, change);
    }

    /// Generates the events that are due, as far as the queues have room.
    pub fn advance(&mut self, now: u64) {
        self.arrive(now);
        for worker in &mut self.workers {
            worker.advance(now, self.horizon, &mut self.expectation);
        }
    }

    /// Assigns the jobs that have arrived to workers, or sheds them.
    fn arrive(&mut self, now: u64) {
        while let Some(arrival) = self.arrivals.next_if(|&arrival| arrival <= now && arrival < self.horizon) {
            let number = self.next_number;
            self.next_number += 1;
            if !self.share.has(number) {
                continue;
            }
            let job = self.factory.job(number, arrival);
            let index = self.factory.id(&job).worker(self.workers.len());
            let worker = &mut self.workers[index];
            if self.strategy != BacklogStrategy::Block && worker.is_full() {
                let shed = match self.strategy {
                    BacklogStrategy::Drop => &mut self.shed.dropped,
                    _ => &mut self.shed.rejected,
                };
                *shed += u64::from(arrival >= self.test_start);
                continue;
            }
            self.random = split_mix(self.random.wrapping_add(1));
            self.sample.offer(job, self.random);
            worker.accept(job);
        }
    }

    /// The next batch to send: a full batch or one whose timeout has expired, of a worker without a batch in flight;
    /// with `flush`, any batch. The worker sends no other batch until [`complete`](Self::complete) is called.
    pub fn next_batch(&mut self, now: u64, flush: bool) -> Option<PlannedBatch> {
        let flush = flush.then_some(self.horizon.min(now));
        let mut workers = self.workers.iter_mut().enumerate();
        let (worker, (events, ready)) =
            workers.find_map(|(index, worker)| Some((index, worker.take_batch(now, flush)?)))?;
        self.random = split_mix(self.random.wrapping_add(1));
        let redelivered = (self.random as f64) < self.redelivery * 2_f64.powi(64);
        Some(PlannedBatch { worker, events, ready, redelivered })
    }

    /// Marks the batch of a worker as stored at a time.
    pub fn complete(&mut self, worker: usize, at: u64) {
        self.workers[worker].complete(at);
    }

    /// Returns true if a batch is in flight.
    pub(super) fn is_sending(&self) -> bool {
        self.workers.iter().any(Worker::is_sending)
    }

    /// The due time of the next event; `None` if there is none until a batch completes.
    pub(super) fn next_event(&mut self) -> Option<u64> {
        let horizon = self.horizon;
        let arrival = self.arrivals.peek().copied();
        let of_workers = self.workers.iter().filter_map(Worker::next_due);
        of_workers.chain(arrival).filter(|&due| due < horizon).min()
    }

    /// The time at which the timeout of the next batch expires; `None` if there is none until an event or a batch.
    pub(super) fn next_batch_at(&self) -> Option<u64> {
        self.workers.iter().filter_map(Worker::next_batch_at).min()
    }

    /// The number of queries that are due and not known to be stored.
    pub fn backlog(&self, now: u64) -> u64 {
        self.workers.iter().map(|worker| worker.backlog(now, self.horizon)).sum()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.workers.iter().all(|worker| worker.is_drained(self.horizon))
    }

    /// The due time and the number of queries of each event that is due and not known to be stored.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = (u64, u64)> {
        self.workers.iter().flat_map(|worker| worker.unfinished(self.horizon))
    }

    pub(super) fn sample(&self) -> &[LiveJob] {
        &self.sample.jobs
    }

    pub(super) fn owner(&self, job: &LiveJob) -> &Worker {
        &self.workers[self.factory.id(job).worker(self.workers.len())]
    }

    /// The queries of a planned batch, in order.
    pub fn queries(&self, batch: &PlannedBatch) -> impl Iterator<Item = IngestionQuery> {
        batch.queries(&self.factory)
    }
}

impl PlannedBatch {
    /// The number of queries.
    pub fn query_count(&self) -> u64 {
        self.events.iter().map(|due| due.event.query_count()).sum()
    }

    /// The queries in order. They are created one event at a time, so that the batch is in memory only once.
    pub(super) fn queries(&self, factory: &JobFactory) -> impl Iterator<Item = IngestionQuery> {
        let mut events = self.events.iter();
        let mut of_event = VecDeque::new();
        iter::from_fn(move || {
            if of_event.is_empty() {
                match &events.next()?.event {
                    Event::Transition(job, stage) => factory.push_queries(job, *stage, &mut of_event),
                    Event::Change(change) => of_event.push_back(change.query.clone()),
                }
            }
            of_event.pop_front()
        })
    }

    pub(super) fn validated(&self, factory: &JobFactory) -> Result<IngestionBatch> {
        IngestionBatch::new(self.queries(factory))
    }

    /// The actions of the updates in the batch, one entry for each update.
    pub(super) fn actions(&self) -> impl Iterator<Item = usize> + '_ {
        self.events.iter().filter_map(|due| match &due.event {
            Event::Change(change) => Some(change.action),
            Event::Transition(..) => None,
        })
    }

    /// The first job that enters a stage in the batch.
    pub(super) fn first(&self, wanted: LifeStage) -> Option<&LiveJob> {
        self.events.iter().find_map(|due| match &due.event {
            Event::Transition(job, stage) if *stage == wanted => Some(job),
            _ => None,
        })
    }
}

/// A uniform sample of the accepted jobs, by reservoir sampling.
#[derive(Debug, Default)]
struct Sample {
    jobs: Vec<LiveJob>,
    offered: u64,
}

impl Sample {
    fn offer(&mut self, job: LiveJob, random: u64) {
        self.offered += 1;
        if self.jobs.len() < SAMPLE_SIZE {
            return self.jobs.push(job);
        }
        let slot = ((u128::from(random) * u128::from(self.offered)) >> 64) as usize;
        if let Some(kept) = self.jobs.get_mut(slot) {
            *kept = job;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_every_job_with_the_same_probability() {
        const JOBS: u64 = 20 * SAMPLE_SIZE as u64;
        let job = |number| LiveJob { number, arrival: 0, queue: 0, job_set: 0, succeeds: true };
        let mut kept = [0; 4];
        for seed in 0..20 {
            let mut sample = Sample::default();
            (0..JOBS).for_each(|number| sample.offer(job(number), split_mix(seed * JOBS + number)));
            assert_eq!(sample.jobs.len(), SAMPLE_SIZE);
            sample.jobs.iter().for_each(|job| kept[(job.number * 4 / JOBS) as usize] += 1);
        }
        // 1,280 jobs of each quarter; the standard deviation is 31.
        assert!(kept.iter().all(|kept| (1130..1430).contains(kept)), "{kept:?}");
        let mut few = Sample::default();
        (0..7).for_each(|number| few.offer(job(number), u64::MAX));
        assert_eq!(few.jobs.iter().map(|job| job.number).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
    }
}
