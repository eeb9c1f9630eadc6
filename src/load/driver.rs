//! The load driver: generates events at their due times, executes the calls and records their outcomes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec;

use smol_str::SmolStr;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::actions::{self, Action, ActiveJob, Progress};
use super::cpu::GeneratorThread;
use super::generator::{Generator, PlannedBatch};
use super::lifecycle::{JobFactory, LifeStage};
use super::observer::{Observer, Snapshot};
use super::reads::{self, CompletedRead, KnownIds, Reads};
use super::record::Phase;
use super::recorder::Recorder;
use crate::database::Database;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::ingest::IngestionBatch;

/// The interval of the samples of the backlog.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
const SAMPLES_PER_SECOND: u64 = 10;
/// The backoff before a failed batch is sent again, doubled after each attempt up to the maximum.
const INITIAL_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// The resolution of the timers, and the minimum interval between two iterations of the driver.
const RESOLUTION: Duration = Duration::from_millis(1);
/// The maximum number of updates of an action that an iteration of the driver passes to the workers.
const CHANGES_PER_ITERATION: usize = 2000;

/// The components of a load.
pub(super) struct Setup {
    pub(super) database: Arc<dyn Database>,
    /// The caller's runtime, which executes the calls. The generator has its own thread.
    pub(super) runtime: Handle,
    pub(super) generator: Generator,
    pub(super) reads: Reads,
    pub(super) actions: Vec<Action>,
    pub(super) recorder: Recorder,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) stop: watch::Receiver<bool>,
    /// The start of the load.
    pub(super) start: Instant,
    /// The time from the start of the run to the start of the load.
    pub(super) offset: Duration,
    /// The end of the test, in microseconds from the start of the load.
    pub(super) end: u64,
    pub(super) query_timeout: Duration,
    pub(super) drain: Drain,
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
    pub(super) recorder: Recorder,
    /// Whether all events that were due are known to be stored.
    pub(super) drained: bool,
    /// Whether the load was stopped before its end.
    pub(super) interrupted: bool,
    /// The end of the arrivals.
    pub(super) test_end: Instant,
    /// The end of the drain.
    pub(super) end: Instant,
}

/// A batch in flight.
#[derive(Debug)]
struct Delivery {
    planned: PlannedBatch,
    attempt: Attempt,
    backoff: Duration,
}

#[derive(Debug)]
enum Attempt {
    First,
    /// A repetition of the validated batch.
    Retry(Arc<IngestionBatch>),
}

/// The result of a task.
enum Completion {
    Stored {
        delivery: Delivery,
        began: Instant,
        ended: Instant,
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

/// Runs the load on a separate thread, so that calls that occupy the caller's threads do not delay the generator.
pub(super) async fn drive(setup: Setup) -> Result<LoadOutcome> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let body = move || {
        setup.thread.enter();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let driven = match runtime {
            Ok(runtime) => runtime.block_on(Driver::new(setup).run()),
            Err(error) => Err(cannot_run(error)),
        };
        // Sending fails if the caller has dropped the future.
        drop(sender.send(driven));
    };
    std::thread::Builder::new().name("load generator".to_owned()).spawn(body).map_err(cannot_run)?;
    receiver.await.unwrap_or_else(|_| Err(cannot_run("the generator panicked")))
}

fn cannot_run(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Backend, Operation::LoadTest, "the generator cannot run").with_source(error)
}

struct Driver {
    setup: Setup,
    tasks: JoinSet<Completion>,
    /// The active jobs of actions whose updates are not yet passed to the workers.
    changes: VecDeque<(usize, vec::IntoIter<ActiveJob>)>,
    next_sample: u64,
    samples: u64,
    stopped: Option<Instant>,
    ended: Option<Instant>,
}

impl Driver {
    fn new(setup: Setup) -> Self {
        Self {
            setup,
            tasks: JoinSet::new(),
            changes: VecDeque::new(),
            next_sample: 0,
            samples: 0,
            stopped: None,
            ended: None,
        }
    }

