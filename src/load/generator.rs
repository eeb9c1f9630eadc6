//! The ingestion of a load test as a machine without a store and without a clock of its own.

use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;

use super::arrivals::{ArrivalKind, Arrivals};
use super::config::{BacklogStrategy, LoadConfig};
use super::expectation::Expectation;
use super::life::{LifeStage, LiveJob, Lives};
use super::selection::{SelectionKind, split_mix};
use super::worker::{Change, Due, Event, Worker};
use crate::error::Result;
use crate::ingest::{IngestionBatch, IngestionQuery};
use crate::measure::LatencyHistogram;
use crate::time::Timestamp;

/// How long a query waits for its batch to fill, unless `batchTimeout` says otherwise.
const LINGER: Duration = Duration::from_secs(1);
/// The jobs that the census compares whole.
const SAMPLE: usize = 256;

/// How the jobs and reads of a run are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Draws {
    /// How properties are dealt out.
    pub selection: SelectionKind,
    /// How arrivals are spread over time.
    pub arrivals: ArrivalKind,
    /// The seed of every random draw.
    pub seed: u64,
}

/// Makes the ingestion queries of a load test: arrivals of jobs at a rate, the lives of those jobs, and the batches
/// of the workers that own them.
///
/// Time is what the caller says it is, in microseconds from the start of the load. An active job takes 24 bytes.
#[derive(Debug)]
pub struct Generator {
    lives: Arc<Lives>,
    arrivals: Peekable<Arrivals>,
    next_number: u64,
    workers: Vec<Worker>,
    batch_size: u64,
    linger: u64,
    max_backlog: u64,
    strategy: BacklogStrategy,
    /// Nothing that is due at or after it is taken up.
    horizon: u64,
    random: u64,
    redelivery: f64,
    sample: Sample,
    pub(super) expectation: Expectation,
    pub(super) shed: Shed,
    /// How late events were taken up.
    pub(super) lag: LatencyHistogram,
}

/// The lives left out because the backlog was full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shed {
    /// By the drop strategy.
    pub dropped: u64,
    /// By the error strategy.
    pub refused: u64,
}

/// A batch that a worker is about to send.
#[derive(Debug)]
pub struct PlannedBatch {
    /// The worker.
    pub worker: usize,
    pub(super) events: Vec<Due>,
    /// Whether it is sent a second time after it succeeded.
    pub redelivered: bool,
}

impl Generator {
    /// The generator of a configuration. `start` is the time of day at which the load begins.
    pub fn new(config: &LoadConfig, draws: Draws, start: Timestamp) -> Self {
        let ingestion = &config.ingestion;
        let lives = Lives::new(config, draws.selection, draws.seed, start);
        let capacity = ingestion.channel_buffer_size_multiplier.saturating_mul(ingestion.batch_size);
        let linger = Some(ingestion.batch_timeout).filter(|timeout| !timeout.is_zero()).unwrap_or(LINGER);
        let per_second = ingestion.submissions_per_hour as f64 / 3600.0;
        Self {
            workers: (0..ingestion.num_workers).map(|_| Worker::new(*lives.delays(), capacity)).collect(),
            lives: Arc::new(lives),
            arrivals: Arrivals::new(draws.arrivals, per_second, draws.seed).peekable(),
            next_number: 0,
            batch_size: ingestion.batch_size,
            linger: u64::try_from(linger.as_micros()).unwrap_or(u64::MAX),
            max_backlog: Some(ingestion.max_backlog_size).filter(|&size| size > 0).unwrap_or(u64::MAX),
            strategy: ingestion.backlog_drop_strategy,
            horizon: u64::MAX,
            random: split_mix(draws.seed ^ 0x5eed),
            redelivery: config.redelivery,
            sample: Sample::default(),
            expectation: Expectation::default(),
            shed: Shed::default(),
            lag: LatencyHistogram::default(),
        }
    }

    /// Nothing that is due at or after this time is taken up.
    pub fn end_at(&mut self, micros: u64) {
        self.horizon = self.horizon.min(micros);
    }

    pub(super) fn horizon(&self) -> u64 {
        self.horizon
    }

    pub(super) fn lives(&self) -> &Arc<Lives> {
        &self.lives
    }

    /// The actions of the changes that came too late since the last call, each once for every change.
    pub(super) fn take_void(&mut self) -> Vec<usize> {
        self.workers.iter_mut().flat_map(|worker| std::mem::take(&mut worker.void)).collect()
    }

    /// The number of workers.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The jobs that have not ended.
    pub fn active_jobs(&self) -> usize {
        self.workers.iter().map(Worker::active).sum()
    }

    /// Hands a change of a job to the worker that owns it.
    pub(super) fn change(&mut self, due: u64, job_id: &str, change: Change) {
        let worker = super::ids::worker(job_id, self.workers.len());
        self.workers[worker].change(due, change);
    }

    /// Takes up all that is due by now, as far as there is room in the queues.
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

