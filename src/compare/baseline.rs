//! Whether a comparison fell behind an earlier one.
//!
//! Absolute times depend on the machine and on what else it does. The ratio of two backends
//! within a run depends on that far less, so only ratios are compared: how many times as long
//! as the first backend, which is the one being watched, each of the others takes.

use std::fmt;

use super::results::{OperationResult, Results};

/// A ratio that got worse: the first backend fell behind another.
#[derive(Debug, Clone, PartialEq)]
pub struct Regression {
    /// The operation.
    pub operation: String,
    /// The backend being watched.
    pub watched: String,
    /// The backend that it is compared with.
    pub other: String,
    /// How many times as long the other took in the earlier comparison.
    pub before: f64,
    /// How many times as long it takes now.
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
pub enum Incomparable {
    /// The earlier one was written in another format.
    Format(u32),
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

/// The ratios that are worse than the earlier ones by more than a factor, the worst first.
///
/// # Errors
///
/// If the two cannot be held against each other.
pub fn regressions(before: &Results, now: &Results, tolerance: f64) -> Result<Vec<Regression>, Incomparable> {
    if before.format != Results::FORMAT {
        return Err(Incomparable::Format(before.format));
    }
    if before.settings.workload != now.settings.workload {
        return Err(Incomparable::Workload);
    }
    let (Some(first_before), Some(first_now)) = (before.backends.first(), now.backends.first()) else {
        return Err(Incomparable::Backends);
    };
    if first_before.name != first_now.name {
        return Err(Incomparable::Watched(first_before.name.clone(), first_now.name.clone()));
    }
    let in_common: Vec<(usize, usize)> = (1..now.backends.len())
        .filter_map(|at| Some((before.backends.iter().position(|other| other.name == now.backends[at].name)?, at)))
        .collect();
    if in_common.is_empty() {
        return Err(Incomparable::Backends);
    }
    let mut regressions = Vec::new();
    for (old, new) in operations_in_common(before, now) {
        for &(old_at, new_at) in &in_common {
            let (Some(before), Some(ratio)) = (old.ratio(old_at), new.ratio(new_at)) else { continue };
            if ratio * tolerance < before {
                regressions.push(Regression {
                    operation: new.name.clone(),
                    watched: first_now.name.clone(),
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
