//! Whether a comparison fell behind an earlier one.
//!
//! Absolute times depend on the machine and on what else it does. The ratio of two backends
//! within a run depends on that far less, so only ratios are compared: how many times as long
//! as the first backend, which is the one being watched, each of the others takes.

use std::fmt;

use serde::Deserialize;

use super::results::{OperationResult, Results};
use crate::json;
use crate::workload::WorkloadOptions;

/// A ratio that got worse: the first backend fell behind another.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Regression {
    /// The operation.
    pub operation: String,
    /// The backend being watched.
    pub watched: String,
    /// The backend that it is compared with.
    pub other: String,
    /// The ratio in the earlier comparison.
    pub before: f64,
    /// The ratio now.
    pub now: f64,
}

impl fmt::Display for Regression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, watched, other, before, now } = self;
        let factor = before / now;
        write!(
            f,
            "{operation}: {watched} fell behind {other} by {factor:.2}: {other} took {before:.2} times as long, now {now:.2}"
        )
    }
}

/// Why two comparisons cannot be held against each other.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incomparable {
    /// The earlier one is not the JSON of a comparison.
    Unreadable(String),
    /// The earlier one was written in another format.
    Format(u64),
    /// They watch different backends: the earlier one's first, and the later one's.
    Watched(String, String),
    /// They loaded different jobs.
    Workload,
    /// They have no two backends in common.
    Backends,
}

impl fmt::Display for Incomparable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(problem) => write!(f, "the baseline is no results.json of a comparison: {problem}"),
            Self::Format(format) => {
                write!(f, "the baseline is of format {format}, and this build reads format {}", Results::FORMAT)
            }
            Self::Watched(before, now) => write!(f, "the first backend of the baseline is {before}, and not {now}"),
            Self::Workload => f.write_str("the baseline is of other jobs: their number, seed or layout differs"),
            Self::Backends => {
                f.write_str("the baseline has no second backend in common with this comparison, so there are no ratios")
            }
        }
    }
}

impl std::error::Error for Incomparable {}

/// Reads the `results.json` of an earlier comparison.
///
/// # Errors
///
/// `Format` if another format was written, `Unreadable` if it is anything else, or has a key twice.
pub fn read_baseline(file: &[u8]) -> Result<Results, Incomparable> {
    if let Some(problem) = json::wrong_encoding(file) {
        return Err(Incomparable::Unreadable(problem.to_owned()));
    }
    let unreadable = |error: serde_json::Error| Incomparable::Unreadable(error.to_string());
    let value = json::parse(file).map_err(unreadable)?;
    // A file of another format has other keys, so its number is looked at first.
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(format) if format != u64::from(Results::FORMAT) => Err(Incomparable::Format(format)),
        _ => Results::deserialize(value).map_err(unreadable),
    }
}

/// Checks that a comparison of this workload on these backends, in their order, can be held against an earlier one.
///
/// # Errors
///
/// If it cannot.
pub fn check_baseline<'a>(
    before: &Results,
    workload: &WorkloadOptions,
    backends: impl IntoIterator<Item = &'a str>,
) -> Result<(), Incomparable> {
    in_common(before, workload, &backends.into_iter().collect::<Vec<_>>()).map(drop)
}

/// The positions, before and now, of each backend of both comparisons beside the first.
fn in_common(
    before: &Results,
    workload: &WorkloadOptions,
    backends: &[&str],
) -> Result<Vec<(usize, usize)>, Incomparable> {
    if before.format != Results::FORMAT {
        return Err(Incomparable::Format(before.format.into()));
    }
    if before.settings.workload != *workload {
        return Err(Incomparable::Workload);
    }
    let (Some(first_before), Some(&first_now)) = (before.backends.first(), backends.first()) else {
        return Err(Incomparable::Backends);
    };
    if first_before.name != first_now {
        return Err(Incomparable::Watched(first_before.name.clone(), first_now.to_owned()));
    }
    let position_before = |name: &str| before.backends.iter().position(|backend| backend.name == name);
    let in_common: Vec<_> =
        (1..).zip(&backends[1..]).filter_map(|(at, name)| Some((position_before(name)?, at))).collect();
    if in_common.is_empty() { Err(Incomparable::Backends) } else { Ok(in_common) }
}

/// The ratios that are worse than the earlier ones by more than a factor, the worst first.
///
/// # Errors
///
/// If the two cannot be held against each other.
pub fn regressions(before: &Results, now: &Results, tolerance: f64) -> Result<Vec<Regression>, Incomparable> {
    let names: Vec<_> = now.backends.iter().map(|backend| backend.name.as_str()).collect();
    let in_common = in_common(before, &now.settings.workload, &names)?;
    let mut regressions = Vec::new();
    for (old, new) in operations_in_common(before, now) {
        for &(old_at, new_at) in &in_common {
            let (Some(before), Some(ratio)) = (old.ratio(old_at), new.ratio(new_at)) else { continue };
            if ratio * tolerance < before {
                regressions.push(Regression {
                    operation: new.name.clone(),
                    watched: now.backends[0].name.clone(),
                    other: now.backends[new_at].name.clone(),
                    before,
                    now: ratio,
                });
            }
        }
    }
    regressions.sort_by(|a, b| (b.before / b.now).total_cmp(&(a.before / a.now)));
    Ok(regressions)
}

fn operations_in_common<'a>(
    before: &'a Results,
    now: &'a Results,
) -> impl Iterator<Item = (&'a OperationResult, &'a OperationResult)> {
    now.operations.iter().filter_map(|new| {
        let old = before.operations.iter().find(|old| old.name == new.name)?;
        Some((old, new))
    })
}
