//! The load itself: generates events at their times, makes the calls, and records what comes of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smol_str::SmolStr;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::actions::{self, Action, ActiveJob, Progress};
use super::generator::{Generator, PlannedBatch};
use super::life::{LifeStage, Lives};
use super::observer::{Observer, Snapshot};
use super::reads::{self, ReadDone, Reads, Seen};
use super::record::Phase;
use super::recorder::Recorder;
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::ingest::IngestionBatch;

/// How often the backlog is sampled.
const SAMPLING: Duration = Duration::from_millis(100);
const SAMPLES_PER_SECOND: u64 = 10;
/// How long a batch that failed waits to be sent again: twice as long each time, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// The resolution of the timers, and the least time between two looks at what is due.
const RESOLUTION: Duration = Duration::from_millis(1);

/// What the load runs with.
pub(super) struct Setup {
    pub(super) database: Arc<dyn Database>,
    /// Where the calls run: the threads of the caller, and not those of the generator.
    pub(super) runtime: Handle,
    pub(super) generator: Generator,
    pub(super) reads: Reads,
    pub(super) actions: Vec<Action>,
    pub(super) recorder: Recorder,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) stop: watch::Receiver<bool>,
    /// The start of the load.
    pub(super) start: Instant,
    /// The start of the load, from the start of the run.
    pub(super) offset: Duration,
    /// The end of the test, in microseconds from the start of the load.
    pub(super) end: u64,
    pub(super) query_timeout: Duration,
    pub(super) drain: Drain,
}

/// How long what was due may take to complete after the end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drain {
    pub(super) complete: Duration,
    pub(super) interrupted: Duration,
}

/// What the load has left behind.
pub(super) struct Driven {
    pub(super) generator: Generator,
    pub(super) reads: Reads,
    pub(super) actions: Vec<Action>,
    pub(super) recorder: Recorder,
    /// Whether all that was due is known to be stored.
    pub(super) drained: bool,
    /// Whether the load was stopped before its end.
    pub(super) interrupted: bool,
    /// When the last event was due, and when the drain ended.
    pub(super) test_end: Instant,
    pub(super) end: Instant,
}

/// A batch on its way.
#[derive(Debug)]
struct Delivery {
    planned: PlannedBatch,
    attempt: Attempt,
    pause: Duration,
}

#[derive(Debug)]
enum Attempt {
    First,
    /// The batch as it was sent before.
    Again(Arc<IngestionBatch>),
}

/// What a task came to.
enum Completion {
    Stored {
        delivery: Delivery,
        began: Instant,
        ended: Instant,
        redelivered: bool,
    },
    /// The batch could not be stored.
    Failed {
        delivery: Delivery,
        error: Error,
    },
    Read(ReadDone),
    /// The jobs that an action of an index has found.
    Found {
        action: usize,
        jobs: Result<Vec<ActiveJob>>,
    },
    /// A batch that failed is to be sent again.
    Retry(Delivery),
}

/// Runs the load on a thread of its own, so that calls that keep the caller's threads busy do not delay the
/// generator.
pub(super) async fn drive(setup: Setup) -> Result<Driven> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let driven = match runtime {
            Ok(runtime) => runtime.block_on(Driver::new(setup).run()),
            Err(error) => Err(cannot_run(error)),
        };
        // The caller may have gone away; then nobody needs the measurements.
        drop(sender.send(driven));
    };
    std::thread::Builder::new().name("load generator".to_owned()).spawn(body).map_err(cannot_run)?;
    receiver.await.unwrap_or_else(|_| Err(cannot_run("the generator panicked")))
}

fn cannot_run(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Backend, crate::error::Operation::ExecuteIngestionQueryBatch, "the generator cannot run")
        .with_source(error)
}

struct Driver {
    setup: Setup,
    tasks: JoinSet<Completion>,
    next_sample: u64,
    samples: u64,
    stopped: Option<Instant>,
    ended: Option<Instant>,
}

