//! The load driver: generates events at their due times, executes the calls and records their outcomes.

mod actions;
mod delivery;
mod liveness;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};
use std::vec;

use smol_str::SmolStr;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use self::delivery::{Delivery, deliver};
use self::liveness::Liveness;
use super::actions::{Action, ActiveJob, Progress};
use super::collector::Collector;
use super::cpu::GeneratorThread;
use super::generator::{Generator, PlannedBatch};
use super::lifecycle::LifeStage;
use super::observer::Snapshot;
use super::reads::{self, CompletedRead, KnownIds, Reads};
use super::record::{Phase, RunRecord};
use super::recorder::Recorder;
use crate::database::Database;
use crate::error::{Error, ErrorKind, Operation, Result};

/// The interval of the samples of the backlog.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
const SAMPLES_PER_SECOND: u64 = 10;
/// The interval at which ingestion events are generated, in microseconds. Their batches are sent at exact times, which
/// are milliseconds to seconds later.
const EVENT_INTERVAL: u64 = 1000;
/// The time before a call is due at which the driver stops sleeping and polls the clock, because the operating system
/// ends a sleep up to this time late.
const SPIN: Duration = Duration::from_micros(120);
/// The number of reads that must fail before a load without ingestion is ended.
const MIN_FAILED_READS: u64 = 5;

/// The components of a load.
pub(super) struct Setup {
    pub(super) database: Arc<dyn Database>,
    /// The caller's runtime, which executes the calls. The generator has its own thread.
    pub(super) runtime: Handle,
    pub(super) generator: Generator,
    pub(super) reads: Reads,
    pub(super) actions: Vec<Action>,
    pub(super) recorder: Recorder,
    pub(super) collector: Collector,
    pub(super) stop: watch::Receiver<bool>,
    /// The start of the load.
    pub(super) start: Instant,
    /// The time from the start of the run to the start of the load.
    pub(super) offset: Duration,
    /// The end of the test, in microseconds from the start of the load.
    pub(super) end: u64,
    pub(super) query_timeout: Duration,
    pub(super) drain: Drain,
    /// The time after which the load ends if no batch succeeds.
    pub(super) abort_after: Duration,
    pub(super) thread: GeneratorThread,
}

/// The maximum duration of the drain, in which outstanding calls complete after the end of the load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drain {
    /// For a load that was not stopped.
    pub(super) complete: Duration,
    /// For a load that was stopped.
    pub(super) interrupted: Duration,
}

/// The outcome of a load.
pub(super) struct LoadOutcome {
    pub(super) generator: Generator,
    pub(super) reads: Reads,
    pub(super) actions: Vec<Action>,
    /// The record with the measurements of the load.
    pub(super) record: RunRecord,
    /// Whether all events that were due are known to be stored.
    pub(super) drained: bool,
    /// Whether the load was stopped before its end.
    pub(super) interrupted: bool,
    /// The reason for which the driver ended the load early.
    pub(super) aborted: Option<String>,
    /// The time from the start of the run to the start of the load.
    pub(super) offset: Duration,
    /// The end of the arrivals.
    pub(super) test_end: Instant,
    /// The end of the drain.
    pub(super) end: Instant,
}

/// A message to the driver.
enum Message {
    Completed(Completion),
    Stop,
    /// The load must end, for the given reason.
    Abort(String),
}

/// The result of a task.
enum Completion {
    Stored {
        delivery: Delivery,
        began: Instant,
        ended: Instant,
        /// The end of the redelivery, if any.
        free: Instant,
        redelivered: bool,
    },
    /// The batch failed, and its outcome may be unknown.
    Failed {
        delivery: Delivery,
        error: Error,
    },
    Read(CompletedRead),
    /// The active jobs for an action.
    ActionJobs {
        action: usize,
        jobs: Result<Vec<ActiveJob>>,
    },
    /// The backoff of a failed batch is over.
    Retry(Delivery),
}

/// Runs the load on a separate thread, so that calls that occupy the caller's threads do not delay the generator. The
/// load ends if the future is dropped.
pub(super) async fn drive(setup: Setup) -> Result<LoadOutcome> {
    let (sender, receiver) = oneshot::channel();
    let body = move || {
        setup.thread.enter();
        let driven = Driver::new(setup).run(&sender);
        // Sending fails if the caller has dropped the future.
        drop(sender.send(driven));
    };
    thread::Builder::new().name("load generator".to_owned()).spawn(body).map_err(cannot_run)?;
    receiver.await.unwrap_or_else(|_| Err(cannot_run("the generator panicked")))
}

