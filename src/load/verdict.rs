//! The verdict of a run: whether its measurements are valid, and whether the store sustained the load.

use std::time::Duration;

use super::config::LoadConfig;
use super::duration::GoDuration;
use super::record::{DelayRecord, IngesterRecord, Phase, QueryRecord, QueryType, RunRecord};
use crate::measure::LatencyHistogram;

/// The maximum share of the driver's lag in a latency. Above it, the latency is not a measurement of the store.
const MAX_LAG_SHARE: f64 = 0.2;
/// The p99 of the lag up to which the load is the planned one: a shift of the load by this time does not change it.
const VALID_LAG: Duration = Duration::from_millis(250);
/// The delay and its growth up to which a store keeps up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance {
    /// The maximum delay at the end of the test, beyond that of the calls in flight: the larger of a time and a share of
    /// the test.
    delay: Duration,
    delay_share: f64,
    /// The growth of the delay per second that is tolerated: the share by which the load may exceed the capacity.
    slope: f64,
    /// The growth of the delay over the test that is tolerated.
    growth: Duration,
}

impl Tolerance {
    /// For a single run.
    const RUN: Self =
        Self { delay: Duration::from_secs(1), delay_share: 0.05, slope: 0.02, growth: Duration::from_millis(200) };
    /// For a trial of a search, whose rate is compared with others.
    pub(super) const TRIAL: Self =
        Self { delay: Duration::from_millis(100), delay_share: 0.02, slope: 0.01, growth: Duration::from_millis(10) };
}

/// The maximum number of ingestion queries of an event.
const QUERIES_PER_EVENT: u64 = 3;
/// The maximum share of operations that fail without an objective that permits it.
const MAX_FAILED_SHARE: f64 = 0.001;

/// The verdict of a run, by the most serious reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Verdict {
    /// The store sustained the load and met all objectives.
    Passed,
    /// The store did not sustain the load: see [`RunRecord::unsustained`].
    NotSustained,
    /// An objective is missed.
    Missed,
    /// The measurements are invalid: see [`RunRecord::invalid`].
    Invalid,
    /// The census found differences.
    Differed,
}

/// Returns true if the driver's lag has too small a share in a quantile of a latency to distort it. The quantile 1 is the
/// maximum.
///
/// ```
/// use std::time::Duration;
/// use broadside::load::is_resolved;
/// use broadside::measure::LatencyHistogram;
///
/// let of = |micros| LatencyHistogram::from_iter([Duration::from_micros(micros)]);
/// assert!(is_resolved(&of(1000), &of(100), 0.5));
/// assert!(!is_resolved(&of(100), &of(90), 0.5));
/// ```
pub fn is_resolved(latency: &LatencyHistogram, lag: &LatencyHistogram, quantile: f64) -> bool {
    let value = |histogram: &LatencyHistogram| {
        let nanos = if quantile < 1.0 { histogram.quantile(quantile) } else { histogram.max_nanos() };
        nanos.map(|nanos| nanos as f64)
    };
    match (value(latency), value(lag)) {
        (Some(latency), Some(lag)) => lag <= latency * MAX_LAG_SHARE,
        _ => true,
    }
}

/// The rates of a kind of call in the test phase.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Rates {
    /// The kind of read; `None` for ingestion, whose unit is the ingestion query.
    pub query_type: Option<QueryType>,
    /// The number of arrivals per second that were due.
    pub due: f64,
    /// The number of arrivals per second that succeeded before the end of the test.
    pub achieved: f64,
}

