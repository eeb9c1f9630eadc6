//! The phases of a run, and its record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use super::actions;
use super::census;
use super::collector::Collector;
use super::config::LoadConfig;
use super::cpu::GeneratorThread;
use super::driver::{self, Drain, LoadOutcome, Setup};
use super::expectation::ExpectedCounts;
use super::generator::{Generator, GeneratorOptions};
use super::monitor::{self, Monitor};
use super::observer::Observer;
use super::reads::Reads;
use super::record::{
    ActivitySample, CensusRecord, FailureRecord, Phase, PhaseRecord, ResourceSample, RunRecord, StoreRecord,
};
use super::recorded::RecordedRead;
use super::recorder::Recorder;
use super::requests::Requests;
use super::store::{self, Population};
use super::upstream::GoDuration;
use crate::database::{Database, StoreInfo};
use crate::error::{BackendKind, Result};
use crate::measure::{Machine, bytes_of};
use crate::time::{Clock, SystemClock, Timestamp};

/// The maximum duration of a step after the load of a run that was stopped, whose store may not respond.
const STEP_WHEN_STOPPED: Duration = Duration::from_secs(10);

/// Options of a run in addition to its configuration.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The options of the generation of jobs and reads.
    pub generator: GeneratorOptions,
    /// The timeout of a read; 60 s by default.
    pub query_timeout: Duration,
    /// The maximum duration of the drain; 300 s by default.
    pub drain: Duration,
    /// The maximum duration of the drain of a stopped run; 10 s by default.
    pub drain_when_stopped: Duration,
    /// Recorded reads to replay from the start of the test.
    pub recorded: Vec<RecordedRead>,
    /// The time between the creation of historical jobs and the load, in which the store may finish its maintenance; 0
    /// by default.
    pub rest: Duration,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            generator: GeneratorOptions::default(),
            query_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(300),
            drain_when_stopped: Duration::from_secs(10),
            recorded: Vec::new(),
            rest: Duration::ZERO,
        }
    }
}

/// Runs a load test on a store, from the schema to the tear-down, and returns its record.
///
/// The store must be empty, or left by an earlier run with the same historical jobs. Calls run on the current tokio
/// runtime, the load generator on a separate thread. When `stop` becomes true, arrivals end, outstanding calls may
/// complete within [`RunOptions::drain_when_stopped`], and the record is marked partial.
///
/// A failed batch is sent again with exponential backoff until it succeeds, and each failure is counted. If no batch
/// succeeds for [`LoadConfig::abort_after`], or the error of a batch is permanent, the load ends, and the data stay.
/// After the drain, if all batches are stored, the census compares the store with the ingested jobs. An error after the
/// load is part of the record, and the data stay.
///
/// ```
/// use std::sync::Arc;
/// use broadside::load::{self, LoadConfig, RunOptions, NullObserver};
/// use broadside::{DatabaseConfig, SystemClock};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = LoadConfig::parse([("short.yaml", "
/// testDuration: 300ms
/// databaseConfig: {inMemory: true}
/// ingestionConfig: {batchSize: 100, batchTimeout: 20ms, submissionsPerHour: 720000}
/// queryConfig: {getJobsQueriesPerHour: 72000}
/// queueConfig: [{name: q, proportion: 1, jobSetConfig: [{name: s, proportion: 1}]}]
/// ")], [])?.config;
/// let database = config.database.config()?.connect(Arc::new(SystemClock)).await?;
/// let (_stop, stopped) = tokio::sync::watch::channel(false);
/// let record = load::run(database, &config, &RunOptions::default(), Arc::new(NullObserver), stopped).await?;
/// assert!(record.ingester.queries_executed > 0);
/// assert!(record.census.is_some_and(|census| census.differences.is_empty()));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// `InvalidArgument` if the test makes too few calls for the statistic of an objective, unless recorded reads are
/// replayed. `WrongStore` if the store does not belong to Broadside or contains other jobs. Errors of the store before
/// the load.
pub async fn run(
    database: Arc<dyn Database>,
    config: &LoadConfig,
    options: &RunOptions,
    observer: Arc<dyn Observer>,
    stop: watch::Receiver<bool>,
) -> Result<RunRecord> {
    if options.recorded.is_empty() {
        config.slo.iter().try_for_each(|objective| objective.check_samples(config))?;
    }
    run_unchecked(database, config, options, observer, stop).await
}