impl Driver {
    fn new(setup: Setup) -> Self {
        Self { setup, tasks: JoinSet::new(), next_sample: 0, samples: 0, stopped: None, ended: None }
    }

    fn now(&self) -> u64 {
        self.setup.start.elapsed().as_micros() as u64
    }

    async fn run(mut self) -> Result<Driven> {
        self.setup.generator.end_at(self.setup.end);
        self.setup.reads.end_at(self.setup.end);
        loop {
            let now = self.now();
            self.note_the_end(now);
            self.take_up(now);
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
            // What has completed meanwhile is taken in one go.
            while let Some(completion) = self.tasks.try_join_next() {
                self.completed(Some(completion))?;
            }
        }
    }

    /// Ends the arrivals here.
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

    fn note_the_end(&mut self, now: u64) {
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

    /// Takes up all that is due, and makes the calls for which there is a worker or a slot.
    fn take_up(&mut self, now: u64) {
        let Setup { generator, reads, recorder, .. } = &mut self.setup;
        let lag = &mut generator.lag;
        reads.advance(now, |read| {
            lag.record(Duration::from_micros(now - read.due));
            recorder.read_due(read);
        });
        generator.advance(now);
        for action in generator.take_void() {
            self.changed(action, false);
        }
        self.start_actions(now);
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
            self.deliver(Delivery { planned, attempt: Attempt::First, pause: FIRST_PAUSE });
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let (database, lives) = (self.setup.database.clone(), self.setup.generator.lives().clone());
        self.spawn(deliver(database, lives, delivery));
    }

    fn start_actions(&mut self, now: u64) {
        for index in 0..self.setup.actions.len() {
            let action = &mut self.setup.actions[index];
            if action.progress == Progress::Waiting && action.due <= now && action.due <= self.setup.end {
                action.progress = Progress::Reading;
                let (database, config) = (self.setup.database.clone(), action.config.clone());
                self.spawn(async move {
                    Completion::Found { action: index, jobs: actions::active_jobs(database, config).await }
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
                    self.setup.reads.see(seen);
                }
            }
            Completion::Found { action, jobs } => self.found(action, jobs),
        }
        Ok(())
    }

    fn stored(&mut self, planned: &PlannedBatch, began: Instant, ended: Instant, redelivered: bool) {
        let Setup { generator, recorder, reads, .. } = &mut self.setup;
        recorder.batch_stored(planned, began, ended);
        if redelivered {
            recorder.batch_redelivered(planned);
        }
        let lives = generator.lives();
        let job = planned.first(LifeStage::Submitted).map(|job| SmolStr::new(lives.id(job).job()));
        let run = planned.first(LifeStage::Failed).map(|job| SmolStr::new(lives.id(job).run()));
        reads.see(Seen { jobs: job.into_iter().collect(), failed_runs: run.into_iter().collect() });
        generator.complete(planned.worker);
        for action in planned.actions() {
            self.changed(action, true);
        }
    }

    /// Sends a batch again, unless that cannot help.
    fn failed(&mut self, delivery: Delivery, error: Error) -> Result<()> {
        self.setup.recorder.batch_failed(&delivery.planned, &error);
        if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Backend) {
            return Err(error);
        }
        let pause = delivery.pause;
        self.spawn(async move {
            tokio::time::sleep(pause).await;
            Completion::Retry(Delivery { pause: (pause * 2).min(LAST_PAUSE), ..delivery })
        });
        Ok(())
    }

    /// Hands the changes of an action to the workers.
    fn found(&mut self, index: usize, jobs: Result<Vec<ActiveJob>>) {
        let elapsed = self.now();
        let generator = &mut self.setup.generator;
        let action = &mut self.setup.actions[index];
        match jobs {
            Err(error) => {
                let nanos = (self.setup.offset + self.setup.start.elapsed()).as_nanos() as u64;
                action.progress = Progress::Ended { nanos, jobs: 0, error: Some(error.to_string()) };
                self.setup.recorder.error_count += 1;
            }
            Ok(jobs) => {
                let lives = generator.lives().clone();
                action.progress = Progress::Changing { left: jobs.len() as u64, changed: jobs.len() as u64 };
                // A change is taken up also when the end of the test has passed since the action began.
                let due = elapsed.min(generator.horizon().saturating_sub(1));
                let now = lives.time(due);
                for job in &jobs {
                    generator.change(due, &job.id, action.change(index, job, &lives, now));
                }
                self.end_if_changed(index);
            }
        }
    }

    /// One change of an action is stored, or came too late.
    fn changed(&mut self, index: usize, in_time: bool) {
        if let Progress::Changing { left, changed } = &mut self.setup.actions[index].progress {
            *left -= 1;
            *changed -= u64::from(!in_time);
        }
        self.end_if_changed(index);
    }

    fn end_if_changed(&mut self, index: usize) {
        let nanos = (self.setup.offset + self.setup.start.elapsed()).as_nanos() as u64;
        let progress = &mut self.setup.actions[index].progress;
        if let Progress::Changing { left: 0, changed } = *progress {
            *progress = Progress::Ended { nanos, jobs: changed, error: None };
        }
    }

    /// Samples the backlog, and ends a second when it is over.
    fn sample(&mut self, now: u64) {
        while self.next_sample <= now {
            self.next_sample += SAMPLING.as_micros() as u64;
            let Setup { generator, reads, recorder, observer, runtime, .. } = &mut self.setup;
            recorder.backlog(now, generator);
            if self.samples > 0 && self.samples.is_multiple_of(SAMPLES_PER_SECOND) {
                let elapsed = Duration::from_secs(self.samples / SAMPLES_PER_SECOND);
                let backlog = generator.backlog(now);
                recorder.close_second(elapsed, backlog, |kind| reads.backlog(kind));
                let (snapshot, observer) = (Snapshot::new(elapsed, generator, recorder), observer.clone());
                // It may write to a terminal that does not keep up, for which no event must wait.
                runtime.spawn_blocking(move || observer.second(&snapshot));
            }
            self.samples += 1;
        }
    }

    /// When there is something to do next.
    fn wake(&mut self, now: u64) -> Instant {
        let actions = self.setup.actions.iter().filter(|action| action.progress == Progress::Waiting);
        let action = actions.map(|action| action.due).filter(|&due| due > now).min();
        let end = self.ended.is_none().then_some(self.setup.end);
        let times = [self.setup.generator.next_time(), self.setup.reads.next_time(), action, end];
        let next = times.into_iter().flatten().fold(self.next_sample, u64::min);
        // Not at once even if something is due: it waits for room, or has been taken up on the way here.
        let next = next.max(now + RESOLUTION.as_micros() as u64);
        self.setup.start + Duration::from_micros(next)
    }

    fn finish(mut self, drained: bool) -> Driven {
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
        Driven {
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

/// Returns when a stop is requested; never if nobody can request one any more.
async fn stop_requested(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Sends a batch, twice if it is one to be redelivered.
async fn deliver(database: Arc<dyn Database>, lives: Arc<Lives>, delivery: Delivery) -> Completion {
    let Delivery { planned, attempt, pause } = delivery;
    let batch = match attempt {
        Attempt::Again(batch) => batch,
        Attempt::First => match planned.validated(&lives) {
            Ok(batch) => Arc::new(batch),
            Err(error) => {
                return Completion::Failed { delivery: Delivery { planned, attempt: Attempt::First, pause }, error };
            }
        },
    };
    let began = Instant::now();
    let stored = database.execute_ingestion_query_batch(&batch).await;
    let ended = Instant::now();
    let again = |planned| Delivery { planned, attempt: Attempt::Again(batch.clone()), pause };
    if let Err(error) = stored {
        return Completion::Failed { delivery: again(planned), error };
    }
    let mut redelivered = false;
    if planned.redelivered {
        // Whether it arrives does not matter: the store has it.
        redelivered = database.execute_ingestion_query_batch(&batch).await.is_ok();
    }
    Completion::Stored { delivery: again(planned), began, ended, redelivered }
}
