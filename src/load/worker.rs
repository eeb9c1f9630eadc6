//! A worker, which generates the events of its jobs in order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::expectation::ExpectedCounts;
use super::ids::number_in_id;
use super::lifecycle::{Delays, LifeStage, LiveJob, LiveKey};
use crate::ingest::IngestionQuery;
use crate::model::JobState;
use crate::time::Timestamp;

/// An event that a worker sends to the store.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// The transition of a job into a stage.
    Transition(LiveJob, LifeStage),
    /// The update of a job by an action.
    Change(Box<Change>),
}

/// The update of a job by an action.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) action: usize,
    pub(super) query: IngestionQuery,
    pub(super) target: ChangeTarget,
}

/// The job of an update.
#[derive(Debug, Clone, Copy)]
pub(super) enum ChangeTarget {
    /// A job of this run.
    Live(LiveKey),
    /// Another job, with its state in the store.
    Other(JobState),
}

/// An event with its due time, in microseconds from the start of the load.
#[derive(Debug, Clone)]
pub(super) struct DueEvent {
    pub(super) micros: u64,
    /// The delay of its generation by the driver, in microseconds, without the time that it waited for room.
    pub(super) lag: u64,
    pub(super) event: Event,
}

/// The sizes and the timeout of the batches of a worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The maximum number of queries in the buffer.
    pub(super) capacity: u64,
    /// The number of queries in a full batch.
    pub(super) batch_size: u64,
    /// The maximum time that a query waits for its batch to fill, in microseconds.
    pub(super) linger: u64,
}

impl Event {
    pub(super) fn query_count(&self) -> u64 {
        match self {
            Self::Transition(_, stage) => stage.query_count(),
            Self::Change(_) => 1,
        }
    }
}

/// The jobs of a worker and its events.
///
/// All jobs spend the same time in a stage, so the jobs that wait for a stage become due in the order of their
/// arrivals. Therefore a FIFO queue for each stage serves as a timer, with constant time and memory per active job.
#[derive(Debug)]
pub(super) struct Worker {
    delays: Delays,
    /// The jobs that wait for each stage.
    waiting: [VecDeque<LiveJob>; LifeStage::ALL.len()],
    /// The updates that wait, ascending by due time.
    changes: VecDeque<(u64, Change)>,
    /// The events that are due and have not been sent.
    buffer: VecDeque<DueEvent>,
    buffered_queries: u64,
    /// The time at which the oldest event entered the buffer.
    buffered_since: u64,
    /// The time since which the buffer has a full batch.
    full_batch_since: Option<u64>,
    limits: Limits,
    /// The last time at which the buffer was full, so that due events had to wait.
    full_until: u64,
    /// The cancelled jobs, with the time of the cancellation.
    cancelled: HashMap<LiveKey, Timestamp>,
    reprioritised: HashSet<LiveKey>,
    /// The actions of the updates that were skipped because their jobs had ended, one entry for each update.
    pub(super) skipped: Vec<usize>,
    /// The events of the batch in flight.
    sent: Option<Arc<[DueEvent]>>,
    /// The completion of the last batch.
    completed_at: u64,
}

impl Worker {
    pub(super) fn new(delays: Delays, limits: Limits) -> Self {
        Self {
            delays,
            waiting: Default::default(),
            changes: VecDeque::new(),
            buffer: VecDeque::new(),
            buffered_queries: 0,
            buffered_since: 0,
            full_batch_since: None,
            limits,
            full_until: 0,
            cancelled: HashMap::new(),
            reprioritised: HashSet::new(),
            skipped: Vec::new(),
            sent: None,
            completed_at: 0,
        }
    }

    /// Accepts a job that has arrived.
    pub(super) fn accept(&mut self, job: LiveJob) {
        self.waiting[LifeStage::Submitted as usize].push_back(job);
    }

    /// Accepts an update with its due time.
    pub(super) fn change(&mut self, due: u64, change: Change) {
        self.changes.push_back((due, change));
    }

    /// Returns true if the buffer is full, counting the jobs that have arrived and not entered it.
    pub(super) fn is_full(&self) -> bool {
        self.buffered_queries + self.waiting[LifeStage::Submitted as usize].len() as u64 >= self.limits.capacity
    }