    fn now(&self) -> u64 {
        self.setup.start.elapsed().as_micros() as u64
    }

    async fn run(mut self) -> Result<LoadOutcome> {
        self.setup.generator.end_at(self.setup.end);
        self.setup.reads.end_at(self.setup.end);
        loop {
            let now = self.now();
            self.check_end(now);
            self.process_due(now);
            self.sample(now);
            if self.ended.is_some() && self.is_drained() {
                return Ok(self.finish(true));
            }
            if self.drain_is_over() {
                return Ok(self.finish(false));
            }
            let wake = self.wake(now);
            let stopping = self.stopped.is_some();
            tokio::select! {
                completion = self.tasks.join_next(), if !self.tasks.is_empty() => self.completed(completion)?,
                () = stop_requested(&mut self.setup.stop), if !stopping => self.stop(),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            // Processes all completions before the next iteration.
            while let Some(completion) = self.tasks.try_join_next() {
                self.completed(Some(completion))?;
            }
        }
    }

    /// Ends the arrivals now.
    fn stop(&mut self) {
        let now = self.now();
        self.stopped = Some(Instant::now());
        if now < self.setup.end {
            self.setup.end = now;
            self.setup.generator.end_at(now);
            self.setup.reads.end_at(now);
            self.setup.recorder.end_at(now);
        }
    }

    fn check_end(&mut self, now: u64) {
        if self.ended.is_none() && now >= self.setup.end {
            self.ended = Some(Instant::now());
            let observer = self.setup.observer.clone();
            self.setup.runtime.spawn_blocking(move || observer.phase(Phase::Drain));
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
        let lag = &mut generator.lag;
        reads.advance(now, |read| {
            lag.record(Duration::from_micros(now - read.due));
            recorder.read_due(read);
        });
        generator.advance(now);
        for action in generator.take_skipped() {
            self.change_completed(action, false);
        }
        self.start_actions(now);
        self.pass_changes(now);
        self.send_batches(now);
        while let Some((id, call)) = self.setup.reads.start() {
            let (database, timeout) = (self.setup.database.clone(), self.setup.query_timeout);
            self.spawn(async move { Completion::Read(reads::execute(database, id, call, timeout).await) });
        }
    }

    fn spawn(&mut self, task: impl Future<Output = Completion> + Send + 'static) {
        self.tasks.spawn_on(task, &self.setup.runtime);
    }

    fn send_batches(&mut self, now: u64) {
        let flush = self.ended.is_some();
        while let Some(planned) = self.setup.generator.next_batch(now, flush) {
            self.setup.recorder.batch_sent(&planned, Instant::now());
            self.deliver(Delivery { planned, attempt: Attempt::First, backoff: INITIAL_BACKOFF });
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let (database, factory) = (self.setup.database.clone(), self.setup.generator.factory().clone());
        self.spawn(deliver(database, factory, delivery));
    }

    fn start_actions(&mut self, now: u64) {
        for index in 0..self.setup.actions.len() {
            let action = &mut self.setup.actions[index];
            if action.progress == Progress::Waiting && action.due <= now && action.due <= self.setup.end {
                action.progress = Progress::Reading;
                let (database, config) = (self.setup.database.clone(), action.config.clone());
                self.spawn(async move {
                    Completion::ActionJobs { action: index, jobs: actions::active_jobs(database, config).await }
                });
            }
        }
    }

    fn completed(&mut self, completion: Option<std::result::Result<Completion, JoinError>>) -> Result<()> {
        let Some(completion) = completion else { return Ok(()) };
        match completion.map_err(cannot_run)? {
            Completion::Stored { delivery, began, ended, redelivered } => {
                self.stored(&delivery.planned, began, ended, redelivered);
            }
            Completion::Failed { delivery, error } => self.failed(delivery, error)?,
            Completion::Retry(delivery) => self.deliver(delivery),
            Completion::Read(done) => {
                if let Some(read) = self.setup.reads.finish(done.id) {
                    let seen = self.setup.recorder.read_done(&read, done);
                    self.setup.reads.add_ids(seen);
                }
            }
            Completion::ActionJobs { action, jobs } => self.apply_action(action, jobs),
        }
        Ok(())
    }

    fn stored(&mut self, planned: &PlannedBatch, began: Instant, ended: Instant, redelivered: bool) {
        let Setup { generator, recorder, reads, .. } = &mut self.setup;
        recorder.batch_stored(planned, began, ended);
        if redelivered {
            recorder.batch_redelivered(planned);
        }
        let factory = generator.factory();
        let job = planned.first(LifeStage::Submitted).map(|job| SmolStr::new(factory.id(job).job()));
        let run = planned.first(LifeStage::Failed).map(|job| SmolStr::new(factory.id(job).run()));
        reads.add_ids(KnownIds { jobs: job.into_iter().collect(), failed_runs: run.into_iter().collect() });
        generator.complete(planned.worker);
        for action in planned.actions() {
            self.change_completed(action, true);
        }
    }

    /// Schedules a repetition of a failed batch.
    ///
    /// # Errors
    ///
    /// The error of the batch, if a repetition cannot succeed.
    fn failed(&mut self, delivery: Delivery, error: Error) -> Result<()> {
        self.setup.recorder.batch_failed(&delivery.planned, &error);
        if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Backend) {
            return Err(error);
        }
        let backoff = delivery.backoff;
        self.spawn(async move {
            tokio::time::sleep(backoff).await;
            Completion::Retry(Delivery { backoff: (backoff * 2).min(MAX_BACKOFF), ..delivery })
        });
        Ok(())
    }

    /// Schedules the updates of an action.
    fn apply_action(&mut self, index: usize, jobs: Result<Vec<ActiveJob>>) {
        let action = &mut self.setup.actions[index];
        match jobs {
            Err(error) => {
                let nanos = (self.setup.offset + self.setup.start.elapsed()).as_nanos() as u64;
                action.progress = Progress::Ended { nanos, jobs: 0, error: Some(error.to_string()) };
                self.setup.recorder.error_count += 1;
            }
            Ok(jobs) => {
                action.progress = Progress::Changing { left: jobs.len() as u64, changed: jobs.len() as u64 };
                self.changes.push_back((index, jobs.into_iter()));
                self.finish_action_if_done(index);
            }
        }
    }

    /// Passes some updates of actions to the workers: all of them at once would delay other events.
    fn pass_changes(&mut self, now: u64) {
        let Some((index, jobs)) = self.changes.front_mut() else { return };
        let Setup { generator, actions, .. } = &mut self.setup;
        let factory = generator.factory().clone();
        // The due time is within the test, so that the updates are sent even if the test has ended meanwhile.
        let due = now.min(generator.horizon().saturating_sub(1));
        for job in jobs.by_ref().take(CHANGES_PER_ITERATION) {
            generator.change(due, &job.id, actions[*index].change(*index, &job, &factory, factory.time(due)));
        }
        if jobs.len() == 0 {
            self.changes.pop_front();
        }
    }

    /// Counts an update of an action that is stored, or was skipped because its job had ended.
    fn change_completed(&mut self, index: usize, stored: bool) {
        if let Progress::Changing { left, changed } = &mut self.setup.actions[index].progress {
            *left -= 1;
            *changed -= u64::from(!stored);
        }
        self.finish_action_if_done(index);
    }

    fn finish_action_if_done(&mut self, index: usize) {
        let nanos = (self.setup.offset + self.setup.start.elapsed()).as_nanos() as u64;
        let progress = &mut self.setup.actions[index].progress;
        if let Progress::Changing { left: 0, changed } = *progress {
            *progress = Progress::Ended { nanos, jobs: changed, error: None };
        }
    }

    /// Samples the backlog, and closes the one-second intervals that have ended.
    fn sample(&mut self, now: u64) {
        while self.next_sample <= now {
            self.next_sample += SAMPLE_INTERVAL.as_micros() as u64;
            let Setup { generator, reads, recorder, observer, runtime, .. } = &mut self.setup;
            recorder.backlog(now, generator);
            if self.samples > 0 && self.samples.is_multiple_of(SAMPLES_PER_SECOND) {
                let elapsed = Duration::from_secs(self.samples / SAMPLES_PER_SECOND);
                let backlog = generator.backlog(now);
                recorder.close_second(elapsed, backlog, |kind| reads.backlog(kind));
                let (snapshot, observer) = (Snapshot::new(elapsed, generator, recorder), observer.clone());
                // The observer may block, for example on a slow terminal.
                runtime.spawn_blocking(move || observer.second(&snapshot));
            }
            self.samples += 1;
        }
    }

    /// The time of the next iteration.
    fn wake(&mut self, now: u64) -> Instant {
        let actions = self.setup.actions.iter().filter(|action| action.progress == Progress::Waiting);
        let action = actions.map(|action| action.due).filter(|&due| due > now).min();
        let end = self.ended.is_none().then_some(self.setup.end);
        let times = [self.setup.generator.next_time(), self.setup.reads.next_time(), action, end];
        let next = times.into_iter().flatten().fold(self.next_sample, u64::min);
        // An event that is already due waits for room in a queue, so an immediate iteration could not process it.
        let next = next.max(now + RESOLUTION.as_micros() as u64);
        self.setup.start + Duration::from_micros(next)
    }

    fn finish(mut self, drained: bool) -> LoadOutcome {
        self.tasks.abort_all();
        let end = Instant::now();
        let Setup { generator, reads, recorder, actions, .. } = &mut self.setup;
        for read in reads.unfinished() {
            recorder.read_unfinished(read, end);
        }
        for due in generator.unfinished_dues() {
            recorder.batch_unfinished(due, end);
        }
        let failed = actions.iter().filter(|action| !matches!(action.progress, Progress::Ended { .. })).count();
        recorder.error_count += if self.stopped.is_some() { 0 } else { failed as u64 };
        let Setup { generator, reads, actions, recorder, start, .. } = self.setup;
        LoadOutcome {
            generator,
            reads,
            actions,
            recorder,
            drained,
            interrupted: self.stopped.is_some_and(|stopped| self.ended.is_none_or(|ended| stopped <= ended)),
            test_end: start + Duration::from_micros(self.setup.end),
            end,
        }
    }
}

/// Returns when a stop is requested. Never returns if the sender has been dropped.
async fn stop_requested(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Sends a batch, and again if it is selected for redelivery.
async fn deliver(database: Arc<dyn Database>, factory: Arc<JobFactory>, delivery: Delivery) -> Completion {
    let Delivery { planned, attempt, backoff } = delivery;
    let batch = match attempt {
        Attempt::Retry(batch) => batch,
        Attempt::First => match planned.validated(&factory) {
            Ok(batch) => Arc::new(batch),
            Err(error) => {
                return Completion::Failed { delivery: Delivery { planned, attempt: Attempt::First, backoff }, error };
            }
        },
    };
    let began = Instant::now();
    let stored = database.execute_ingestion_query_batch(&batch).await;
    let ended = Instant::now();
    let again = |planned| Delivery { planned, attempt: Attempt::Retry(batch.clone()), backoff };
    if let Err(error) = stored {
        return Completion::Failed { delivery: again(planned), error };
    }
    let mut redelivered = false;
    if planned.redelivered {
        // A failure has no effect, because the batch is already stored.
        redelivered = database.execute_ingestion_query_batch(&batch).await.is_ok();
    }
    Completion::Stored { delivery: again(planned), began, ended, redelivered }
}