fn cannot_run(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Backend, Operation::LoadTest, "the generator cannot run").with_source(error)
}

struct Driver {
    setup: Setup,
    sender: Sender<Message>,
    receiver: Receiver<Message>,
    tasks: JoinSet<()>,
    /// The active jobs of actions whose updates are not yet passed to the workers.
    changes: VecDeque<(usize, vec::IntoIter<ActiveJob>)>,
    batches: Liveness,
    single_reads: Liveness,
    /// The time before a call is due at which the driver polls the clock; none without a spare core.
    spin: Duration,
    next_sample: u64,
    samples: u64,
    stopped: Option<Instant>,
    ended: Option<Instant>,
    aborted: Option<String>,
}

impl Driver {
    fn new(setup: Setup) -> Self {
        let (sender, receiver) = mpsc::channel();
        let has_spare_core = thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
        Self {
            setup,
            sender,
            receiver,
            tasks: JoinSet::new(),
            changes: VecDeque::new(),
            batches: Liveness::default(),
            single_reads: Liveness::default(),
            spin: if has_spare_core { SPIN } else { Duration::ZERO },
            next_sample: 0,
            samples: 0,
            stopped: None,
            ended: None,
            aborted: None,
        }
    }

    fn now(&self) -> u64 {
        self.micros(Instant::now())
    }

