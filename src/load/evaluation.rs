//! The evaluation of objectives for a run, and the check that a configuration makes enough calls for them.

use super::config::LoadConfig;
use super::duration::GoDuration;
use super::objective::{Bound, Objective, Statistic};
use super::reads::expected_reads;
use super::record::{ObjectiveRecord, QueryType, RunRecord};
use super::replay::RecordedRead;
use super::verdict::is_resolved;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::measure::{LatencyHistogram, required_samples};

/// The maximum number of events of a job: submitted, leased, pending, running and succeeded or failed.
const MAX_EVENTS_PER_JOB: f64 = 5.0;

/// The measurements of the calls of an objective.
#[derive(Default)]
struct Calls {
    /// The latencies of all calls, or of the events of ingestion.
    latency: LatencyHistogram,
    driver_lag: LatencyHistogram,
    /// The number of calls that failed or had not completed.
    failed: u64,
    /// The number of calls.
    count: u64,
}

impl Objective {
    /// Evaluates the objective for a run. It is missed if there are too few samples for the statistic.
    pub fn evaluate(&self, run: &RunRecord) -> ObjectiveRecord {
        let calls = self.calls(run);
        let objective = self.text.clone();
        match self.bound {
            Bound::Latency(statistic, limit) => {
                let nanos = statistic.of(&calls.latency);
                let held = nanos.is_some_and(|nanos| u128::from(nanos) < limit.as_nanos());
                // The lag matters only if the objective would be met without it.
                let lag = statistic.of(&calls.driver_lag).unwrap_or_default();
                let is_met_without_lag =
                    nanos.is_some_and(|nanos| u128::from(nanos.saturating_sub(lag)) < limit.as_nanos());
                let is_resolved = match statistic {
                    Statistic::Quantile(quantile) => is_resolved(&calls.latency, &calls.driver_lag, quantile),
                    Statistic::Max => is_resolved(&calls.latency, &calls.driver_lag, 1.0),
                    // The median stands for the mean, which a few long calls determine.
                    Statistic::Mean => is_resolved(&calls.latency, &calls.driver_lag, 0.5),
                };
                ObjectiveRecord {
                    objective,
                    measured: nanos.map(|nanos| GoDuration::from_nanos(nanos).to_string()),
                    interval: statistic.interval(&calls.latency),
                    held,
                    is_unresolved: !held && !is_resolved && is_met_without_lag,
                }
            }
            Bound::Errors(limit) => {
                let fraction = (calls.count > 0).then(|| calls.failed as f64 / calls.count as f64);
                // Without errors, "< 0%" is met.
                let held = fraction.is_some_and(|fraction| fraction < limit || fraction == 0.0);
                let measured = fraction.map(|fraction| format!("{:.3}%", fraction * 100.0));
                ObjectiveRecord { objective, measured, interval: None, held, is_unresolved: false }
            }
        }
    }

    /// Returns true if a run in progress cannot meet the objective any more, whatever its further calls. `most` is the
    /// [maximum number of calls](Self::max_calls).
    pub(super) fn is_lost(&self, run: &RunRecord, most: f64) -> bool {
        let calls = self.calls(run);
        let total = most.max(calls.latency.count() as f64);
        match self.bound {
            Bound::Latency(Statistic::Quantile(quantile), limit) => {
                // The tolerance covers the rounding error of 1 - 0.99.
                calls.latency.count_at_least(limit) as f64 > (total * (1.0 - quantile) + 1e-6).floor()
            }
            Bound::Latency(Statistic::Mean, limit) => {
                let sum = calls.latency.mean_nanos().unwrap_or_default() * calls.latency.count() as f64;
                sum > limit.as_nanos() as f64 * total
            }
            Bound::Latency(Statistic::Max, limit) => calls.latency.count_at_least(limit) > 0,
            Bound::Errors(limit) => {
                // Each attempt that failed is one in addition to the batch that succeeds.
                let attempts = if self.kind.is_none() { total + calls.failed as f64 } else { total };
                calls.failed as f64 > limit * attempts
            }
        }
    }

