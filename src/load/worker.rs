//! A worker: it owns the lives of its jobs, from arrival to the last batch, and keeps their order.

use std::collections::{HashMap, HashSet, VecDeque};

use super::expectation::Expectation;
use super::ids::number_in_id;
use super::life::{Delays, LifeStage, LiveJob, LiveKey};
use crate::ingest::IngestionQuery;
use crate::model::JobState;
use crate::time::Timestamp;

/// Something that a worker sends to the store.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A stage of a job's life.
    Life(LiveJob, LifeStage),
    /// A change of one job by an action.
    Change(Box<Change>),
}

/// A change of a job by the action of an index.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) action: usize,
    pub(super) query: IngestionQuery,
    /// The job, if it is one of the run; its state as the store had it, if it is not.
    pub(super) target: Target,
}

/// Whose job an action changes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    /// A job of the run.
    Live(LiveKey),
    /// A job that the store had before.
    Other(JobState),
}

/// An event with the time at which it was due, in microseconds from the start of the load.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub(super) micros: u64,
    pub(super) event: Event,
}

impl Event {
    pub(super) fn query_count(&self) -> u64 {
        match self {
            Self::Life(_, stage) => stage.query_count(),
            Self::Change(_) => 1,
        }
    }
}

/// The jobs of a worker and what it has to send.
///
/// Every job stays as long in a stage as the others, so the jobs that wait for a stage become due in the order of
/// their arrivals: a queue for each stage is a timer with constant time and memory for each active job.
#[derive(Debug)]
pub(super) struct Worker {
    delays: Delays,
    /// The jobs that wait for each stage.
    waiting: [VecDeque<LiveJob>; LifeStage::ALL.len()],
    /// Changes that wait, ascending by time.
    changes: VecDeque<(u64, Change)>,
    /// What was due and has not been sent.
    buffer: VecDeque<Due>,
    buffered_queries: u64,
    /// When the oldest event came into the buffer.
    buffered_since: u64,
    /// The most queries in the buffer.
    capacity: u64,
    /// Until when the buffer was full: what was due before could not be taken up.
    full_until: u64,
    /// The jobs cancelled, with the time of it.
    cancelled: HashMap<LiveKey, Timestamp>,
    reprioritised: HashSet<LiveKey>,
    /// The actions of the changes that came too late, each once for every change.
    pub(super) void: Vec<usize>,
    /// The queries of the batch under way; none without one.
    pub(super) sent: Option<u64>,
    /// When its first query was due.
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
            void: Vec::new(),
            sent: None,
            sent_due: 0,
        }
    }

    /// Takes a job that arrives.
    pub(super) fn accept(&mut self, job: LiveJob) {
        self.waiting[LifeStage::Submitted as usize].push_back(job);
    }

    /// Takes a change that is due at a time.
    pub(super) fn change(&mut self, due: u64, change: Change) {
        self.changes.push_back((due, change));
    }

    /// The queries in the buffer.
    pub(super) fn buffered(&self) -> u64 {
        self.buffered_queries
    }

    /// The queries that wait to be sent, jobs that have just arrived included.
    pub(super) fn queued(&self) -> u64 {
        self.buffered_queries + self.waiting[LifeStage::Submitted as usize].len() as u64
    }

    pub(super) fn is_full(&self) -> bool {
        self.queued() >= self.capacity
    }

    /// Moves what is due before `horizon` and not after `now` into the buffer, in the order of due times, while the
    /// buffer holds fewer queries than `room` and than its capacity. `lag` hears how late each event is, apart from the time that it had to wait
    /// for room.
    pub(super) fn advance(
        &mut self,
        now: u64,
        horizon: u64,
        room: u64,
        expectation: &mut Expectation,
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
            self.buffer.push_back(Due { micros: due, event });
        }
    }

    /// When the next event is due and where it waits.
    fn next(&self) -> Option<(u64, Source)> {
        let change = self.changes.front().map(|&(due, _)| (due, Source::Change));
        let stages = LifeStage::ALL.into_iter().filter_map(|stage| {
            let job = self.waiting[stage as usize].front()?;
            Some((self.delays.due(job, stage), Source::LifeStage(stage)))
        });
        // Of events due at once, the later stage is the one of the older job; a job's own never are in two queues.
        stages.chain(change).min_by_key(|&(due, _)| due)
    }

    /// When the next event is due, if there is room for it.
    pub(super) fn next_due(&self) -> Option<u64> {
        (self.buffered_queries < self.capacity).then(|| self.next()).flatten().map(|(due, _)| due)
    }

    /// Takes an event from where it waits; none for one that has become void.
    fn take(&mut self, source: Source, expectation: &mut Expectation) -> Option<Event> {
        let stage = match source {
            Source::Change => {
                let (_, change) = self.changes.pop_front()?;
                return self.apply(change, expectation);
            }
            Source::LifeStage(stage) => stage,
        };
        let job = self.waiting[stage as usize].pop_front()?;
        if !self.cancelled.is_empty() && self.cancelled.contains_key(&job.key()) {
            return None;
        }
        if let Some(after) = stage.after(job.succeeds) {
            self.waiting[after as usize].push_back(job);
        }
        expectation.advance(stage);
        Some(Event::Life(job, stage))
    }

    /// A change of a job that has not ended.
    fn apply(&mut self, change: Change, expectation: &mut Expectation) -> Option<Event> {
        let cancellation = match &change.query {
            IngestionQuery::SetJobCancelled(query) => Some(query.time),
            _ => None,
        };
        let state = match change.target {
            Target::Other(state) => state,
            Target::Live(key) => {
                let Some(state) = self.state(key) else {
                    self.void.push(change.action);
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

    /// The state of an active job, by what was sent of it; none for one that has ended or is not known.
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

    /// Whether a batch can be sent: none is under way, and the buffer is full enough or old enough.
    pub(super) fn is_ready(&self, now: u64, batch_size: u64, linger: u64, flush: bool) -> bool {
        self.sent.is_none()
            && !self.buffer.is_empty()
            && (flush || self.buffered_queries >= batch_size || now >= self.buffered_since.saturating_add(linger))
    }

    /// When the oldest event in the buffer has waited for so long; none if there is none or a batch is under way.
    pub(super) fn linger_end(&self, linger: u64) -> Option<u64> {
        (self.sent.is_none() && !self.buffer.is_empty()).then(|| self.buffered_since.saturating_add(linger))
    }

    /// Takes the next batch from the buffer, of at least one event and about so many queries.
    pub(super) fn take_batch(&mut self, now: u64, batch_size: u64) -> Vec<Due> {
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
        self.sent_due = batch.first().map_or(now, |due: &Due| due.micros);
        batch
    }

    /// The queries that were due by now (and before `horizon`) and are not known to be stored.
    pub(super) fn backlog(&self, now: u64, horizon: u64) -> u64 {
        let until = now.saturating_add(1).min(horizon);
        let overdue = LifeStage::ALL.into_iter().map(|waiting_for| {
            let jobs = &self.waiting[waiting_for as usize];
            // A job that waits for a stage may be late for the stages after it too.
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

    /// Whether nothing is left that was due before a time.
    pub(super) fn is_drained(&self, horizon: u64) -> bool {
        self.sent.is_none() && self.buffer.is_empty() && self.next().is_none_or(|(due, _)| due >= horizon)
    }

    /// When the first query of each batch that is not known to be stored was due, as far as it was taken up.
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

    /// The jobs that have not ended.
    pub(super) fn active(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }
}

/// Where an event waits.
#[derive(Debug, Clone, Copy)]
enum Source {
    LifeStage(LifeStage),
    Change,
}