    /// Deals out the jobs that have arrived, or sheds them.
    fn arrive(&mut self, now: u64) {
        let sheds = self.strategy != BacklogStrategy::Block;
        let mut queued = if sheds { self.workers.iter().map(Worker::queued).sum() } else { 0 };
        while let Some(arrival) = self.arrivals.next_if(|&arrival| arrival <= now && arrival < self.horizon) {
            let job = self.lives.job(self.next_number, arrival);
            self.next_number += 1;
            let worker = self.lives.id(&job).worker(self.workers.len());
            if sheds && (queued >= self.max_backlog || self.workers[worker].is_full()) {
                match self.strategy {
                    BacklogStrategy::Drop => self.shed.dropped += 1,
                    _ => self.shed.refused += 1,
                }
                continue;
            }
            queued += 1;
            self.random = split_mix(self.random.wrapping_add(1));
            self.sample.offer(job, self.random);
            self.workers[worker].accept(job);
        }
    }

    /// The next batch that can be sent: one that is full or has waited long enough, of a worker without a batch under
    /// way; with `flush`, any. The worker sends no other until [`complete`](Self::complete) is called.
    pub fn next_batch(&mut self, now: u64, flush: bool) -> Option<PlannedBatch> {
        let ready = |worker: &Worker| worker.is_ready(now, self.batch_size, self.linger, flush);
        let worker = self.workers.iter().position(ready)?;
        let events = self.workers[worker].take_batch(now, self.batch_size);
        self.random = split_mix(self.random.wrapping_add(1));
        let redelivered = (self.random as f64) < self.redelivery * 2_f64.powi(64);
        Some(PlannedBatch { worker, events, redelivered })
    }

    /// Says that the batch of a worker is stored.
    pub fn complete(&mut self, worker: usize) {
        self.workers[worker].sent = None;
    }

    /// When there is something to do next, without a completion; none if there will not be.
    pub(super) fn next_time(&mut self) -> Option<u64> {
        let horizon = self.horizon;
        let arrival = self.arrivals.peek().copied().filter(|&arrival| arrival < horizon);
        let of_workers = self.workers.iter().flat_map(|worker| {
            [worker.next_due().filter(|&due| due < horizon), worker.linger_end(self.linger)].into_iter().flatten()
        });
        of_workers.chain(arrival).min()
    }

    /// The queries that were due by now and are not known to be stored.
    pub fn backlog(&self, now: u64) -> u64 {
        self.workers.iter().map(|worker| worker.backlog(now, self.horizon)).sum()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.workers.iter().all(|worker| worker.is_drained(self.horizon))
    }

    /// When the first query of each batch that is not known to be stored was due, as far as it was taken up.
    pub(super) fn unfinished_dues(&self) -> Vec<u64> {
        self.workers.iter().flat_map(|worker| worker.unfinished_dues(self.batch_size)).collect()
    }

    pub(super) fn sample(&self) -> &[LiveJob] {
        &self.sample.jobs
    }

    pub(super) fn owner(&self, job: &LiveJob) -> &Worker {
        &self.workers[self.lives.id(job).worker(self.workers.len())]
    }

    /// The queries of a planned batch, in order.
    pub fn queries(&self, batch: &PlannedBatch) -> Vec<IngestionQuery> {
        batch.queries(&self.lives)
    }
}

impl PlannedBatch {
    /// The number of queries.
    pub fn query_count(&self) -> u64 {
        self.events.iter().map(|due| due.event.query_count()).sum()
    }

    /// When the first query was due.
    pub(super) fn due(&self) -> u64 {
        self.events.first().map_or(0, |due| due.micros)
    }

    pub(super) fn queries(&self, lives: &Lives) -> Vec<IngestionQuery> {
        let mut queries = Vec::with_capacity(self.query_count() as usize);
        for due in &self.events {
            match &due.event {
                Event::Life(job, stage) => lives.push_queries(job, *stage, &mut queries),
                Event::Change(change) => queries.push(change.query.clone()),
            }
        }
        queries
    }

    pub(super) fn validated(&self, lives: &Lives) -> Result<IngestionBatch> {
        IngestionBatch::new(self.queries(lives))
    }

    /// The actions of the changes in the batch, each once for every change.
    pub(super) fn actions(&self) -> impl Iterator<Item = usize> + '_ {
        self.events.iter().filter_map(|due| match &due.event {
            Event::Change(change) => Some(change.action),
            Event::Life(..) => None,
        })
    }

    /// The first job of a stage in the batch.
    pub(super) fn first(&self, of: LifeStage) -> Option<&LiveJob> {
        self.events.iter().find_map(|due| match &due.event {
            Event::Life(job, stage) if *stage == of => Some(job),
            _ => None,
        })
    }
}

/// A uniform sample of the jobs accepted, by reservoir sampling.
#[derive(Debug, Default)]
struct Sample {
    jobs: Vec<LiveJob>,
    offered: u64,
}

impl Sample {
    fn offer(&mut self, job: LiveJob, random: u64) {
        self.offered += 1;
        if self.jobs.len() < SAMPLE {
            return self.jobs.push(job);
        }
        let place = ((u128::from(random) * u128::from(self.offered)) >> 64) as usize;
        if let Some(kept) = self.jobs.get_mut(place) {
            *kept = job;
        }
    }
}
