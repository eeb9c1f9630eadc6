//! The phases of a run, and its record.

mod options;
mod record;
mod step;

use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::actions;
use super::census;
use super::collector::Collector;
use super::config::LoadConfig;
use super::cpu::GeneratorThread;
use super::driver::{self, Drain, LoadOutcome, Setup};
use super::expectation::ExpectedCounts;
use super::generator::Generator;
use super::monitor::{self, Monitor};
use super::observer::Observer;
use super::reads::Reads;
use super::record::{
    ActivitySample, CensusRecord, FailureRecord, Phase, PhaseRecord, RateSearchRecord, ResourceSample, RunRecord,
};
use super::recorder::Recorder;
use super::requests::Requests;
use super::store::{self, Population};
use super::team::{self, End, Team};
use crate::database::{Database, StoreInfo};
use crate::error::Result;
use crate::measure::bytes_of;
use crate::time::{Clock, SystemClock, Timestamp};

pub use options::{LoadTest, RunOptions};
use step::{STEP_WHEN_ABORTED, STEP_WHEN_STOPPED};

impl LoadTest {
    /// Runs the load test on a store, from the schema to the tear-down, and returns its record.
    ///
    /// The store must be empty, or left by an earlier run with the same historical jobs. Calls run on the current tokio
    /// runtime, the load generator on a separate thread. Dropping the future ends the load and leaves the data.
    ///
    /// A failed batch is sent again with exponential backoff until it succeeds, and each failure is counted. If no batch
    /// succeeds for [`LoadConfig::abort_after`], or the error of a batch is permanent, the load ends, and the data stay.
    /// After the drain, if all batches are stored, the census compares the store with the ingested jobs. An error after the
    /// load is part of the record, and the data stay.
    ///
    /// With a [share](super::GeneratorOptions::share), the run waits until all shares of the load, which other processes run
    /// on the same store, are ready, and begins the load together with them. The last share initialises the schema after the
    /// others have joined; a store without a marker of Broadside gets it before, because the shares agree through properties.
    /// A share that does not begin restores its property. Each share compares a sample of its jobs with
    /// the store. The last share creates the historical jobs before, and after the load waits for the ends of the others,
    /// compares the counts of the whole store, and tears it down. If a share does not report its end, that is a failure of
    /// the last one, and the data stay. Objectives are not evaluated: the sum of the records by [`merge`](super::merge()) has
    /// them.
    ///
    /// ```
    /// use broadside::load::{LoadConfig, LoadTest};
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
    /// let record = LoadTest::new(config).run(broadside::connect("memory").await?).await?;
    /// assert!(record.ingester.queries_executed > 0);
    /// assert!(record.census.is_some_and(|census| census.differences.is_empty()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the test makes too few calls for the statistic of an objective, unless recorded reads are
    /// replayed, if another process runs the same share, or if a share has another plan. `Timeout` if a share does not join.
    /// `WrongStore` if the store does not belong to Broadside or contains other jobs. Errors of the store before the load.
    pub async fn run(&self, database: Arc<dyn Database>) -> Result<RunRecord> {
        if self.options.recorded.is_empty() {
            self.config.slo.iter().try_for_each(|objective| objective.check_samples(&self.config))?;
        }
        run_unchecked(database, self, None).await
    }
}

