//! The activity of the server and of the load driver during a load, sampled once a second.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::join;
use tokio::time::{MissedTickBehavior, interval_at, timeout};

use super::cpu::{GeneratorThread, process_cpu_time};
use super::observer::Observer;
use super::record::{ActivitySample, PhaseRecord, SecondRecord};
use crate::database::{Activity, Database, StoreInfo};
use crate::error::{Error, ErrorKind, Result};

/// The interval of the samples.
const INTERVAL: Duration = Duration::from_secs(1);
/// The interval of the sizes: reading them requires locks on the tables.
const SIZES_INTERVAL: Duration = Duration::from_secs(10);
/// The maximum duration of a sample. A sample of a server that does not answer lacks the server's statistics.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum duration of an attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const DRIVER_CPU: &str = "driverCpuMicros";
const GENERATOR_CPU: &str = "generatorCpuMicros";
const GENERATOR_WAIT: &str = "generatorWaitMicros";

/// The fraction of the time above which the generator, which computes or waits for a core, is at its limit, and the
/// fraction of all cores for the process.
const MAX_GENERATOR: f64 = 0.9;
const MAX_PROCESS: f64 = 0.95;

/// Samples the activity on a handle of its own, so that it does not wait for the connections of the load.
pub(super) struct Monitor {
    database: Arc<dyn Database>,
    observer: Arc<dyn Observer>,
    /// `None` if there is no connection yet.
    handle: Option<Arc<dyn Database>>,
    generator: GeneratorThread,
    /// The start of the run.
    start: Instant,
    /// The last totals of the counters.
    totals: BTreeMap<String, u64>,
    sizes: Option<Instant>,
    /// Whether the server answered the last sample.
    has_answered: bool,
    samples: Vec<ActivitySample>,
    problems: Vec<String>,
}

/// The samples of a load, and each problem of reading them once.
pub(super) struct Monitored {
    pub(super) samples: Vec<ActivitySample>,
    pub(super) problems: Vec<String>,
}

impl Monitor {
    /// Connects to the store of a run with the given start, and takes the first sample.
    pub(super) async fn new(
        database: Arc<dyn Database>,
        observer: Arc<dyn Observer>,
        start: Instant,
        generator: GeneratorThread,
    ) -> Self {
        let mut monitor = Self {
            database,
            observer,
            handle: None,
            generator,
            start,
            totals: BTreeMap::new(),
            sizes: None,
            has_answered: true,
            samples: Vec::new(),
            problems: Vec::new(),
        };
        monitor.sample().await;
        monitor
    }