impl RunRecord {
    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        let reasons = [
            (Verdict::Differed, self.census.as_ref().is_some_and(|census| !census.differences.is_empty())),
            (Verdict::Invalid, !self.invalid.is_empty()),
            (Verdict::Missed, self.objectives.iter().any(|objective| !objective.held)),
            (Verdict::NotSustained, !self.unsustained.is_empty() || self.aborted.is_some()),
        ];
        reasons.into_iter().find_map(|(verdict, holds)| holds.then_some(verdict)).unwrap_or(Verdict::Passed)
    }

    /// The rates of ingestion and of each kind of read; empty if the run has no test phase.
    pub fn rates(&self) -> Vec<Rates> {
        let seconds = self.test_duration().as_secs_f64();
        if seconds <= 0.0 {
            return Vec::new();
        }
        let rates = |query_type, due: u64, in_time: u64| Rates {
            query_type,
            due: due as f64 / seconds,
            achieved: in_time as f64 / seconds,
        };
        let ingestion = rates(None, self.ingester.queries_due, self.ingester.queries_in_time);
        let of_kind = |kind| {
            let sum = |count: fn(&QueryRecord) -> u64| {
                self.queries.iter().filter(|query| query.query_type == kind).map(count).sum()
            };
            rates(Some(kind), sum(QueryRecord::due), sum(|query| query.in_time))
        };
        [ingestion].into_iter().chain(self.query_types().into_iter().map(of_kind)).collect()
    }

    /// Evaluates the objectives, and fills in the reasons for which the run is invalid or was not sustained.
    pub(super) fn evaluate(&mut self, config: &LoadConfig) {
        self.objectives = config.slo.iter().map(|objective| objective.evaluate(self)).collect();
        self.judge(config);
    }

    /// Fills in the reasons for which a share is invalid by itself. Its load alone says nothing about the store.
    pub(super) fn judge_share(&mut self) {
        self.invalid.extend(self.lags());
    }

    /// The duration of the test phase, which is shorter than the configured one if the run ended early.
    fn test_duration(&self) -> Duration {
        self.phase(Phase::Test).map_or(Duration::ZERO, |test| Duration::from_nanos(test.end_nanos - test.start_nanos))
    }

    /// Fills in the reasons for which the run is invalid or was not sustained.
    fn judge(&mut self, config: &LoadConfig) {
        self.invalid.extend(self.lags());
        let unresolved = self.objectives.iter().filter(|objective| objective.is_unresolved);
        self.invalid.extend(
            unresolved
                .map(|objective| format!("the objective {} is below the driver's resolution", objective.objective)),
        );
        let mut reasons = Vec::new();
        let shed = self.ingester.jobs_dropped + self.ingester.jobs_rejected;
        if shed > 0 {
            reasons.push(format!("{shed} jobs were shed, because the backlog was full"));
        }
        reasons.extend(self.overload(config, Tolerance::RUN));
        reasons.extend(self.failed(config));
        self.unsustained.extend(reasons);
    }

    /// The kinds of calls whose schedule the driver did not keep.
    fn lags(&self) -> Vec<String> {
        let reason = |name: &str, latency: &LatencyHistogram, lag: &LatencyHistogram| {
            let p99 = lag.quantile(0.99).map(Duration::from_nanos).filter(|&p99| p99 > VALID_LAG)?;
            (!is_resolved(latency, lag, 0.99)).then(|| {
                format!(
                    "{name}: the p99 of the driver's lag is {}, more than {:.0} % of the p99 of the latency",
                    GoDuration(p99),
                    MAX_LAG_SHARE * 100.0
                )
            })
        };
        let ingestion = reason("ingestion", &self.ingester.latency, &self.ingester.driver_lag);
        let reads = self.queries.iter().map(|query| reason(&query.name(), &query.latency, &query.driver_lag));
        [ingestion].into_iter().chain(reads).flatten().collect()
    }

    /// The kinds of calls with which the store did not keep up.
    pub(super) fn overload(&self, config: &LoadConfig, tolerance: Tolerance) -> Vec<String> {
        let mut reasons = self.behind(config, tolerance);
        reasons.extend(self.growth(tolerance));
        reasons
    }

    /// The kinds of calls that were behind their schedule at the end of the test.
    fn behind(&self, config: &LoadConfig, tolerance: Tolerance) -> Vec<String> {
        let seconds = self.test_duration().as_secs_f64();
        let tolerated = tolerance.delay.as_secs_f64().max(seconds * tolerance.delay_share);
        let reason = |rates: Rates| {
            // One arrival may be due at the end of the test.
            let (calls, one) = match rates.query_type {
                None => (config.ingestion.linger() + twice_median(&self.ingester.call_time), QUERIES_PER_EVENT as f64),
                Some(kind) => (twice_median(&self.merged(kind, |query| &query.service_time)), 1.0),
            };
            // The calls of a store that falls behind take longer than those at the start of the test.
            let delays = self.delays.iter().find(|delays| delays.query_type == rates.query_type);
            let in_flight = delays
                .and_then(DelayRecord::at_start)
                .map_or(calls.as_secs_f64(), |at_start| calls.as_secs_f64().min(at_start * 2.0));
            let delay = (rates.due - rates.achieved - one / seconds) / rates.due * seconds;
            (delay > tolerated + in_flight).then(|| {
                let (due, achieved) = (rates.due, rates.achieved);
                format!(
                    "{}: {achieved:.1} of {due:.1} per second were done by the end of the test",
                    name(rates.query_type)
                )
            })
        };
        self.rates().into_iter().filter_map(reason).collect()
    }

    /// The kinds of calls whose delay grew until the end of the test.
    fn growth(&self, tolerance: Tolerance) -> impl Iterator<Item = String> {
        let seconds = self.test_duration().as_secs_f64();
        self.delays.iter().filter_map(move |delays| {
            let tolerated = tolerance.slope.max(tolerance.growth.as_secs_f64() / seconds);
            let growth = delays.growth(seconds).filter(|&growth| growth > tolerated)?;
            let name = name(delays.query_type);
            Some(format!("{name}: the delay grew by {:.0} ms a second until the end", growth * 1000.0))
        })
    }

    /// The kinds of calls of which too many failed, without an objective on their errors.
    fn failed(&self, config: &LoadConfig) -> Vec<String> {
        let permitted = |kind| config.slo.iter().any(|objective| objective.limits_errors_of(kind));
        let reason = |kind: Option<QueryType>, failed: u64, all: u64| {
            let share = failed as f64 / all.max(1) as f64;
            let name = kind.map_or_else(|| "batches".to_owned(), |kind| kind.to_string());
            (share > MAX_FAILED_SHARE && !permitted(kind))
                .then(|| format!("{name}: {failed} of {all} failed, more than {} %", MAX_FAILED_SHARE * 100.0))
        };
        let IngesterRecord { batches_executed, batches_failed, .. } = self.ingester;
        let reads = self.query_types().into_iter().map(|kind| {
            let of_kind = || self.queries.iter().filter(|query| query.query_type == kind);
            // A run that ends early cuts off calls of a store that responds.
            let cut_off = self.aborted.is_some();
            let failed = of_kind().map(|query| query.failed + if cut_off { 0 } else { query.unfinished }).sum();
            reason(Some(kind), failed, of_kind().map(QueryRecord::due).sum())
        });
        [reason(None, batches_failed, batches_executed + batches_failed)].into_iter().chain(reads).flatten().collect()
    }
}

fn twice_median(times: &LatencyHistogram) -> Duration {
    Duration::from_nanos(times.quantile(0.5).unwrap_or_default()) * 2
}

fn name(query_type: Option<QueryType>) -> String {
    query_type.map_or_else(|| "ingestion".to_owned(), |kind| kind.to_string())
}

#[cfg(test)]
mod tests;