/// Runs a load test whose objectives may have too few samples.
pub(super) async fn run_unchecked(
    database: Arc<dyn Database>,
    config: &LoadConfig,
    options: &RunOptions,
    observer: Arc<dyn Observer>,
    stop: watch::Receiver<bool>,
) -> Result<RunRecord> {
    let mut run = Run {
        database,
        config,
        options,
        observer,
        stop,
        started: SystemClock.now(),
        start: Instant::now(),
        phases: Vec::new(),
        resources: Vec::new(),
        failures: Vec::new(),
        activity: Vec::new(),
        activity_problems: Vec::new(),
    };
    run.execute().await
}

/// A run in progress.
struct Run<'a> {
    database: Arc<dyn Database>,
    config: &'a LoadConfig,
    options: &'a RunOptions,
    observer: Arc<dyn Observer>,
    stop: watch::Receiver<bool>,
    started: Timestamp,
    start: Instant,
    phases: Vec<PhaseRecord>,
    resources: Vec<ResourceSample>,
    /// The errors after the load.
    failures: Vec<FailureRecord>,
    activity: Vec<ActivitySample>,
    activity_problems: Vec<String>,
}

impl Run<'_> {
    async fn execute(&mut self) -> Result<RunRecord> {
        self.observer.phase(Phase::Setup);
        // If this fails, the store may contain other data and must not be torn down.
        let population = store::prepare(&*self.database, self.config).await?;
        self.end_phase(Phase::Setup, Instant::now());
        let record = self.load(&population).await;
        let keeps_data = self.config.skip_tear_down || !self.failures.is_empty();
        if !keeps_data && record.as_ref().map_or(true, |record| record.aborted.is_none()) {
            self.tear_down().await;
        }
        let mut record = record?;
        record.ended = SystemClock.now();
        record.phases.clone_from(&self.phases);
        record.failures.clone_from(&self.failures);
        Ok(record)
    }

    async fn tear_down(&mut self) {
        self.observer.phase(Phase::TearDown);
        let database = self.database.clone();
        self.step(Phase::TearDown, async move { database.tear_down().await }).await;
        self.end_phase(Phase::TearDown, Instant::now());
    }

    /// Executes a step after the load. An error becomes a part of the record.
    async fn step<T>(&mut self, phase: Phase, step: impl Future<Output = Result<T>>) -> Option<T> {
        let limit = if *self.stop.borrow() { STEP_WHEN_STOPPED } else { self.options.drain };
        let error = match timeout(limit, step).await {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not completed within {limit:?}"),
        };
        self.failures.push(FailureRecord { phase, error });
        None
    }

    /// Runs the phases from the historical jobs to the census.
    async fn load(&mut self, population: &Population) -> Result<RunRecord> {
        let info = self.sample_resources().await?;
        self.observer.phase(Phase::Historical);
        let populated = self.populate(population).await?;
        self.end_phase(Phase::Historical, Instant::now());
        let mut skeleton = self.unloaded();
        (skeleton.store.version, skeleton.store.settings) = (info.version, info.settings);
        let Some(before) = populated else {
            return Ok(skeleton);
        };
        let driven = self.drive(population, skeleton).await?;
        let census = self.census(&driven, before).await;
        self.sample_after().await;
        Ok(self.record(driven, census))
    }

    /// Creates the historical jobs. Returns the expected counts; `None` if the run was stopped.
    async fn populate(&mut self, population: &Population) -> Result<Option<ExpectedCounts>> {
        let workers = self.config.ingestion.historical_job_workers;
        let populate = population.populate(&*self.database, workers, &*self.observer);
        let stopped = async {
            if self.stop.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = stopped => Ok(None),
            populated = populate => populated.map(Some),
        }
    }

    async fn drive(&mut self, population: &Population, skeleton: RunRecord) -> Result<LoadOutcome> {
        let [warm_up, end] = self.config.test_micros();
        let options = self.options.generator;
        let thread = GeneratorThread::default();
        let monitor = Monitor::new(self.database.clone(), self.start, thread.clone()).await;
        let (start, offset, time) = (Instant::now(), self.start.elapsed(), SystemClock.now());
        let generator = Generator::new(self.config, options, time);
        let requests = Requests::new(self.config, generator.factory().time(warm_up));
        let abort_on = self.config.abort_on.iter();
        let abort_on = abort_on
            .map(|objective| (objective.clone(), objective.most_calls(self.config, &self.options.recorded)))
            .collect();
        let recorded = self.options.recorded.iter().map(|read| read.clone().delayed(warm_up)).collect();
        let mut reads = Reads::new(self.config, options, requests, recorded);
        reads.add_ids(population.known_ids());
        let max_errors = self.config.queries.max_errors_to_collect;
        self.observer.phase(if warm_up > 0 { Phase::WarmUp } else { Phase::Test });
        self.observer.started(&self.planned(&skeleton, [warm_up, end]));
        let setup = Setup {
            database: self.database.clone(),
            runtime: Handle::current(),
            generator,
            reads,
            actions: actions::actions(self.config, warm_up),
            recorder: Recorder::new(start, offset, [warm_up, end], max_errors),
            collector: Collector::start(skeleton, abort_on, self.observer.clone(), Handle::current())?,
            stop: self.stop.clone(),
            start,
            offset,
            end,
            query_timeout: self.options.query_timeout,
            drain: Drain { complete: self.options.drain, interrupted: self.options.drain_when_stopped },
            abort_after: self.config.abort_after,
            thread,
        };
        let (driven, monitored) = monitor.during(driver::drive(setup)).await;
        (self.activity, self.activity_problems) = (monitored.samples, monitored.problems);
        let driven = driven?;
        let test_start = (start + self.config.warmup_duration).min(driven.test_end);
        if warm_up > 0 {
            self.end_phase(Phase::WarmUp, test_start);
        }
        self.end_phase(Phase::Test, driven.test_end);
        self.end_phase(Phase::Drain, driven.end);
        Ok(driven)
    }

    /// The record at the start of the load, with the planned phases.
    fn planned(&self, skeleton: &RunRecord, [warm_up, end]: [u64; 2]) -> RunRecord {
        let mut record = skeleton.clone();
        let start = self.start.elapsed().as_nanos() as u64;
        let phase = |phase, from: u64, to: u64| PhaseRecord {
            phase,
            start_nanos: start + from * 1000,
            end_nanos: start + to * 1000,
        };
        if warm_up > 0 {
            record.phases.push(phase(Phase::WarmUp, 0, warm_up));
        }
        record.phases.push(phase(Phase::Test, warm_up, end));
        record
    }

    /// Takes the census; `None` if some events are not known to be stored, or the census fails.
    async fn census(&mut self, driven: &LoadOutcome, before: ExpectedCounts) -> Option<CensusRecord> {
        if !driven.drained {
            return None;
        }
        self.observer.phase(Phase::Census);
        let expected = before.plus(&driven.generator.expectation);
        let database = self.database.clone();
        let take = async move { census::take(&*database, &driven.generator, &expected).await };
        let census = self.step(Phase::Census, take).await;
        self.end_phase(Phase::Census, Instant::now());
        census
    }

    fn end_phase(&mut self, phase: Phase, end: Instant) {
        let start_nanos = self.phases.last().map_or(0, |phase| phase.end_nanos);
        let end_nanos = end.saturating_duration_since(self.start).as_nanos() as u64;
        self.phases.push(PhaseRecord { phase, start_nanos, end_nanos: end_nanos.max(start_nanos) });
    }

    /// Samples the resources after the load.
    async fn sample_after(&mut self) {
        let database = self.database.clone();
        if let Some(info) = self.step(Phase::Census, async move { database.store_info().await }).await {
            self.add_sample(&info);
        }
    }

    async fn sample_resources(&mut self) -> Result<StoreInfo> {
        let info = self.database.store_info().await?;
        self.add_sample(&info);
        Ok(info)
    }

    fn add_sample(&mut self, info: &StoreInfo) {
        self.resources.push(ResourceSample {
            at_nanos: self.start.elapsed().as_nanos() as u64,
            stored_bytes: info.bytes,
            server_memory_bytes: info.server_memory,
            process_memory_bytes: bytes_of("/proc/self/status", "VmRSS"),
        });
    }

    /// The record of a run without a load.
    fn unloaded(&self) -> RunRecord {
        RunRecord {
            format: RunRecord::FORMAT,
            broadside: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            ended: self.started,
            seed: self.options.generator.seed,
            options: self.recorded_options(),
            configuration: serde_json::to_value(self.config).unwrap_or_default(),
            store: StoreRecord {
                backend: self.database.backend().name().to_owned(),
                address: self.config.database.address(),
                version: None,
                settings: BTreeMap::new(),
            },
            machine: Machine::this(),
            partial: true,
            invalid: Vec::new(),
            unsustained: Vec::new(),
            aborted: None,
            failures: Vec::new(),
            phases: self.phases.clone(),
            ingester: Default::default(),
            queries: Vec::new(),
            actions: Vec::new(),
            errors: Vec::new(),
            error_count: 0,
            series: Vec::new(),
            resources: self.resources.clone(),
            activity: self.activity.clone(),
            activity_problems: self.activity_problems.clone(),
            census: None,
            objectives: Vec::new(),
            rate_search: None,
        }
    }

    fn recorded_options(&self) -> BTreeMap<String, Value> {
        let options = self.options.generator;
        BTreeMap::from([
            ("selection".to_owned(), options.selection.to_string().into()),
            ("arrivals".to_owned(), options.arrivals.to_string().into()),
            ("queryTimeout".to_owned(), GoDuration(self.options.query_timeout).to_string().into()),
        ])
    }

    fn record(&mut self, driven: LoadOutcome, census: Option<CensusRecord>) -> RunRecord {
        let offset = driven.offset.as_nanos() as u64;
        let LoadOutcome { generator, reads, actions, record, drained, interrupted, aborted, .. } = driven;
        let mut record = RunRecord {
            partial: interrupted,
            aborted,
            phases: self.phases.clone(),
            actions: actions.iter().map(|action| action.record(offset)).collect(),
            resources: self.resources.clone(),
            activity: std::mem::take(&mut self.activity),
            activity_problems: std::mem::take(&mut self.activity_problems),
            census,
            ..record
        };
        record.ingester.jobs_dropped = generator.shed.dropped;
        record.ingester.jobs_rejected = generator.shed.rejected;
        record.options.insert("readsWithoutId".to_owned(), reads.without_id.into());
        let in_process = self.database.backend() == BackendKind::Memory;
        if let Some(test) = self.phases.iter().find(|phase| phase.phase == Phase::Test) {
            record.invalid.extend(monitor::driver_limits(&record.activity, test, record.machine.cores, in_process));
        }
        if !drained && !interrupted && record.aborted.is_none() {
            record.unsustained.push("some calls had not completed at the end of the drain".to_owned());
        }
        record.objectives = self.config.slo.iter().map(|objective| objective.evaluate(&record)).collect();
        record.judge(self.config);
        record
    }
}