/// Runs a load test whose objectives may have too few samples. A trial of a search has the earlier trials in its record.
pub(super) async fn run_unchecked(
    database: Arc<dyn Database>,
    test: &LoadTest,
    search: Option<RateSearchRecord>,
) -> Result<RunRecord> {
    let mut run = Run {
        database,
        config: &test.config,
        options: &test.options,
        observer: test.observer.clone(),
        stop: test.stop.clone(),
        started: SystemClock.now(),
        start: Instant::now(),
        phases: Vec::new(),
        resources: Vec::new(),
        failures: Vec::new(),
        is_silent: false,
        is_aborted: false,
        activity: Vec::new(),
        activity_problems: Vec::new(),
        team: None,
        search,
        outcome: ShareOutcome::default(),
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
    /// Whether the store has not responded in a step after the load.
    is_silent: bool,
    /// Whether the load has ended before its time.
    is_aborted: bool,
    activity: Vec<ActivitySample>,
    activity_problems: Vec<String>,
    /// The other shares of the load; `None` without any.
    team: Option<Team>,
    /// The search of which the run is a trial.
    search: Option<RateSearchRecord>,
    outcome: ShareOutcome,
}

/// What a share tells the last one, and the last one knows of the others.
#[derive(Debug, Default)]
struct ShareOutcome {
    /// The changes of the counts of the store by this share; `None` if they are not known.
    counts: Option<ExpectedCounts>,
    /// Whether the load has begun, so that other shares use the store until they have ended.
    begun: bool,
    /// The ends of all other shares; `None` if they are not known.
    ends: Option<Vec<End>>,
}

impl Run<'_> {
    async fn execute(&mut self) -> Result<RunRecord> {
        self.observer.phase(Phase::Setup);
        // If this fails, the store may contain other data and must not be torn down.
        let record = match self.prepare().await {
            Ok(Some(population)) => self.prepared(&population).await,
            Ok(None) => Ok(self.unloaded()),
            Err(error) => Err(error),
        };
        if let Some(team) = self.team.as_ref().filter(|_| !self.outcome.begun) {
            team.leave().await;
        }
        record
    }

    /// Checks the store, joins the other shares and initialises the schema, in this order; `None` if the run was stopped.
    async fn prepare(&mut self) -> Result<Option<Population>> {
        let check = store::check(&*self.database, self.config);
        let Some(population) = self.attempt(check).await? else { return Ok(None) };
        let share = self.options.generator.share;
        let is_alone = share.parts() == 1;
        // The shares agree through properties, for which a store without a marker must get one first.
        let initialises_first = is_alone || !population.has_marker;
        if share.is_last() && initialises_first && !self.initialise().await? {
            return Ok(None);
        }
        if !is_alone {
            let (database, limit) = (self.database.clone(), self.options.share_wait);
            self.team = Team::join(database, share, self.plan(), limit, self.stop.clone()).await?;
            if self.team.is_none() || share.is_last() && !initialises_first && !self.initialise().await? {
                return Ok(None);
            }
        }
        Ok(Some(population))
    }

    /// Initialises the schema. Returns false if the run was stopped.
    async fn initialise(&mut self) -> Result<bool> {
        Ok(self.attempt(self.database.initialise_schema()).await?.is_some())
    }

    /// Runs the phases of a load on a store with the schema.
    async fn prepared(&mut self, population: &Population) -> Result<RunRecord> {
        self.end_phase(Phase::Setup, Instant::now());
        let record = self.load(population).await;
        let share = self.options.generator.share;
        if share.is_last() {
            if !self.keeps_data() && !self.is_aborted {
                self.tear_down().await;
            }
        } else if self.outcome.begun {
            self.report_end(record.is_err() || self.is_aborted).await;
        }
        let mut record = record?;
        record.ended = SystemClock.now();
        record.phases.clone_from(&self.phases);
        record.failures.clone_from(&self.failures);
        Ok(record)
    }

    fn keeps_data(&self) -> bool {
        let is_in_use = self.team.is_some() && self.outcome.begun && self.outcome.ends.is_none();
        self.config.skip_tear_down || !self.failures.is_empty() || is_in_use
    }

    /// Reports the end of this share to the last one, after the last call on the store.
    async fn report_end(&mut self, failed: bool) {
        let (failed, counts) = (failed || !self.failures.is_empty(), self.outcome.counts.take());
        let Some(team) = self.team.take() else { return };
        self.step(Phase::Census, team.end(counts, failed)).await;
        self.team = Some(team);
    }

    /// The hash of everything that determines the load, without the address of the store.
    fn plan(&self) -> u64 {
        let mut configuration = serde_json::to_value(self.config).unwrap_or_default();
        if let Some(keys) = configuration.as_object_mut() {
            // Machines may have other names for a server and other paths.
            keys.retain(|key, _| !matches!(key.as_str(), "databaseConfig" | "reads"));
        }
        team::plan(&[
            env!("CARGO_PKG_VERSION").to_owned(),
            configuration.to_string(),
            self.options.generator.seed.to_string(),
            self.options.generator.share.parts().to_string(),
            format!("{:?} {:?}", self.recorded_options(), self.options.recorded),
        ])
    }

    async fn tear_down(&mut self) {
        self.observer.phase(Phase::TearDown);
        let database = self.database.clone();
        self.step(Phase::TearDown, database.tear_down()).await;
        self.end_phase(Phase::TearDown, Instant::now());
    }

    /// Runs the phases from the historical jobs to the census.
    async fn load(&mut self, population: &Population) -> Result<RunRecord> {
        let Some(info) = self.attempt(self.database.store_info()).await? else { return Ok(self.unloaded()) };
        self.add_sample(&info);
        self.observer.phase(Phase::Historical);
        let (populated, rested) = match self.fill(population).await {
            Ok(filled) => filled,
            Err(error) => {
                self.is_silent = monitor::is_unreachable(&error);
                self.failures.push(FailureRecord { phase: Phase::Historical, error: error.to_string() });
                return Ok(RunRecord { partial: false, ..self.unloaded() });
            }
        };
        // Before the start, because it connects.
        let thread = GeneratorThread::default();
        let monitor = Monitor::new(self.database.clone(), self.observer.clone(), self.start, thread.clone()).await;
        let begun = match (&mut self.team, &populated) {
            (Some(team), Some(_)) => team.begin().await?,
            (_, populated) => populated.as_ref().filter(|_| rested).map(|_| SystemClock.now()),
        };
        self.outcome.begun = begun.is_some();
        self.end_phase(Phase::Historical, Instant::now());
        let mut skeleton = self.unloaded();
        (skeleton.store.version, skeleton.store.settings) = (info.version, info.settings);
        let (Some(before), Some(time)) = (populated, begun) else {
            return Ok(skeleton);
        };
        let driven = self.drive(population, skeleton, time, (monitor, thread)).await?;
        self.is_aborted = driven.aborted.is_some();
        let census = self.census(&driven, before).await;
        // A store that does not respond would delay the end of the run.
        if !self.is_aborted {
            self.sample_after().await;
        }
        Ok(self.record(driven, census))
    }

    /// Creates the historical jobs and waits before the load. Returns the expected counts, `None` if the run was stopped,
    /// and false if it was stopped afterwards.
    async fn fill(&mut self, population: &Population) -> Result<(Option<ExpectedCounts>, bool)> {
        let populated = self.populate(population).await?;
        let is_last = self.options.generator.share.is_last();
        let rested = populated.is_none() || !is_last || self.rest().await?;
        Ok((populated, rested))
    }

    /// Creates the historical jobs, except for a share that is not the last. Returns the expected counts; `None` if the
    /// run was stopped.
    async fn populate(&mut self, population: &Population) -> Result<Option<ExpectedCounts>> {
        if !self.options.generator.share.is_last() {
            return Ok(Some(ExpectedCounts::default()));
        }
        let workers = self.config.ingestion.historical_job_workers;
        let populate = population.populate(&*self.database, workers, &*self.observer);
        let mut team = self.team.take();
        let populate = async {
            match &mut team {
                Some(team) => team.beating(populate).await,
                None => populate.await,
            }
        };
        let populated = self.attempt(populate).await;
        self.team = team;
        populated
    }

    /// Updates the statistics of the planner, which a store that has just been filled does not have, and waits before
    /// the load. Returns false if the run was stopped.
    async fn rest(&mut self) -> Result<bool> {
        let rest = async {
            self.database.analyse().await?;
            tokio::time::sleep(self.options.rest).await;
            Ok(())
        };
        Ok(self.attempt(rest).await?.is_some())
    }

    /// Drives the load, which starts now. The ids and times of its jobs derive from `time`, the wall-clock time of the
    /// start, which is the same for all shares.
    async fn drive(
        &mut self,
        population: &Population,
        skeleton: RunRecord,
        time: Timestamp,
        (monitor, thread): (Monitor, GeneratorThread),
    ) -> Result<LoadOutcome> {
        let [warm_up, end] = self.config.test_micros();
        let options = self.options.generator;
        let (start, offset) = (Instant::now(), self.start.elapsed());
        let generator = Generator::new(self.config, options, time);
        let requests = Requests::new(self.config, generator.factory().time(warm_up));
        let abort_on = self.config.abort_on.iter();
        let abort_on = abort_on
            .map(|objective| (objective.clone(), objective.max_calls(self.config, &self.options.recorded)))
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
            recorder: Recorder::new(start, offset, [warm_up, end], max_errors, self.team.is_some()),
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

    /// Takes the census; `None` if some events are not known to be stored, or the census fails.
    async fn census(&mut self, driven: &LoadOutcome, before: ExpectedCounts) -> Option<CensusRecord> {
        if !driven.drained && self.team.is_none() {
            return None;
        }
        self.observer.phase(Phase::Census);
        self.outcome.counts = driven.drained.then(|| before.plus(&driven.generator.expectation));
        self.outcome.ends = self.ends_of_others().await;
        let expected = self.expected();
        let database = self.database.clone();
        let take = census::take(&*database, &driven.generator, expected.as_ref());
        let census = if driven.drained { self.step(Phase::Census, take).await } else { None };
        self.end_phase(Phase::Census, Instant::now());
        census
    }

    /// The expected counts of the store; `None` if those of some share are not known.
    fn expected(&self) -> Option<ExpectedCounts> {
        let mut sum = self.outcome.counts.clone()?;
        for end in self.outcome.ends.as_ref()? {
            sum = sum.plus(end.counts.as_ref()?);
        }
        Some(sum)
    }

    /// Waits for the ends of the other shares, as the last share. A share that is missing or has failed is a failure.
    async fn ends_of_others(&mut self) -> Option<Vec<End>> {
        let Some(team) = &self.team else { return Some(Vec::new()) };
        if !self.options.generator.share.is_last() {
            return None;
        }
        let limit = match *self.stop.borrow() {
            _ if self.is_aborted => STEP_WHEN_ABORTED,
            true => STEP_WHEN_STOPPED,
            false => self.options.drain,
        };
        let ends = tokio::select! {
            biased;
            ends = team.ends(limit) => ends.map_err(|error| error.to_string()),
            silent = self.silent() => Err(silent),
        };
        let (error, ends) = match ends {
            Ok(ends) => (team.failed(&ends), Some(ends)),
            Err(error) => (Some(error), None),
        };
        self.failures.extend(error.map(|error| FailureRecord { phase: Phase::Census, error }));
        ends
    }

    fn end_phase(&mut self, phase: Phase, end: Instant) {
        let start_nanos = self.phases.last().map_or(0, |phase| phase.end_nanos);
        let end_nanos = end.saturating_duration_since(self.start).as_nanos() as u64;
        self.phases.push(PhaseRecord { phase, start_nanos, end_nanos: end_nanos.max(start_nanos) });
    }

    /// Samples the resources after the load.
    async fn sample_after(&mut self) {
        let database = self.database.clone();
        if let Some(info) = self.step(Phase::Census, database.store_info()).await {
            self.add_sample(&info);
        }
    }

    fn add_sample(&mut self, info: &StoreInfo) {
        self.resources.push(ResourceSample {
            at_nanos: self.start.elapsed().as_nanos() as u64,
            stored_bytes: info.bytes,
            server_memory_bytes: info.server_memory,
            process_memory_bytes: bytes_of("/proc/self/status", "VmRSS"),
        });
    }
}
