//! Whether runs fell behind earlier ones.
//!
//! Latencies depend on the machine and on what else it does, ratios within one set of runs far less. Of two
//! or more runs side by side, only the ratios to the first run are therefore compared, as by
//! [`compare`](crate::compare::regressions). A run that stands alone has no ratio, and is compared by its
//! latencies, on the same machine only.

use std::fmt;

use serde_json::Value;

use super::record::RunRecord;
use crate::measure::LatencyHistogram;

/// Something that got worse.
#[derive(Debug, Clone, PartialEq)]
pub enum Worse {
    /// The first backend fell behind another.
    Ratio {
        /// The kind and filter, and the percentile.
        measure: String,
        /// The backend being watched.
        watched: String,
        /// The backend that it is compared with.
        other: String,
        /// How many times as long the other took in the baseline.
        before: f64,
        /// How many times as long it takes now.
        now: f64,
    },
    /// A run that stands alone got slower.
    Latency {
        /// The kind and filter, and the percentile.
        measure: String,
        /// Nanoseconds in the baseline.
        before: u64,
        /// Nanoseconds now.
        now: u64,
    },
    /// An objective that held in the baseline holds no more.
    Objective {
        /// The backend.
        backend: String,
        /// The objective.
        objective: String,
        /// What was measured now.
        measured: Option<String>,
    },
    /// The highest rate at which every objective held is lower.
    Rate {
        /// The backend.
        backend: String,
        /// Submissions a second in the baseline.
        before: f64,
        /// Submissions a second now; 0 if no rate held.
        now: f64,
    },
}

impl fmt::Display for Worse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio { measure, watched, other, before, now } => write!(
                f,
                "{measure}: {watched} fell behind {other} by {:.2}: {other} took {before:.2} times as long, now {now:.2}",
                before / now
            ),
            Self::Latency { measure, before, now } => {
                let (before, now) = (*before as f64 / 1e6, *now as f64 / 1e6);
                write!(f, "{measure}: {now:.3} ms, {:.2} times the {before:.3} ms of the baseline", now / before)
            }
            Self::Objective { backend, objective, measured } => {
                let measured = measured.as_deref().unwrap_or("too few samples");
                write!(f, "{backend}: {objective} held in the baseline and does not now: {measured}")
            }
            Self::Rate { backend, before, now } => {
                write!(f, "{backend}: every objective held at {before:.1} submissions a second, now at {now:.1}")
            }
        }
    }
}

/// Why runs cannot be held against a baseline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incomparable {
    /// The backends of the two sides, which are not the same in the same order.
    Backends(Vec<String>, Vec<String>),
    /// The runs of this backend differ in the configuration of the load.
    Configuration(String),
    /// A run that stands alone is of another machine.
    Machine,
    /// The measurements of the run of this backend cannot be trusted, or are not complete.
    Unsound(String),
}

impl fmt::Display for Incomparable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backends(before, now) => {
                write!(f, "the baseline has the backends {}, and not {}", before.join(", "), now.join(", "))
            }
            Self::Configuration(backend) => {
                write!(f, "the baseline of {backend} is of another load: its configuration, options or seed differ")
            }
            Self::Machine => {
                f.write_str("the baseline is of another machine, and a run that stands alone has no ratios")
            }
            Self::Unsound(backend) => {
                write!(f, "a run of {backend} is invalid, partial or failed its census, so that it proves nothing")
            }
        }
    }
}

impl std::error::Error for Incomparable {}

