//! Comparison of runs with a baseline.
//!
//! Latencies depend on the machine and its other load, ratios between runs far less. For two or more runs only
//! the ratios to the first run are compared, as by [`compare`](crate::compare::regressions). A single run has no
//! ratio; its latencies are compared, and the baseline must be from the same machine. A percentile is worse only if its
//! interval is, so that few calls do not fail by chance.

use std::fmt;

use serde_json::Value;

use super::record::{Latencies, RunRecord};
use super::verdict::is_resolved;
use crate::measure::{Ratio, RatioRegression};

/// A measurement that is worse than in the baseline.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Regression {
    /// A percentile of the first backend is worse relative to that of another backend.
    Ratio(RatioRegression),
    /// A percentile of a single run is worse.
    Latency {
        /// The kind of call, the filter and the percentile.
        measure: String,
        /// The latency in the baseline, in nanoseconds.
        before: u64,
        /// The latency now, in nanoseconds.
        now: u64,
    },
    /// An objective is missed that the baseline met.
    Objective {
        /// The backend.
        backend: String,
        /// The objective.
        objective: String,
        /// The measured value; `None` if there were too few samples.
        measured: Option<String>,
    },
    /// The run is not sustained, and the baseline was.
    NotSustained {
        /// The backend.
        backend: String,
        /// The first of [`RunRecord::unsustained`].
        reason: String,
    },
    /// The highest rate that meets all objectives is lower.
    Rate {
        /// The backend.
        backend: String,
        /// Submissions per second in the baseline.
        before: f64,
        /// Submissions per second now; 0 if no rate met all objectives.
        now: f64,
    },
}

impl fmt::Display for Regression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio(regression) => regression.fmt(f),
            Self::Latency { measure, before, now } => {
                let (before, now) = (*before as f64 / 1e6, *now as f64 / 1e6);
                write!(f, "{measure}: {now:.3} ms, {:.2} times the {before:.3} ms of the baseline", now / before)
            }
            Self::Objective { backend, objective, measured } => {
                let measured = measured.as_deref().unwrap_or("too few samples");
                write!(f, "{backend}: {objective} was met in the baseline and is missed now: {measured}")
            }
            Self::NotSustained { backend, reason } => {
                write!(f, "{backend}: the baseline was sustained, and now it is not: {reason}")
            }
            Self::Rate { backend, before, now } => {
                write!(f, "{backend}: the highest rate was {before:.1} submissions per second and is now {now:.1}")
            }
        }
    }
}

/// The reason for which runs cannot be compared with a baseline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// The backends of the baseline and of the runs differ, or their order does.
    #[error("the baseline has the backends {}, the runs have {}", .0.join(", "), .1.join(", "))]
    Backends(Vec<String>, Vec<String>),
    /// The configuration, options or seed of the runs of this backend differ.
    #[error("the baseline of {0} has another load: its configuration, options or seed differ")]
    Configuration(String),
    /// A single run is from another machine than the baseline.
    #[error("the baseline is from another machine, and a single run has no ratios to compare")]
    Machine,
    /// A run of this backend is invalid or partial, or its census found differences.
    #[error("a run of {0} is invalid or partial, or its census found differences")]
    Unreliable(String),
}

/// Returns the measurements of `now` that are worse than those of the baseline `before` by more than a factor.
///
/// Both slices have the same backends in the same order. `tolerance` is a factor of at least 1. Compared are the
/// p50 and p99 of each kind of call, the objectives, whether the load was sustained, and the highest rate. A percentile
/// is worse if its 95 % intervals are, which requires about 20 calls for p50 and 600 for p99.
///
/// # Errors
///
/// [`BaselineError`] if the runs cannot be compared.
pub fn regressions(before: &[RunRecord], now: &[RunRecord], tolerance: f64) -> Result<Vec<Regression>, BaselineError> {
    check(before, now)?;
    let mut found = Vec::new();
    if let ([before], [now]) = (before, now) {
        latencies(before, now, tolerance, &mut found);
    } else {
        ratios(before, now, tolerance, &mut found);
    }
    for (before, now) in before.iter().zip(now) {
        objectives(before, now, tolerance, &mut found);
    }
    Ok(found)
}

fn check(before: &[RunRecord], now: &[RunRecord]) -> Result<(), BaselineError> {
    let backends = |runs: &[RunRecord]| runs.iter().map(|run| run.store.backend.clone()).collect::<Vec<_>>();
    if backends(before) != backends(now) {
        return Err(BaselineError::Backends(backends(before), backends(now)));
    }
    if let Some(run) = before.iter().chain(now).find(|run| !run.is_sound()) {
        return Err(BaselineError::Unreliable(run.store.backend.clone()));
    }
    for (before, now) in before.iter().zip(now) {
        if before.seed != now.seed
            || before.options != now.options
            || load_configuration(before) != load_configuration(now)
        {
            return Err(BaselineError::Configuration(now.store.backend.clone()));
        }
    }
    match (before, now) {
        ([before], [now]) if before.machine != now.machine => Err(BaselineError::Machine),
        _ => Ok(()),
    }
}