    /// Moves the events that are due at `now` and before `horizon` into the buffer, in the order of their due times,
    /// while the buffer has room.
    pub(super) fn advance(&mut self, now: u64, horizon: u64, expectation: &mut ExpectedCounts) {
        while let Some((due, next)) = self.next().filter(|&(due, _)| due <= now && due < horizon) {
            if self.buffered_queries >= self.limits.capacity {
                self.full_until = now;
                return;
            }
            let lag = now - due.max(self.full_until).min(now);
            let Some(event) = self.take(next, expectation) else { continue };
            if self.buffer.is_empty() {
                self.buffered_since = now;
            }
            self.buffered_queries += event.query_count();
            if self.buffered_queries >= self.limits.batch_size {
                self.full_batch_since.get_or_insert(now);
            }
            self.buffer.push_back(DueEvent { micros: due, lag, event });
        }
    }

    /// The due time and the stage of the next event; no stage for an update.
    fn next(&self) -> Option<(u64, Option<LifeStage>)> {
        let change = self.changes.front().map(|&(due, _)| (due, None));
        let stages = LifeStage::ALL.into_iter().filter_map(|stage| {
            let job = self.waiting[stage as usize].front()?;
            Some((self.delays.due(job, stage), Some(stage)))
        });
        // The order of events with the same due time does not matter: a job is in only one queue.
        stages.chain(change).min_by_key(|&(due, _)| due)
    }

    /// The due time of the next event; `None` if the buffer is full.
    pub(super) fn next_due(&self) -> Option<u64> {
        (self.buffered_queries < self.limits.capacity).then(|| self.next()).flatten().map(|(due, _)| due)
    }

    /// Takes the next event, of a stage or an update; `None` if the job is cancelled or the update is skipped.
    fn take(&mut self, stage: Option<LifeStage>, expectation: &mut ExpectedCounts) -> Option<Event> {
        let Some(stage) = stage else {
            let (_, change) = self.changes.pop_front()?;
            return self.apply(change, expectation);
        };
        let job = self.waiting[stage as usize].pop_front()?;
        if !self.cancelled.is_empty() && self.cancelled.contains_key(&job.key()) {
            return None;
        }
        if let Some(after) = stage.after(job.succeeds) {
            self.waiting[after as usize].push_back(job);
        }
        expectation.advance(stage);
        Some(Event::Transition(job, stage))
    }

    /// Applies an update to the state of the worker. Skips it if the job has ended.
    fn apply(&mut self, change: Change, expectation: &mut ExpectedCounts) -> Option<Event> {
        let cancellation = match &change.query {
            IngestionQuery::SetJobCancelled(query) => Some(query.time),
            _ => None,
        };
        let state = match change.target {
            ChangeTarget::Other(state) => state,
            ChangeTarget::Live(key) => {
                let Some(state) = self.state(key) else {
                    self.skipped.push(change.action);
                    return None;
                };
                match cancellation {
                    Some(time) => drop(self.cancelled.insert(key, time)),
                    None => drop(self.reprioritised.insert(key)),
                }
                state
            }
        };
        if cancellation.is_some() {
            expectation.transition(Some(state), JobState::Cancelled);
        }
        Some(Event::Change(Box::new(change)))
    }

    /// The state of an active job after the events that were sent; `None` if the job has ended or is unknown.
    fn state(&self, key: LiveKey) -> Option<JobState> {
        if self.cancelled.contains_key(&key) {
            return None;
        }
        LifeStage::ALL.into_iter().find_map(|stage| {
            let state = stage.before()?.state();
            let waiting = &self.waiting[stage as usize];
            let first = waiting.partition_point(|job| job.arrival < key.0);
            let same = waiting.range(first..).take_while(|job| job.arrival == key.0);
            same.into_iter().any(|job| number_in_id(job.number) == key.1).then_some(state)
        })
    }

    /// The time at which the next batch can be sent; `None` if a batch is in flight or the buffer is empty. A batch can
    /// be sent when it is full or its timeout expires, or at the latest at `flush`.
    fn ready(&self, flush: Option<u64>) -> Option<u64> {
        if self.sent.is_some() || self.buffer.is_empty() {
            return None;
        }
        let expires = self.buffered_since.saturating_add(self.limits.linger);
        let filled = self.full_batch_since.map_or(expires, |since| since.min(expires));
        Some(flush.map_or(filled, |flush| flush.min(filled)).max(self.completed_at))
    }

    /// The time at which the timeout of the next batch expires; `None` if the buffer is empty or a batch is in flight.
    pub(super) fn next_batch_at(&self) -> Option<u64> {
        self.ready(None)
    }

