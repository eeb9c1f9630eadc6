//! Regressions from an earlier comparison.
//!
//! Absolute times depend on the machine and its load. The ratio of two backends in the same run depends on them far
//! less, so only ratios are compared: the time of each other backend divided by that of the first. A ratio without an
//! interval, such as that of an operation that is executed once, is not compared.

use serde::Deserialize;

use super::ratio::MIN_TURNS;
use super::results::{OperationResult, Results, Settings};
use super::turns::RUNS_PER_TURN;
use crate::json;
use crate::measure::RatioRegression;

/// The smallest number of executions of a fast operation whose ratio has an interval.
const MIN_SAMPLES: usize = MIN_TURNS * RUNS_PER_TURN;

/// The reason for which two comparisons cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Incomparable {
    /// The baseline is not the JSON of a comparison.
    #[error("the baseline is not the results.json of a comparison: {0}")]
    Unreadable(String),
    /// The baseline has another format.
    #[error("the baseline has format {0}, and this version reads format {current}", current = Results::FORMAT)]
    Format(u64),
    /// The first backends differ: that of the baseline, and that of this comparison.
    #[error("the first backend of the baseline is {0} instead of {1}")]
    Watched(String, String),
    /// The jobs differ.
    #[error("the baseline has other jobs: their number, seed or layout differs")]
    Workload,
    /// One of the comparisons has too few executions for the intervals of ratios: this number.
    #[error("a comparison with a baseline requires {MIN_SAMPLES} samples of both, and one of them has {0}")]
    Samples(usize),
    /// The comparisons have no other backend in common.
    #[error("the baseline has no second backend in common with this comparison, so there are no ratios")]
    Backends,
}

/// Reads the `results.json` of an earlier comparison.
///
/// # Errors
///
/// `Format` if the file has another format, `Unreadable` if it is anything else or has a repeated key.
pub fn read_baseline(file: &[u8]) -> Result<Results, Incomparable> {
    if let Some(problem) = json::wrong_encoding(file) {
        return Err(Incomparable::Unreadable(problem.to_owned()));
    }
    let unreadable = |error: serde_json::Error| Incomparable::Unreadable(error.to_string());
    let value = json::parse(file).map_err(unreadable)?;
    // The format is checked first, because another format has other keys.
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(format) if format != u64::from(Results::FORMAT) => Err(Incomparable::Format(format)),
        _ => Results::deserialize(value).map_err(unreadable),
    }
}

/// Checks that a comparison with these settings on these backends, in their order, can be compared with an earlier one.
///
/// # Errors
///
/// The reason for which it cannot.
pub fn check_baseline<'a>(
    before: &Results,
    settings: &Settings,
    backends: impl IntoIterator<Item = &'a str>,
) -> Result<(), Incomparable> {
    in_common(before, settings, &backends.into_iter().collect::<Vec<_>>()).map(drop)
}

/// The backends of both comparisons except the first, by their positions in the baseline and now.
fn in_common(before: &Results, settings: &Settings, backends: &[&str]) -> Result<Vec<(usize, usize)>, Incomparable> {
    if before.format != Results::FORMAT {
        return Err(Incomparable::Format(before.format.into()));
    }
    if before.settings.workload != settings.workload {
        return Err(Incomparable::Workload);
    }
    let samples = before.settings.samples.min(settings.samples);
    if samples < MIN_SAMPLES {
        return Err(Incomparable::Samples(samples));
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

/// The ratios whose intervals are below those of the baseline by more than a factor, in descending order of the quotient
/// of the ratios.
///
/// # Errors
///
/// The reason for which the results cannot be compared.
pub fn regressions(before: &Results, now: &Results, tolerance: f64) -> Result<Vec<RatioRegression>, Incomparable> {
    let names: Vec<_> = now.backends.iter().map(|backend| backend.name.as_str()).collect();
    let in_common = in_common(before, &now.settings, &names)?;
    let mut regressions = Vec::new();
    for (old, new) in operations_in_common(before, now) {
        for &(old_at, new_at) in &in_common {
            let (Some(before), Some(now)) = (old.ratio(old_at), new.ratio(new_at)) else { continue };
            let backends = [names[0], names[new_at]];
            regressions.extend(RatioRegression::find(&new.name, backends, before, now, tolerance));
        }
    }
    regressions.sort_by(|a, b| b.factor().total_cmp(&a.factor()));
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