    fn micros(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.setup.start).as_micros() as u64
    }

    fn run(mut self, caller: &oneshot::Sender<Result<LoadOutcome>>) -> Result<LoadOutcome> {
        self.setup.generator.end_at(self.setup.end);
        self.setup.reads.end_at(self.setup.end);
        self.listen();
        loop {
            let now = self.now();
            self.check_end(now);
            self.process_due(now);
            self.sample(now);
            self.check_liveness(now);
            self.reap()?;
            let drained = self.ended.is_some() && self.is_drained();
            if drained || self.aborted.is_some() || self.drain_is_over() || caller.is_closed() {
                return self.finish(drained);
            }
            let (wake, is_exact) = self.wake(now);
            self.wait(wake, is_exact);
        }
    }

    /// Forwards the request to stop, and the end of the load by the collector, as messages.
    fn listen(&mut self) {
        let (mut stop, sender) = (self.setup.stop.clone(), self.sender.clone());
        let forward = async move {
            // Fails if the caller has dropped the sender: then nobody can stop the load.
            if stop.wait_for(|stop| *stop).await.is_ok() {
                drop(sender.send(Message::Stop));
            }
        };
        self.tasks.spawn_on(forward, &self.setup.runtime);
        let sender = self.sender.clone();
        self.setup.collector.on_abort(move |reason| drop(sender.send(Message::Abort(reason))));
    }

    /// Processes messages until a time. If it is exact, polls the clock at the end.
    fn wait(&mut self, wake: u64, is_exact: bool) {
        let until = self.setup.start + Duration::from_micros(wake);
        let spin = if is_exact { self.spin } else { Duration::ZERO };
        let mut received = false;
        let mut polls_since = None;
        loop {
            let message = match self.receiver.try_recv() {
                Ok(message) => Some(message),
                Err(_) if received => return,
                Err(_) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        let polled = polls_since.map(|since: Instant| since.elapsed());
                        polled.iter().for_each(|&time| self.setup.thread.add_polled(time));
                        return;
                    }
                    if left <= spin {
                        polls_since.get_or_insert_with(Instant::now);
                    }
                    self.receiver.recv_timeout(left.saturating_sub(spin)).ok()
                }
            };
            if let Some(message) = message {
                received = true;
                self.receive(message);
            }
        }
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Completed(completion) => self.completed(completion),
            Message::Stop => {
                self.stopped.get_or_insert_with(Instant::now);
                self.end_now();
            }
            Message::Abort(reason) => self.abort(reason),
        }
    }

    /// Ends the arrivals now.
    fn end_now(&mut self) {
        let now = self.now();
        if now < self.setup.end {
            self.setup.end = now;
            self.setup.generator.end_at(now);
            self.setup.reads.end_at(now);
            self.setup.recorder.end_at(now);
        }
    }

    /// Ends the load without a drain.
    fn abort(&mut self, reason: String) {
        self.end_now();
        self.aborted.get_or_insert(reason);
    }

    /// Ends a load on a store that does not respond.
    fn check_liveness(&mut self, now: u64) {
        let limit = self.setup.abort_after;
        let reads_are_dead = || self.single_reads.failed >= MIN_FAILED_READS && self.single_reads.is_dead(now, limit);
        let what = match self.batches.since {
            Some(_) if self.batches.is_dead(now, limit) => "batch",
            None if reads_are_dead() => "read",
            _ => return,
        };
        let error = self.setup.recorder.last_error().map(|error| format!("; the last error: {error}"));
        self.abort(format!("no {what} succeeded for {limit:?}{}", error.unwrap_or_default()));
    }

    /// Removes the tasks that have ended.
    fn reap(&mut self) -> Result<()> {
        while let Some(ended) = self.tasks.try_join_next() {
            ended.map_err(cannot_run)?;
        }
        Ok(())
    }

    fn check_end(&mut self, now: u64) {
        if self.ended.is_none() && now >= self.setup.end {
            self.ended = Some(Instant::now());
            self.setup.collector.phase(Phase::Drain);
        }
    }

    fn drain_is_over(&self) -> bool {
        let limit = |since: Option<Instant>, limit| since.is_some_and(|since| since.elapsed() >= limit);
        limit(self.ended, self.setup.drain.complete) || limit(self.stopped, self.setup.drain.interrupted)
    }

    fn is_drained(&self) -> bool {
        let changing = |action: &Action| matches!(action.progress, Progress::Reading | Progress::Changing { .. });
        self.setup.generator.is_drained() && self.setup.reads.is_drained() && !self.setup.actions.iter().any(changing)
    }

    /// Processes all due events, and starts the calls for which a worker or slot is free.
    fn process_due(&mut self, now: u64) {
        let Setup { generator, reads, recorder, .. } = &mut self.setup;
        reads.advance(now, |read| recorder.read_due(read));
        generator.advance(now);
        for action in generator.take_skipped() {
            self.change_completed(action, false);
        }
        self.start_actions(now);
        self.pass_changes(now);
        self.send_batches(now);
        while let Some((id, call)) = self.setup.reads.start() {
            self.single_reads.started(now);
            let (database, timeout) = (self.setup.database.clone(), self.setup.query_timeout);
            self.spawn(async move { Completion::Read(reads::execute(database, id, call, timeout).await) });
        }
    }

    fn spawn(&mut self, task: impl Future<Output = Completion> + Send + 'static) {
        let sender = self.sender.clone();
        // Sending fails if the load has ended.
        let report = async move { drop(sender.send(Message::Completed(task.await))) };
        self.tasks.spawn_on(report, &self.setup.runtime);
    }

    fn send_batches(&mut self, now: u64) {
        let flush = self.ended.is_some();
        while let Some(planned) = self.setup.generator.next_batch(now, flush) {
            self.batches.started(now);
            self.deliver(Delivery::first(planned));
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let (database, factory) = (self.setup.database.clone(), self.setup.generator.factory().clone());
        self.spawn(deliver(database, factory, delivery));
    }

    fn completed(&mut self, completion: Completion) {
        match completion {
            Completion::Stored { delivery, began, ended, free, redelivered } => {
                self.stored(&delivery.planned, [began, ended, free], redelivered);
            }
            Completion::Failed { delivery, error } => self.failed(delivery, error),
            Completion::Retry(delivery) => self.deliver(delivery),
            Completion::Read(done) => self.read(done),
            Completion::ActionJobs { action, jobs } => self.apply_action(action, jobs),
        }
    }

    fn read(&mut self, done: CompletedRead) {
        let (now, ended) = (self.now(), self.micros(done.ended));
        let Some(read) = self.setup.reads.finish(done.id, ended) else { return };
        let is_up = matches!(&done.outcome, Err(error) if error.kind() == ErrorKind::NotFound) || done.outcome.is_ok();
        if is_up {
            self.single_reads.succeeded(now, !self.setup.reads.is_drained());
        } else {
            self.single_reads.failed += 1;
        }
        let seen = self.setup.recorder.read_done(&read, done);
        self.setup.reads.add_ids(seen);
    }

    fn stored(&mut self, planned: &PlannedBatch, [began, ended, free]: [Instant; 3], redelivered: bool) {
        let (now, free) = (self.now(), self.micros(free));
        let Setup { generator, recorder, reads, .. } = &mut self.setup;
        recorder.batch_stored(planned, began, ended);
        if redelivered {
            recorder.batch_redelivered(planned);
        }
        let factory = generator.factory();
        let job = planned.first(LifeStage::Submitted).map(|job| SmolStr::new(factory.id(job).job()));
        let run = planned.first(LifeStage::Failed).map(|job| SmolStr::new(factory.id(job).run()));
        reads.add_ids(KnownIds { jobs: job.into_iter().collect(), failed_runs: run.into_iter().collect() });
        generator.complete(planned.worker, free);
        self.batches.succeeded(now, self.setup.generator.is_sending());
        for action in planned.actions() {
            self.change_completed(action, true);
        }
    }

    /// Schedules a repetition of a failed batch, or ends the load if a repetition cannot succeed.
    fn failed(&mut self, delivery: Delivery, error: Error) {
        self.setup.recorder.batch_failed(&delivery.planned, &error);
        if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Backend) {
            return self.abort(format!("a batch failed: {error}"));
        }
        let backoff = delivery.backoff;
        self.spawn(async move {
            tokio::time::sleep(backoff).await;
            Completion::Retry(delivery.backed_off())
        });
    }

    /// Samples the backlog, and closes the one-second intervals that have ended.
    fn sample(&mut self, now: u64) {
        while self.next_sample <= now {
            self.next_sample += SAMPLE_INTERVAL.as_micros() as u64;
            let Setup { generator, reads, recorder, collector, .. } = &mut self.setup;
            recorder.backlog(now, generator);
            if self.samples > 0 && self.samples.is_multiple_of(SAMPLES_PER_SECOND) {
                let elapsed = Duration::from_secs(self.samples / SAMPLES_PER_SECOND);
                let second = recorder.close_second(elapsed, generator.backlog(now), |kind| reads.backlog(kind));
                let snapshot = Snapshot::new(elapsed, generator, recorder, &second);
                collector.second(second, Some(snapshot));
            }
            self.samples += 1;
        }
    }

    /// The time of the next iteration, and whether it is exact.
    fn wake(&mut self, now: u64) -> (u64, bool) {
        let actions = self.setup.actions.iter().filter(|action| action.progress == Progress::Waiting);
        let action = actions.map(|action| action.due).filter(|&due| due > now).min();
        let end = self.ended.is_none().then_some(self.setup.end);
        let event = self.setup.generator.next_event().map(|due| due.max(now + EVENT_INTERVAL));
        let calls = [self.setup.generator.next_batch_at(), self.setup.reads.next_time(), action, end];
        let call = calls.into_iter().flatten().min();
        let other = event.map_or(self.next_sample, |event| event.min(self.next_sample));
        match call {
            Some(call) if call <= other => (call, true),
            _ => (other, false),
        }
    }

    fn finish(mut self, drained: bool) -> Result<LoadOutcome> {
        // Calls that have completed are not unfinished.
        while let Ok(message) = self.receiver.try_recv() {
            self.receive(message);
        }
        self.tasks.abort_all();
        let end = Instant::now();
        let Setup { generator, reads, mut recorder, actions, collector, start, offset, .. } = self.setup;
        for read in reads.unfinished() {
            recorder.read_unfinished(read, end);
        }
        for (due, queries) in generator.unfinished() {
            recorder.event_unfinished(due, queries, end);
        }
        let failed = actions.iter().filter(|action| !matches!(action.progress, Progress::Ended { .. }));
        if self.stopped.is_none() {
            failed.for_each(|action| recorder.action_failed(action.due));
        }
        collector.second(recorder.take(), None);
        Ok(LoadOutcome {
            generator,
            reads,
            actions,
            record: collector.finish()?,
            drained,
            interrupted: self.stopped.is_some_and(|stopped| self.ended.is_none_or(|ended| stopped <= ended)),
            aborted: self.aborted,
            offset,
            test_end: start + Duration::from_micros(self.setup.end),
            end,
        })
    }
}