/// The configuration without `databaseConfig`.
fn load_configuration(run: &RunRecord) -> Value {
    let mut configuration = run.configuration.clone();
    if let Some(keys) = configuration.as_object_mut() {
        keys.remove("databaseConfig");
    }
    configuration
}

/// A percentile and its 95 % interval, in nanoseconds.
#[derive(Clone, Copy)]
struct Percentile {
    low: u64,
    value: u64,
    high: u64,
}

/// The latency at a quantile; `None` if there are too few calls, or the driver's lag distorts it.
fn percentile(calls: Latencies<'_>, quantile: f64) -> Option<Percentile> {
    let resolved = is_resolved(calls.latency, calls.driver_lag, quantile);
    let (low, high) = resolved.then(|| calls.latency.interval(quantile)).flatten()?;
    Some(Percentile { low, value: calls.latency.quantile(quantile)?, high: high? })
}

/// The latencies of a kind of call in each run; `None` if a run has no such calls.
fn in_all<'a>(runs: impl IntoIterator<Item = &'a RunRecord>, name: &str) -> Option<Vec<Latencies<'a>>> {
    runs.into_iter()
        .map(|run| run.latencies().into_iter().find(|(other, _)| other == name).map(|(_, latency)| latency))
        .collect()
}

/// The percentiles to compare.
const PERCENTILES: [(&str, f64); 2] = [("p50", 0.5), ("p99", 0.99)];

fn latencies(before: &RunRecord, now: &RunRecord, tolerance: f64, found: &mut Vec<Regression>) {
    for (operation, latency) in now.latencies() {
        let Some(old) = in_all([before], &operation) else { continue };
        for (name, quantile) in PERCENTILES {
            let (Some(before), Some(now)) = (percentile(old[0], quantile), percentile(latency, quantile)) else {
                continue;
            };
            if now.low as f64 > before.high as f64 * tolerance {
                let (before, now) = (before.value, now.value);
                found.push(Regression::Latency { measure: format!("{operation} {name}"), before, now });
            }
        }
    }
}

fn ratios(before: &[RunRecord], now: &[RunRecord], tolerance: f64, found: &mut Vec<Regression>) {
    let Some(watched) = now.first() else { return };
    for (operation, _) in watched.latencies() {
        let (Some(old), Some(new)) = (in_all(before, &operation), in_all(now, &operation)) else { continue };
        for (at, other) in now.iter().enumerate().skip(1) {
            for (name, quantile) in PERCENTILES {
                let ratio = |latencies: &[Latencies<'_>]| {
                    let (other, first) = (percentile(latencies[at], quantile)?, percentile(latencies[0], quantile)?);
                    let ratio = |other: u64, first: u64| other as f64 / first as f64;
                    let interval = [ratio(other.low, first.high), ratio(other.high, first.low)];
                    Some(Ratio { value: ratio(other.value, first.value), interval: Some(interval) })
                };
                let (Some(before), Some(now)) = (ratio(&old), ratio(&new)) else { continue };
                let (measure, backends) = (format!("{operation} {name}"), [&watched.store, &other.store]);
                let backends = backends.map(|store| store.backend.as_str());
                let regression = RatioRegression::find(&measure, backends, before, now, tolerance);
                found.extend(regression.map(Regression::Ratio));
            }
        }
    }
}

fn objectives(before: &RunRecord, now: &RunRecord, tolerance: f64, found: &mut Vec<Regression>) {
    let backend = &now.store.backend;
    for objective in now.objectives.iter().filter(|objective| !objective.held) {
        if before.objectives.iter().any(|old| old.held && old.objective == objective.objective) {
            found.push(Regression::Objective {
                backend: backend.clone(),
                objective: objective.objective.clone(),
                measured: objective.measured.clone(),
            });
        }
    }
    if let Some(reason) = now.unsustained.first().filter(|_| before.unsustained.is_empty()) {
        found.push(Regression::NotSustained { backend: backend.clone(), reason: reason.clone() });
    }
    let highest = |run: &RunRecord| Some(run.rate_search.as_ref()?.highest.unwrap_or_default());
    if let (Some(before), Some(now)) = (highest(before), highest(now))
        && now * tolerance < before
    {
        found.push(Regression::Rate { backend: backend.clone(), before, now });
    }
}

#[cfg(test)]
mod tests;