    /// The maximum number of calls that a run can make: reads, of which `recorded` are replayed, or the events of
    /// ingestion, of which there are more than batches.
    pub(super) fn max_calls(&self, config: &LoadConfig, recorded: &[RecordedRead]) -> f64 {
        let expected = match self.kind {
            None => {
                let actions = &config.actions;
                let updates = actions.job_set_reprioritisations.len() + actions.job_set_cancellations.len();
                return at_most(config.live_jobs()) * (MAX_EVENTS_PER_JOB + updates as f64);
            }
            Some(query_type) => expected_reads(config, query_type, self.filter.as_deref()),
        };
        at_most(expected) + recorded.iter().filter(|read| self.kind == Some(read.query_type)).count() as f64
    }

    /// Returns true if the objective limits the errors of all calls of a kind of read, or of ingestion (`None`).
    pub(super) fn limits_errors_of(&self, query_type: Option<QueryType>) -> bool {
        self.kind == query_type && self.filter.is_none() && matches!(self.bound, Bound::Errors(_))
    }

    /// Checks that the test makes enough calls for the statistic: reads, or submissions, each of which is an event.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` with the required and the expected number of calls.
    pub(super) fn check_samples(&self, config: &LoadConfig) -> Result<()> {
        match self.kind {
            None => self.check_calls("submissions", config.submissions_in_test()),
            Some(query_type) => self.check_calls("reads", expected_reads(config, query_type, self.filter.as_deref())),
        }
    }

    fn check_calls(&self, calls: &str, expected: f64) -> Result<()> {
        let required = match self.bound {
            Bound::Latency(Statistic::Quantile(quantile), _) => required_samples(quantile),
            Bound::Latency(..) | Bound::Errors(_) => 1,
        };
        if expected >= required as f64 {
            return Ok(());
        }
        let message = format!(
            "the objective {self} requires at least {required} {calls} in the test, but the configuration makes \
             {expected:.1}"
        );
        Err(Error::new(ErrorKind::InvalidArgument, Operation::LoadTest, message))
    }

    fn calls(&self, run: &RunRecord) -> Calls {
        match self.kind {
            None => Calls {
                latency: run.ingester.latency.clone(),
                driver_lag: run.ingester.driver_lag.clone(),
                failed: run.ingester.batches_failed,
                count: run.ingester.batches_executed + run.ingester.batches_failed,
            },
            Some(kind) => {
                let mut calls = Calls::default();
                let fits = |combo: &str| self.filter.as_deref().is_none_or(|filter| filter == combo);
                for query in run.queries.iter().filter(|query| query.query_type == kind && fits(&query.filter_combo)) {
                    calls.latency.merge(&query.latency);
                    calls.driver_lag.merge(&query.driver_lag);
                    calls.failed += query.failed + query.unfinished;
                    calls.count += query.due();
                }
                calls
            }
        }
    }
}

/// The number that a Poisson process with this mean exceeds once in a billion runs. A uniform stream exceeds its mean by
/// at most one.
fn at_most(mean: f64) -> f64 {
    (mean + 6.0 * mean.sqrt() + 6.0).ceil()
}

impl Statistic {
    fn of(self, latency: &LatencyHistogram) -> Option<u64> {
        match self {
            Self::Quantile(quantile) => latency.quantile(quantile),
            Self::Mean => latency.mean_nanos().map(|mean| mean as u64),
            Self::Max => latency.max_nanos(),
        }
    }

    /// The confidence interval of a quantile as text.
    fn interval(self, latency: &LatencyHistogram) -> Option<String> {
        let Self::Quantile(quantile) = self else { return None };
        let (low, high) = latency.interval(quantile)?;
        let high = high.map_or_else(|| "∞".to_owned(), |high| GoDuration::from_nanos(high).to_string());
        Some(format!("{} to {high}", GoDuration::from_nanos(low)))
    }
}

#[cfg(test)]
mod tests;
