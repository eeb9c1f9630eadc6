//! The load driver: generates events at their due times, executes the calls and records their outcomes.

mod actions;
mod delivery;

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
use super::actions::{Action, ActiveJob, Progress, next_time};
use super::collector::Collector;
use super::cpu::GeneratorThread;
use super::generator::{Generator, PlannedBatch};
use super::lifecycle::LifeStage;
use super::liveness::{self, Dead, Liveness};
use super::observer::Snapshot;
use super::reads::{self, CompletedRead, KnownIds, Reads};
use super::record::{Phase, RunRecord};
use super::recorder::{CallTimes, Recorder};
use super::wake::{Wake, receive_until};
use crate::database::Database;
use crate::error::{Error, ErrorKind, Operation, Result};

/// The interval of the samples of the backlog.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
const SAMPLES_PER_SECOND: u64 = 10;
/// The time before a call is due at which the driver stops sleeping and polls the clock, because the operating system
/// ends a sleep up to this time late.
const SPIN: Duration = Duration::from_micros(120);

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

impl Drain {
    /// Returns true if the time since the end of the load, or since the request to stop it, has reached its limit.
    fn is_over(self, since_end: Option<Duration>, since_stop: Option<Duration>) -> bool {
        since_end.is_some_and(|time| time >= self.complete) || since_stop.is_some_and(|time| time >= self.interrupted)
    }
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
        planned: PlannedBatch,
        times: CallTimes,
        /// The end of the redelivery, if any.
        free: Instant,
        redelivered: bool,
    },
    /// The batch failed, and its outcome may be unknown.
    Failed {
        delivery: Delivery,
        /// The start of the attempt.
        began: Instant,
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

    fn instant(&self, micros: u64) -> Instant {
        self.setup.start + Duration::from_micros(micros)
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
            let since = |at: Option<Instant>| at.map(|at| at.elapsed());
            let is_over = self.setup.drain.is_over(since(self.ended), since(self.stopped));
            if drained || self.aborted.is_some() || is_over || caller.is_closed() {
                return self.finish(drained);
            }
            let wake = self.wake(now);
            self.wait(wake);
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

    /// Waits for messages until a time, and processes those that have arrived.
    fn wait(&mut self, wake: Wake) {
        let spin = if wake.is_exact { self.spin } else { Duration::ZERO };
        let (mut next, polled) = receive_until(&self.receiver, self.instant(wake.at), spin);
        self.setup.thread.add_polled(polled);
        while let Some(message) = next {
            self.receive(message);
            next = self.receiver.try_recv().ok();
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

    /// Ends the arrivals now, if they have not ended.
    fn end_now(&mut self) {
        let now = self.now();
        self.setup.end = self.setup.end.min(now);
        self.setup.generator.end_at(now);
        self.setup.reads.end_at(now);
        self.setup.recorder.end_at(now);
    }

    /// Ends the load without a drain.
    fn abort(&mut self, reason: String) {
        self.end_now();
        self.aborted.get_or_insert(reason);
    }

    /// Ends a load on a store that does not respond.
    fn check_liveness(&mut self, now: u64) {
        let limit = self.setup.abort_after;
        let reason = match liveness::dead(&self.batches, &self.single_reads, now, limit) {
            Some(Dead::Batches) => {
                let error = self.setup.recorder.last_error().map(|error| format!("; the last error: {error}"));
                format!("no batch succeeded for {limit:?}{}", error.unwrap_or_default())
            }
            Some(Dead::Reads) => format!("no read succeeded for {limit:?}"),
            None => return,
        };
        self.abort(reason);
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
            Completion::Stored { planned, times, free, redelivered } => self.stored(&planned, times, free, redelivered),
            Completion::Failed { delivery, began, error } => self.failed(delivery, began, error),
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
            self.single_reads.failed();
        }
        let seen = self.setup.recorder.read_done(&read, done);
        self.setup.reads.add_ids(seen);
    }

    fn stored(&mut self, planned: &PlannedBatch, times: CallTimes, free: Instant, redelivered: bool) {
        let (now, free) = (self.now(), self.micros(free));
        let Setup { generator, recorder, reads, .. } = &mut self.setup;
        recorder.batch_stored(planned, times);
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
    fn failed(&mut self, delivery: Delivery, began: Instant, error: Error) {
        self.setup.recorder.batch_failed(&delivery.planned, began, &error);
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
                let snapshot = Snapshot {
                    elapsed,
                    series: second.series.clone(),
                    active_jobs: generator.active_jobs(),
                    errors: recorder.error_count(),
                    new_errors: recorder.take_new_errors(),
                    shed: generator.shed.dropped + generator.shed.rejected,
                };
                collector.second(second, Some(snapshot));
            }
            self.samples += 1;
        }
    }

    /// The time of the next iteration.
    fn wake(&mut self, now: u64) -> Wake {
        let action = next_time(&self.setup.actions, now);
        let end = self.ended.is_none().then_some(self.setup.end);
        let event = self.setup.generator.next_event();
        let calls = [self.setup.generator.next_batch_at(), self.setup.reads.next_time(), action, end];
        Wake::next(now, calls.into_iter().flatten(), event, self.next_sample)
    }

    fn finish(mut self, drained: bool) -> Result<LoadOutcome> {
        // Calls that have completed are not unfinished.
        while let Ok(message) = self.receiver.try_recv() {
            self.receive(message);
        }
        self.tasks.abort_all();
        let (test_end, end) = (self.instant(self.setup.end), Instant::now());
        let Setup { generator, reads, mut recorder, actions, collector, offset, .. } = self.setup;
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
            test_end,
            end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_ends_at_the_limit_of_a_complete_or_of_a_stopped_load() {
        let seconds = Duration::from_secs;
        let drain = Drain { complete: seconds(30), interrupted: seconds(5) };
        let is_over = |end: Option<u64>, stop: Option<u64>| drain.is_over(end.map(seconds), stop.map(seconds));
        assert!(!is_over(None, None), "the load has not ended");
        assert!(!is_over(Some(29), None) && is_over(Some(30), None));
        assert!(!is_over(Some(4), Some(4)) && is_over(Some(5), Some(5)));
        assert!(is_over(Some(20), Some(5)), "a drain can be stopped");
    }
}