/// What of `now` is worse than `before` by more than a factor.
///
/// The runs on each side are in the same order of backends; the first is the one being watched.
///
/// # Errors
///
/// If the two sides cannot be held against each other.
pub fn worse(before: &[RunRecord], now: &[RunRecord], tolerance: f64) -> Result<Vec<Worse>, Incomparable> {
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

fn check(before: &[RunRecord], now: &[RunRecord]) -> Result<(), Incomparable> {
    let backends = |runs: &[RunRecord]| runs.iter().map(|run| run.store.backend.clone()).collect::<Vec<_>>();
    if backends(before) != backends(now) {
        return Err(Incomparable::Backends(backends(before), backends(now)));
    }
    if let Some(run) = before.iter().chain(now).find(|run| !run.is_sound()) {
        return Err(Incomparable::Unsound(run.store.backend.clone()));
    }
    for (before, now) in before.iter().zip(now) {
        if before.seed != now.seed || before.options != now.options || load(before) != load(now) {
            return Err(Incomparable::Configuration(now.store.backend.clone()));
        }
    }
    match (before, now) {
        ([before], [now]) if before.machine != now.machine => Err(Incomparable::Machine),
        _ => Ok(()),
    }
}

/// The configuration without the address of the store.
fn load(run: &RunRecord) -> Value {
    let mut configuration = run.configuration.clone();
    if let Some(keys) = configuration.as_object_mut() {
        keys.remove("databaseConfig");
    }
    configuration
}

/// A kind of call and its latencies.
type NamedHistogram<'a> = (String, &'a LatencyHistogram);

fn operations(run: &RunRecord) -> Vec<NamedHistogram<'_>> {
    let batches = [("batch".to_owned(), &run.ingester.latency)];
    let reads = run.queries.iter().map(|query| (query.name(), &query.latency));
    batches.into_iter().chain(reads).collect()
}

/// The latencies of a kind of call in each run; none if one of the runs lacks it.
fn in_all<'a>(runs: impl IntoIterator<Item = &'a RunRecord>, name: &str) -> Option<Vec<&'a LatencyHistogram>> {
    runs.into_iter()
        .map(|run| operations(run).into_iter().find(|(other, _)| other == name).map(|(_, latency)| latency))
        .collect()
}

/// The percentiles that are compared.
const PERCENTILES: [(&str, f64); 2] = [("p50", 0.5), ("p99", 0.99)];

fn latencies(before: &RunRecord, now: &RunRecord, tolerance: f64, found: &mut Vec<Worse>) {
    for (operation, latency) in operations(now) {
        let Some(old) = in_all([before], &operation) else { continue };
        for (percentile, quantile) in PERCENTILES {
            let (Some(before), Some(now)) = (old[0].quantile(quantile), latency.quantile(quantile)) else { continue };
            if now as f64 > before as f64 * tolerance {
                found.push(Worse::Latency { measure: format!("{operation} {percentile}"), before, now });
            }
        }
    }
}

fn ratios(before: &[RunRecord], now: &[RunRecord], tolerance: f64, found: &mut Vec<Worse>) {
    let Some(watched) = now.first() else { return };
    for (operation, _) in operations(watched) {
        let (Some(old), Some(new)) = (in_all(before, &operation), in_all(now, &operation)) else { continue };
        for (at, other) in now.iter().enumerate().skip(1) {
            for (percentile, quantile) in PERCENTILES {
                let ratio = |latencies: &[&LatencyHistogram]| {
                    Some(latencies[at].quantile(quantile)? as f64 / latencies[0].quantile(quantile)? as f64)
                };
                let (Some(before), Some(now)) = (ratio(&old), ratio(&new)) else { continue };
                if now * tolerance < before {
                    found.push(Worse::Ratio {
                        measure: format!("{operation} {percentile}"),
                        watched: watched.store.backend.clone(),
                        other: other.store.backend.clone(),
                        before,
                        now,
                    });
                }
            }
        }
    }
}

fn objectives(before: &RunRecord, now: &RunRecord, tolerance: f64, found: &mut Vec<Worse>) {
    let backend = &now.store.backend;
    for objective in now.objectives.iter().filter(|objective| !objective.held) {
        if before.objectives.iter().any(|old| old.held && old.objective == objective.objective) {
            found.push(Worse::Objective {
                backend: backend.clone(),
                objective: objective.objective.clone(),
                measured: objective.measured.clone(),
            });
        }
    }
    let highest = |run: &RunRecord| Some(run.rate_search.as_ref()?.highest.unwrap_or_default());
    if let (Some(before), Some(now)) = (highest(before), highest(now))
        && now * tolerance < before
    {
        found.push(Worse::Rate { backend: backend.clone(), before, now });
    }
}
