//! The verdict of a run: whether its measurements are valid, and whether the store sustained the load.

use std::time::Duration;

use super::config::LoadConfig;
use super::record::{IngesterRecord, Phase, QueryRecord, QueryType, RunRecord};
use super::upstream::GoDuration;
use crate::measure::LatencyHistogram;

/// The maximum share of the driver's lag in a latency. Above it, the latency is not a measurement of the store.
const MAX_LAG_SHARE: f64 = 0.2;
/// The p99 of the lag up to which the load is the planned one: a shift of the load by this time does not change it.
const VALID_LAG: Duration = Duration::from_millis(250);
/// The maximum delay of a load at the end of the test, beyond the batch timeout and the calls in flight: the larger of a
/// time and a share of the test.
const MAX_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY_SHARE: f64 = 0.05;
/// The maximum growth of the backlog, as a share of the rate.
const MAX_SLOPE: f64 = 0.02;
/// The number of seconds from which on a slope is estimated.
const MIN_SLOPE_SECONDS: usize = 5;
/// The ratio of the slope to its standard error from which on the backlog grows: 99.9 % of slopes that are zero are
/// below.
const SIGNIFICANT: f64 = 3.1;
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
        let mut kinds: Vec<_> = self.queries.iter().map(|query| query.query_type).collect();
        kinds.dedup();
        let of_kind = |kind| {
            let sum = |count: fn(&QueryRecord) -> u64| {
                self.queries.iter().filter(|query| query.query_type == kind).map(count).sum()
            };
            rates(Some(kind), sum(QueryRecord::due), sum(|query| query.in_time))
        };
        [ingestion].into_iter().chain(kinds.into_iter().map(of_kind)).collect()
    }

    /// The duration of the test phase, which is shorter than the configured one if the run ended early.
    fn test_duration(&self) -> Duration {
        self.phase(Phase::Test).map_or(Duration::ZERO, |test| Duration::from_nanos(test.end_nanos - test.start_nanos))
    }

    /// Fills in the reasons for which the run is invalid or was not sustained.
    pub(super) fn judge(&mut self, config: &LoadConfig) {
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
        reasons.extend(self.behind(config));
        reasons.extend(self.growth(config));
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

    /// The kinds of calls that were behind their schedule at the end of the test.
    fn behind(&self, config: &LoadConfig) -> Vec<String> {
        let test = self.test_duration();
        let tolerated = MAX_DELAY.max(test.mul_f64(MAX_DELAY_SHARE));
        let reason = |rates: Rates| {
            let in_flight = match rates.query_type {
                None => config.ingestion.linger() + twice_median(&self.ingester.call_time),
                Some(kind) => twice_median(&self.of_kind(kind)),
            };
            let delay = (rates.due - rates.achieved) / rates.due * test.as_secs_f64();
            (delay > (tolerated + in_flight).as_secs_f64()).then(|| {
                let name = rates.query_type.map_or_else(|| "ingestion".to_owned(), |kind| kind.to_string());
                let (due, achieved) = (rates.due, rates.achieved);
                format!("{name}: {achieved:.1} of {due:.1} per second were done by the end of the test")
            })
        };
        self.rates().into_iter().filter_map(reason).collect()
    }

    /// The service times of a kind of read.
    fn of_kind(&self, kind: QueryType) -> LatencyHistogram {
        let mut merged = LatencyHistogram::default();
        for query in self.queries.iter().filter(|query| query.query_type == kind) {
            merged.merge(&query.service_time);
        }
        merged
    }

    /// The growth of the backlog of ingestion over the second half of the test.
    fn growth(&self, config: &LoadConfig) -> Option<String> {
        let test = self.phase(Phase::Test)?;
        let middle = test.start_nanos.midpoint(test.end_nanos);
        let half = middle.div_ceil(1_000_000_000)..test.end_nanos / 1_000_000_000;
        let ingestion = self.series.iter().find(|series| series.query_type.is_none())?;
        // In seconds of arrivals.
        let delays: Vec<_> = ingestion
            .intervals
            .iter()
            .filter(|interval| half.contains(&interval.second))
            .map(|interval| interval.backlog as f64 / interval.target.max(1.0))
            .collect();
        let slope = slope(&delays).filter(|slope| slope.value > MAX_SLOPE && slope.is_significant())?;
        // A backlog that a batch in flight explains is none.
        let explained = config.ingestion.linger() + twice_median(&self.ingester.call_time);
        (*delays.last()? > explained.as_secs_f64())
            .then(|| format!("the backlog of ingestion grew by {:.0} ms a second until the end", slope.value * 1000.0))
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
        let mut kinds: Vec<_> = self.queries.iter().map(|query| query.query_type).collect();
        kinds.dedup();
        let reads = kinds.into_iter().map(|kind| {
            let of_kind = || self.queries.iter().filter(|query| query.query_type == kind);
            let failed = of_kind().map(|query| query.failed + query.unfinished).sum();
            reason(Some(kind), failed, of_kind().map(QueryRecord::due).sum())
        });
        [reason(None, batches_failed, batches_executed + batches_failed)].into_iter().chain(reads).flatten().collect()
    }
}

fn twice_median(times: &LatencyHistogram) -> Duration {
    Duration::from_nanos(times.quantile(0.5).unwrap_or_default()) * 2
}

/// The slope of a straight line through values at equal distances.
struct Slope {
    value: f64,
    standard_error: f64,
}

impl Slope {
    fn is_significant(&self) -> bool {
        self.value > self.standard_error * SIGNIFICANT
    }
}

/// The slope by least squares; `None` with too few values.
fn slope(values: &[f64]) -> Option<Slope> {
    if values.len() < MIN_SLOPE_SECONDS {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let centre = (count - 1.0) / 2.0;
    let points = || values.iter().enumerate().map(|(at, value)| (at as f64 - centre, value - mean));
    let squares: f64 = points().map(|(at, _)| at * at).sum();
    let value = points().map(|(at, value)| at * value).sum::<f64>() / squares;
    let residual: f64 = points().map(|(at, y)| (y - value * at).powi(2)).sum();
    Some(Slope { value, standard_error: (residual / (count - 2.0) / squares).sqrt() })
}

#[cfg(test)]
mod tests;
