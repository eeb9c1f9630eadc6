//! A worker, which generates the events of its jobs in order.

use std::collections::{HashMap, HashSet, VecDeque};

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
    pub(super) event: Event,
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
    /// The maximum number of queries in the buffer.
    capacity: u64,
    /// The last time at which the buffer was full, so that due events had to wait.
    full_until: u64,
    /// The cancelled jobs, with the time of the cancellation.
    cancelled: HashMap<LiveKey, Timestamp>,
    reprioritised: HashSet<LiveKey>,
    /// The actions of the updates that were skipped because their jobs had ended, one entry for each update.
    pub(super) skipped: Vec<usize>,
    /// The number of queries of the batch in flight.
    pub(super) sent: Option<u64>,
    /// The due time of the first query of the batch in flight.
    sent_due: u64,
}

impl Worker {
    pub(super) fn new(delays: Delays, capacity: u64) -> Self {
        Self {
            delays,
            waiting: Default::default(),
            changes: VecDeque::new(),
            buffer: VecDeque::new(),
            buffered_queries: 0,
            buffered_since: 0,
            capacity,
            full_until: 0,
            cancelled: HashMap::new(),
            reprioritised: HashSet::new(),
            skipped: Vec::new(),
            sent: None,
            sent_due: 0,
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

    /// The number of queries in the buffer.
    pub(super) fn buffered(&self) -> u64 {
        self.buffered_queries
    }

    /// The number of queries in the buffer, including those of jobs that have just arrived.
    pub(super) fn queued(&self) -> u64 {
        self.buffered_queries + self.waiting[LifeStage::Submitted as usize].len() as u64
    }

    pub(super) fn is_full(&self) -> bool {
        self.queued() >= self.capacity
    }

    /// Moves the events that are due at `now` and before `horizon` into the buffer, in the order of their due times,
    /// while the buffer has fewer queries than `room` and than its capacity. `lag` receives the delay of each event in
    /// microseconds, without the time that it waited for room.
    pub(super) fn advance(
        &mut self,
        now: u64,
        horizon: u64,
        room: u64,
        expectation: &mut ExpectedCounts,
        mut lag: impl FnMut(u64),
    ) {
        while let Some((due, next)) = self.next().filter(|&(due, _)| due <= now && due < horizon) {
            if self.buffered_queries >= room.min(self.capacity) {
                self.full_until = now;
                return;
            }
            lag(now - due.max(self.full_until).min(now));
            let Some(event) = self.take(next, expectation) else { continue };
            let queries = event.query_count();
            if self.buffer.is_empty() {
                self.buffered_since = now;
            }
            self.buffered_queries += queries;
            self.buffer.push_back(DueEvent { micros: due, event });
        }
    }

    /// The due time and the source of the next event.
    fn next(&self) -> Option<(u64, EventSource)> {
        let change = self.changes.front().map(|&(due, _)| (due, EventSource::Change));
        let stages = LifeStage::ALL.into_iter().filter_map(|stage| {
            let job = self.waiting[stage as usize].front()?;
            Some((self.delays.due(job, stage), EventSource::LifeStage(stage)))
        });
        // The order of events with the same due time does not matter: a job is in only one queue.
        stages.chain(change).min_by_key(|&(due, _)| due)
    }

    /// The due time of the next event; `None` if the buffer is full.
    pub(super) fn next_due(&self) -> Option<u64> {
        (self.buffered_queries < self.capacity).then(|| self.next()).flatten().map(|(due, _)| due)
    }

    /// Takes the next event from its source; `None` if the job is cancelled or the update is skipped.
    fn take(&mut self, source: EventSource, expectation: &mut ExpectedCounts) -> Option<Event> {
        let stage = match source {
            EventSource::Change => {
                let (_, change) = self.changes.pop_front()?;
                return self.apply(change, expectation);
            }
            EventSource::LifeStage(stage) => stage,
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

    /// Returns true if a batch can be sent: none is in flight, and the buffer has a full batch or its timeout has
    /// expired.
    pub(super) fn is_ready(&self, now: u64, batch_size: u64, linger: u64, flush: bool) -> bool {
        self.sent.is_none()
            && !self.buffer.is_empty()
            && (flush || self.buffered_queries >= batch_size || now >= self.buffered_since.saturating_add(linger))
    }

    /// The time at which the batch timeout expires; `None` if the buffer is empty or a batch is in flight.
    pub(super) fn linger_end(&self, linger: u64) -> Option<u64> {
        (self.sent.is_none() && !self.buffer.is_empty()).then(|| self.buffered_since.saturating_add(linger))
    }

    /// Takes the next batch from the buffer, with at least one event and otherwise at most `batch_size` queries.
    pub(super) fn take_batch(&mut self, now: u64, batch_size: u64) -> Vec<DueEvent> {
        let mut queries = 0;
        let mut batch = Vec::new();
        while let Some(due) = self.buffer.front() {
            let count = due.event.query_count();
            if !batch.is_empty() && queries + count > batch_size {
                break;
            }
            queries += count;
            batch.extend(self.buffer.pop_front());
        }
        if self.buffered_queries >= self.capacity {
            self.full_until = now;
        }
        self.buffered_queries -= queries;
        self.buffered_since = now;
        self.sent = Some(queries);
        self.sent_due = batch.first().map_or(now, |due: &DueEvent| due.micros);
        batch
    }

    /// The number of queries that are due at `now` and before `horizon` and are not known to be stored.
    pub(super) fn backlog(&self, now: u64, horizon: u64) -> u64 {
        let until = now.saturating_add(1).min(horizon);
        let overdue = LifeStage::ALL.into_iter().map(|waiting_for| {
            let jobs = &self.waiting[waiting_for as usize];
            // The later stages of the job may also be due.
            let later = LifeStage::ALL.into_iter().filter(|&stage| stage >= waiting_for);
            later.map(|stage| self.overdue(jobs, waiting_for, stage, until)).sum::<u64>()
        });
        let changes = self.changes.partition_point(|&(due, _)| due < until) as u64;
        self.buffered_queries + self.sent.unwrap_or_default() + overdue.sum::<u64>() + changes
    }

    fn overdue(&self, jobs: &VecDeque<LiveJob>, waiting_for: LifeStage, stage: LifeStage, until: u64) -> u64 {
        let late = jobs.partition_point(|job| self.delays.due(job, stage) < until);
        let reaches = |job: &&LiveJob| match stage {
            LifeStage::Succeeded => job.succeeds,
            LifeStage::Failed => !job.succeeds,
            _ => true,
        };
        let jobs = match stage {
            LifeStage::Succeeded | LifeStage::Failed if waiting_for < LifeStage::Succeeded => {
                jobs.range(..late).filter(reaches).count()
            }
            LifeStage::Succeeded | LifeStage::Failed if waiting_for != stage => 0,
            _ => late,
        };
        jobs as u64 * stage.query_count()
    }

    /// Returns true if all events that are due before `horizon` are stored.
    pub(super) fn is_drained(&self, horizon: u64) -> bool {
        self.sent.is_none() && self.buffer.is_empty() && self.next().is_none_or(|(due, _)| due >= horizon)
    }

    /// The due time of the first query of each batch that is not known to be stored.
    pub(super) fn unfinished_dues(&self, batch_size: u64) -> Vec<u64> {
        let mut dues: Vec<_> = self.sent.map(|_| self.sent_due).into_iter().collect();
        let mut queries = 0;
        for due in &self.buffer {
            if queries == 0 {
                dues.push(due.micros);
            }
            queries += due.event.query_count();
            if queries >= batch_size {
                queries = 0;
            }
        }
        dues
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

/// The source of an event.
#[derive(Debug, Clone, Copy)]
enum EventSource {
    LifeStage(LifeStage),
    Change,
}