    /// Samples the activity until the load is complete, and once more, unless the server has ceased to answer: it would
    /// delay the end of the run.
    pub(super) async fn during<T>(mut self, load: impl Future<Output = T>) -> (T, Monitored) {
        let mut load = pin!(load);
        self.report();
        let mut ticks = interval_at(tokio::time::Instant::now() + INTERVAL, INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let outcome = loop {
            let sampled = async {
                ticks.tick().await;
                self.sample().await;
                self.report();
            };
            tokio::select! {
                biased;
                outcome = &mut load => break outcome,
                () = sampled => {}
            }
        };
        if self.has_answered {
            self.sizes = None;
            self.sample().await;
            self.report();
        }
        if let Some(handle) = self.handle {
            let _ = timeout(TIMEOUT, handle.close()).await;
        }
        (outcome, Monitored { samples: self.samples, problems: self.problems })
    }

    /// Passes the last sample to the observer.
    fn report(&self) {
        let activity = self.samples.last().cloned().into_iter().collect();
        self.observer.measured(&SecondRecord { activity, ..SecondRecord::default() });
    }

    async fn connect(&mut self) {
        let connected = timeout(CONNECT_TIMEOUT, self.database.another_handle()).await;
        self.handle = self.answer("cannot connect", connected.ok());
    }

    async fn sample(&mut self) {
        if self.handle.is_none() {
            self.connect().await;
        }
        let now = Instant::now();
        let cpu = [
            (DRIVER_CPU, process_cpu_time()),
            (GENERATOR_CPU, self.generator.cpu_time()),
            (GENERATOR_WAIT, self.generator.wait_time()),
        ];
        let (activity, info) = self.read(now).await;
        let activity = activity.unwrap_or_default();
        for view in &activity.unreadable {
            self.problem(format!("the user may not read {view}"));
        }
        let cpu = cpu.into_iter().filter_map(|(name, time)| Some((name.to_owned(), time?.as_micros() as u64)));
        let counters = activity.counters.into_iter().chain(cpu).collect::<BTreeMap<_, _>>();
        let mut gauges = activity.gauges;
        let sizes = info.map(|info| [("storedBytes", info.bytes), ("indexBytes", info.index_bytes)]);
        gauges.extend(sizes.into_iter().flatten().filter_map(|(name, bytes)| Some((name.to_owned(), bytes?))));
        let at_nanos = now.saturating_duration_since(self.start).as_nanos() as u64;
        let counters = increments(&mut self.totals, counters);
        self.samples.push(ActivitySample { at_nanos, counters, gauges });
    }

    /// The statistics of the server, and the sizes if they are due. A lock on a table delays only the sizes.
    async fn read(&mut self, now: Instant) -> (Option<Activity>, Option<StoreInfo>) {
        let Some(handle) = self.handle.clone() else { return (None, None) };
        let sizes_are_due = self.sizes.is_none_or(|last| now.duration_since(last) >= SIZES_INTERVAL);
        if sizes_are_due {
            self.sizes = Some(now);
        }
        let sizes = async { if sizes_are_due { Some(timeout(TIMEOUT, handle.store_info()).await.ok()) } else { None } };
        let (activity, info) = join!(timeout(TIMEOUT, handle.activity()), sizes);
        let info = info.and_then(|info| self.answer("cannot read the sizes of the store", info));
        // The last one, because it tells whether the server answers.
        (self.answer("cannot read the server's activity", activity.ok()), info)
    }

    /// The value of an answer; `None` is an answer that did not come in time.
    fn answer<T>(&mut self, failed: &str, answer: Option<Result<T>>) -> Option<T> {
        self.has_answered = answer.as_ref().is_some_and(|answer| !answer.as_ref().is_err_and(is_unreachable));
        match answer {
            Some(Ok(value)) => return Some(value),
            Some(Err(error)) => self.problem(format!("{failed}: {error}")),
            None => self.problem(format!("{failed}: no answer in time")),
        }
        None
    }

    fn problem(&mut self, problem: String) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

/// Whether the error is that of a server that cannot be reached, and not its answer.
pub(super) fn is_unreachable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

/// The growth of counters since their last totals; 0 without one, and if the server has reset the counter.
fn increments(totals: &mut BTreeMap<String, u64>, counters: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let increment = |(name, total): (String, u64)| {
        let last = totals.insert(name.clone(), total).unwrap_or(total);
        (name, total.saturating_sub(last))
    };
    counters.into_iter().map(increment).collect()
}

/// Why the driver cannot generate the load: its CPU time during the test is at a limit. On a machine without a free
/// core the generator waits for one instead of computing. The memory engine computes in this process, so there only the
/// generator's limit is one of the driver.
pub(super) fn driver_limits(
    samples: &[ActivitySample],
    test: &PhaseRecord,
    cores: Option<u64>,
    store_is_in_process: bool,
) -> Vec<String> {
    let mut limits = Vec::new();
    let (computed, waited) = (cores_used(samples, test, GENERATOR_CPU), cores_used(samples, test, GENERATOR_WAIT));
    let busy = computed.map(|computed| computed + waited.unwrap_or(0.0));
    if let Some(busy) = busy.filter(|busy| *busy >= MAX_GENERATOR) {
        let percent = busy * 100.0;
        limits.push(format!(
            "the load generator computed or waited for a core {percent:.0} % of the time: it cannot generate a higher load"
        ));
    }
    let process = cores_used(samples, test, DRIVER_CPU).filter(|_| !store_is_in_process);
    if let (Some(used), Some(cores)) = (process, cores)
        && used >= cores as f64 * MAX_PROCESS
    {
        limits.push(format!("the load driver used {used:.1} of {cores} cores: it cannot generate a higher load"));
    }
    limits
}

/// The mean number of cores that a counter of CPU time used in the intervals within a phase; `None` without intervals.
fn cores_used(samples: &[ActivitySample], phase: &PhaseRecord, counter: &str) -> Option<f64> {
    let (mut nanos, mut micros) = (0, 0);
    for pair in samples.windows(2) {
        let is_in_phase = pair[0].at_nanos >= phase.start_nanos && pair[1].at_nanos <= phase.end_nanos;
        let increment = pair[1].counters.get(counter).filter(|_| pair[0].counters.contains_key(counter));
        if let Some(increment) = increment.filter(|_| is_in_phase) {
            nanos += pair[1].at_nanos - pair[0].at_nanos;
            micros += increment;
        }
    }
    (nanos > 0).then(|| micros as f64 * 1000.0 / nanos as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::Phase;

    const SECOND: u64 = 1_000_000_000;

    /// Samples of a warm-up of 2 s and a test of 4 s, each with its CPU time since the previous one in seconds.
    /// The generator waits a third of the time that it does not sleep.
    fn limits(process: [f64; 7], generator: [f64; 7], cores: u64, in_process: bool) -> Vec<String> {
        let sample = |(at, (process, busy)): (usize, (f64, f64))| ActivitySample {
            at_nanos: at as u64 * SECOND,
            counters: [(DRIVER_CPU, process), (GENERATOR_CPU, busy * 2.0 / 3.0), (GENERATOR_WAIT, busy / 3.0)]
                .map(|(name, seconds)| (name.to_owned(), (seconds * 1e6) as u64))
                .into(),
            gauges: BTreeMap::new(),
        };
        let samples: Vec<_> = process.into_iter().zip(generator).enumerate().map(sample).collect();
        let test = PhaseRecord { phase: Phase::Test, start_nanos: 2 * SECOND, end_nanos: 6 * SECOND };
        driver_limits(&samples, &test, Some(cores), in_process)
    }

    #[test]
    fn the_cpu_time_of_the_test_is_compared_with_the_limits() {
        // The warm-up is not part of the test.
        assert!(limits([0.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 0.8, 0.8, 0.8, 0.8], 2, false).is_empty());
        let busy_generator = [0.0, 0.0, 0.0, 0.8, 1.0, 0.95, 0.93];
        let reasons = limits([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], busy_generator, 2, true);
        assert_eq!(
            reasons,
            ["the load generator computed or waited for a core 92 % of the time: it cannot generate a higher load"]
        );
        let busy_process = [0.0, 0.0, 0.0, 1.9, 2.0, 2.0, 1.9];
        let reasons = limits(busy_process, [0.0; 7], 2, false);
        assert_eq!(reasons, ["the load driver used 1.9 of 2 cores: it cannot generate a higher load"]);
        assert!(limits(busy_process, [0.0; 7], 2, true).is_empty(), "the memory engine uses the cores");
        assert!(limits(busy_process, [0.0; 7], 3, false).is_empty());
    }

    #[test]
    fn counters_are_increments_over_gaps_and_resets() {
        let mut totals = BTreeMap::new();
        let mut increment = |total| increments(&mut totals, BTreeMap::from([("commits".to_owned(), total)]))["commits"];
        assert_eq!([increment(7), increment(7), increment(10), increment(4), increment(5)], [0, 0, 3, 0, 1]);
    }
}
