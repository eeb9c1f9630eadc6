//! The generator of ingestion events. It has no store and no clock.

use std::collections::VecDeque;
use std::iter::{self, Peekable};
use std::sync::Arc;
use std::time::Duration;

use super::arrivals::{ArrivalKind, Arrivals};
use super::config::{BacklogStrategy, LoadConfig};
use super::expectation::ExpectedCounts;
use super::lifecycle::{JobFactory, LifeStage, LiveJob};
use super::selection::{SelectionKind, split_mix};
use super::worker::{Change, DueEvent, Event, Worker};
use crate::error::Result;
use crate::ingest::{IngestionBatch, IngestionQuery};
use crate::measure::LatencyHistogram;
use crate::time::Timestamp;

/// The default of `batchTimeout`: the maximum time that a query waits for its batch to fill.
const DEFAULT_LINGER: Duration = Duration::from_secs(1);
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
    workers: Vec<Worker>,
    batch_size: u64,
    linger: u64,
    max_backlog: u64,
    strategy: BacklogStrategy,
    /// The end of the load. Events that are due at or after it are not generated.
    horizon: u64,
    random: u64,
    redelivery: f64,
    sample: Sample,
    pub(super) expectation: ExpectedCounts,
    pub(super) shed: ShedJobs,
    /// The delay between the due time and the generation of events.
    pub(super) lag: LatencyHistogram,
}

/// The numbers of jobs that were shed because the backlog was full.
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
    pub(super) events: Vec<DueEvent>,
    /// Whether to send the batch a second time after it has succeeded.
    pub redelivered: bool,
}

impl Generator {
    /// Creates a generator. `start` is the wall-clock time of the start of the load.
    pub fn new(config: &LoadConfig, options: GeneratorOptions, start: Timestamp) -> Self {
        let ingestion = &config.ingestion;
        let factory = JobFactory::new(config, options.selection, options.seed, start);
        let capacity = ingestion.channel_buffer_size_multiplier.saturating_mul(ingestion.batch_size);
        let linger = Some(ingestion.batch_timeout).filter(|timeout| !timeout.is_zero()).unwrap_or(DEFAULT_LINGER);
        let per_second = ingestion.submissions_per_hour as f64 / 3600.0;
        Self {
            workers: (0..ingestion.num_workers).map(|_| Worker::new(*factory.delays(), capacity)).collect(),
            factory: Arc::new(factory),
            arrivals: Arrivals::new(options.arrivals, per_second, options.seed).peekable(),
            next_number: 0,
            batch_size: ingestion.batch_size,
            linger: u64::try_from(linger.as_micros()).unwrap_or(u64::MAX),
            max_backlog: Some(ingestion.max_backlog_size).filter(|&size| size > 0).unwrap_or(u64::MAX),
            strategy: ingestion.backlog_drop_strategy,
            horizon: u64::MAX,
            random: split_mix(options.seed ^ 0x5eed),
            redelivery: config.redelivery,
            sample: Sample::default(),
            expectation: ExpectedCounts::default(),
            shed: ShedJobs::default(),
            lag: LatencyHistogram::default(),
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

    /// Passes an update of a job to the worker that owns it.
    pub(super) fn change(&mut self, due: u64, job_id: &str, change: Change) {
        let worker = super::ids::worker(job_id, self.workers.len());
        self.workers[worker].change(due, change);
    }

    /// Generates the events that are due, as far as the queues have room.
    pub fn advance(&mut self, now: u64) {
        self.arrive(now);
        let mut buffered: u64 = self.workers.iter().map(Worker::buffered).sum();
        let lag = &mut self.lag;
        for worker in &mut self.workers {
            buffered -= worker.buffered();
            let room = self.max_backlog.saturating_sub(buffered);
            worker.advance(now, self.horizon, room, &mut self.expectation, |micros| {
                lag.record(Duration::from_micros(micros))
            });
            buffered += worker.buffered();
        }
    }

    /// Assigns the jobs that have arrived to workers, or sheds them.
    fn arrive(&mut self, now: u64) {
        let sheds = self.strategy != BacklogStrategy::Block;
        let mut queued = if sheds { self.workers.iter().map(Worker::queued).sum() } else { 0 };
        while let Some(arrival) = self.arrivals.next_if(|&arrival| arrival <= now && arrival < self.horizon) {
            let job = self.factory.job(self.next_number, arrival);
            self.next_number += 1;
            let worker = self.factory.id(&job).worker(self.workers.len());
            if sheds && (queued >= self.max_backlog || self.workers[worker].is_full()) {
                match self.strategy {
                    BacklogStrategy::Drop => self.shed.dropped += 1,
                    _ => self.shed.rejected += 1,
                }
                continue;
            }
            queued += 1;
            self.random = split_mix(self.random.wrapping_add(1));
            self.sample.offer(job, self.random);
            self.workers[worker].accept(job);
        }
    }

    /// The next batch to send: a full batch or one whose timeout has expired, of a worker without a batch in flight;
    /// with `flush`, any batch. The worker sends no other batch until [`complete`](Self::complete) is called.
    pub fn next_batch(&mut self, now: u64, flush: bool) -> Option<PlannedBatch> {
        let ready = |worker: &Worker| worker.is_ready(now, self.batch_size, self.linger, flush);
        let worker = self.workers.iter().position(ready)?;
        let events = self.workers[worker].take_batch(now, self.batch_size);
        self.random = split_mix(self.random.wrapping_add(1));
        let redelivered = (self.random as f64) < self.redelivery * 2_f64.powi(64);
        Some(PlannedBatch { worker, events, redelivered })
    }

    /// Marks the batch of a worker as stored.
    pub fn complete(&mut self, worker: usize) {
        self.workers[worker].sent = None;
    }

    /// The time of the next event or batch timeout; `None` if there is none until a batch completes.
    pub(super) fn next_time(&mut self) -> Option<u64> {
        let horizon = self.horizon;
        let arrival = self.arrivals.peek().copied().filter(|&arrival| arrival < horizon);
        let of_workers = self.workers.iter().flat_map(|worker| {
            [worker.next_due().filter(|&due| due < horizon), worker.linger_end(self.linger)].into_iter().flatten()
        });
        of_workers.chain(arrival).min()
    }

    /// The number of queries that are due and not known to be stored.
    pub fn backlog(&self, now: u64) -> u64 {
        self.workers.iter().map(|worker| worker.backlog(now, self.horizon)).sum()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.workers.iter().all(|worker| worker.is_drained(self.horizon))
    }

    /// The due time of the first query of each batch that is not known to be stored.
    pub(super) fn unfinished_dues(&self) -> Vec<u64> {
        self.workers.iter().flat_map(|worker| worker.unfinished_dues(self.batch_size)).collect()
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

    /// The due time of the first query.
    pub(super) fn due(&self) -> u64 {
        self.events.first().map_or(0, |due| due.micros)
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
        let place = ((u128::from(random) * u128::from(self.offered)) >> 64) as usize;
        if let Some(kept) = self.jobs.get_mut(place) {
            *kept = job;
        }
    }
}