    /// Takes the events of the next batch from the buffer if it can be sent: at least one event, and otherwise at most
    /// the queries of a full batch. From the time `flush` on, every batch can be sent. Returns the time from which on the
    /// batch could be sent, too.
    pub(super) fn take_batch(&mut self, now: u64, flush: Option<u64>) -> Option<(Arc<[DueEvent]>, u64)> {
        let ready = self.ready(flush).filter(|&ready| ready <= now)?;
        let (mut events, mut queries) = (0, 0);
        for due in &self.buffer {
            let count = due.event.query_count();
            if events > 0 && queries + count > self.limits.batch_size {
                break;
            }
            events += 1;
            queries += count;
        }
        self.buffered_queries -= queries;
        self.buffered_since = now;
        self.full_batch_since = (self.buffered_queries >= self.limits.batch_size).then_some(now);
        let events: Arc<[DueEvent]> = self.buffer.drain(..events).collect();
        self.sent = Some(events.clone());
        Some((events, ready))
    }

    /// Marks the batch in flight as stored at a time.
    pub(super) fn complete(&mut self, at: u64) {
        self.sent = None;
        self.completed_at = at;
    }

    /// Returns true if a batch is in flight.
    pub(super) fn is_sending(&self) -> bool {
        self.sent.is_some()
    }

    /// The number of queries that are due at `now` and before `horizon` and are not known to be stored.
    pub(super) fn backlog(&self, now: u64, horizon: u64) -> u64 {
        let until = now.saturating_add(1).min(horizon);
        let overdue = LifeStage::ALL.into_iter().map(|waiting_for| {
            let jobs = &self.waiting[waiting_for as usize];
            // The later stages of the job may also be due.
            let later = LifeStage::ALL.into_iter().filter(|&stage| stage >= waiting_for);
            later.map(|stage| self.overdue(jobs, stage, until)).sum::<u64>()
        });
        let changes = self.changes.partition_point(|&(due, _)| due < until) as u64;
        let sent = self.sent.iter().flat_map(|events| events.iter()).map(|due| due.event.query_count());
        self.buffered_queries + sent.sum::<u64>() + overdue.sum::<u64>() + changes
    }

    /// The number of queries of the transitions of these jobs into a stage that are due before a time.
    fn overdue(&self, jobs: &VecDeque<LiveJob>, stage: LifeStage, until: u64) -> u64 {
        let late = jobs.partition_point(|job| self.delays.due(job, stage) < until);
        let jobs = match stage {
            LifeStage::Succeeded | LifeStage::Failed => {
                jobs.range(..late).filter(|job| job.succeeds == (stage == LifeStage::Succeeded)).count()
            }
            _ => late,
        };
        jobs as u64 * stage.query_count()
    }

    /// Returns true if all events that are due before `horizon` are stored.
    pub(super) fn is_drained(&self, horizon: u64) -> bool {
        self.sent.is_none() && self.buffer.is_empty() && self.next().is_none_or(|(due, _)| due >= horizon)
    }

    /// The due time and the number of queries of each event that is due before `horizon` and not known to be stored.
    pub(super) fn unfinished(&self, horizon: u64) -> impl Iterator<Item = (u64, u64)> {
        let sent = self.sent.iter().flat_map(|events| events.iter());
        let generated = sent.chain(&self.buffer).map(|due| (due.micros, due.event.query_count()));
        let waiting = LifeStage::ALL.into_iter().flat_map(move |first| {
            let jobs = self.waiting[first as usize].iter().filter(|job| !self.cancelled.contains_key(&job.key()));
            jobs.flat_map(move |job| {
                let stages = std::iter::successors(Some(first), |stage| stage.after(job.succeeds));
                stages.map(|stage| (self.delays.due(job, stage), stage.query_count()))
            })
        });
        let changes = self.changes.iter().map(|&(due, _)| (due, 1));
        generated.chain(waiting.chain(changes).filter(move |&(due, _)| due < horizon))
    }

    pub(super) fn cancelled_at(&self, key: LiveKey) -> Option<Timestamp> {
        self.cancelled.get(&key).copied()
    }

    pub(super) fn is_reprioritised(&self, key: LiveKey) -> bool {
        self.reprioritised.contains(&key)
    }

    /// The number of active jobs.
    pub(super) fn active(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }
}
