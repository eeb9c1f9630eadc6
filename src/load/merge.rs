//! The sum of the records of the shares of a load.

use super::config::LoadConfig;
use super::record::{
    ActionRecord, CensusRecord, FailureRecord, Phase, RunRecord, SecondRecord, SeriesRecord, ShareRecord,
};
use super::share::Share;
use crate::error::BackendKind;

/// The reason for which records cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// The record with this name is not that of a share.
    #[error("{0} is the record of a whole load, not of a share")]
    NotAShare(String),
    /// The records with these names are from different loads.
    #[error("{0} and {1} are records of different loads")]
    OtherLoad(String, String),
    /// The records with these names are of the same share.
    #[error("{} and {} are both records of share {share}", names[0], names[1])]
    Repeated {
        /// The share, as `2/4`.
        share: String,
        /// The names of the records.
        names: [String; 2],
    },
    /// No record is of these shares.
    #[error("no record is of the shares {}", .0.join(", "))]
    Missing(Vec<String>),
    /// The record with a name has an invalid part.
    #[error("{name}: {problem}")]
    Invalid {
        /// The name of the record.
        name: String,
        /// The problem.
        problem: String,
    },
}

/// A record of a share and its name in errors.
struct Part {
    name: String,
    share: Share,
    load: String,
    record: RunRecord,
}

/// Adds the records of all shares of a load, each with a name for errors, in any order.
///
/// Counts and histograms are the sums, also those of each second from the start of the load. The store, the machine, the
/// resource usage and the phases are those of the last share, whose drain is extended to the longest one. An action
/// ends with its last share. The objectives and the reasons for which the load was not sustained are evaluated for the
/// sum; a share that is invalid by itself makes the sum invalid.
///
/// # Errors
///
/// [`MergeError`] if the records are not those of all shares of one load.
pub fn merge(records: impl IntoIterator<Item = (String, RunRecord)>) -> Result<RunRecord, MergeError> {
    let mut parts = records.into_iter().map(part).collect::<Result<Vec<_>, _>>()?;
    parts.sort_by_key(|part| part.share.index());
    check(&parts)?;
    let Some(last) = parts.pop() else { return Err(MergeError::Missing(Vec::new())) };
    let config = configuration(&last)?;
    let mut sum = last.record;
    let shares = last.share.parts();
    attribute(&mut sum, last.share);
    for Part { name, share, mut record, .. } in parts {
        attribute(&mut record, share);
        add(&mut sum, record).map_err(|problem| MergeError::Invalid { name, problem })?;
    }
    for interval in sum.series.iter_mut().flat_map(|series| &mut series.intervals) {
        interval.latencies = None;
    }
    sum.errors.sort_by_key(|error| error.timestamp);
    sum.errors.truncate(usize::try_from(config.queries.max_errors_to_collect).unwrap_or(usize::MAX));
    sum.options.insert("shares".to_owned(), shares.into());
    sum.share = None;
    sum.evaluate(&config);
    Ok(sum)
}

fn part((name, record): (String, RunRecord)) -> Result<Part, MergeError> {
    let Some(ShareRecord { share, load }) = record.share.clone() else { return Err(MergeError::NotAShare(name)) };
    match share.parse() {
        Ok(share) => Ok(Part { name, share, load, record }),
        Err(problem) => Err(MergeError::Invalid { name, problem: format!("share {share:?} {problem}") }),
    }
}

/// Checks that the parts, ordered by index, are all shares of one load.
fn check(parts: &[Part]) -> Result<(), MergeError> {
    let load = |part: &Part| (part.load.clone(), part.share.parts(), part.record.seed);
    for pair in parts.windows(2) {
        let names = || [pair[0].name.clone(), pair[1].name.clone()];
        if load(&pair[0]) != load(&pair[1]) {
            let [first, second] = names();
            return Err(MergeError::OtherLoad(first, second));
        }
        if pair[0].share == pair[1].share {
            return Err(MergeError::Repeated { share: pair[0].share.to_string(), names: names() });
        }
    }
    let Some(last) = parts.first().map(|part| part.share.last()) else { return Ok(()) };
    let missing = last.others().chain([last]).filter(|share| parts.iter().all(|part| part.share != *share));
    let missing: Vec<_> = missing.map(|share| share.to_string()).collect();
    if missing.is_empty() { Ok(()) } else { Err(MergeError::Missing(missing)) }
}

/// The configuration of a record, without that of the database, whose secrets the record does not have.
fn configuration(part: &Part) -> Result<LoadConfig, MergeError> {
    let mut configuration = part.record.configuration.clone();
    if let Some(keys) = configuration.as_object_mut() {
        keys.remove("databaseConfig");
    }
    // JSON is YAML.
    let parsed =
        LoadConfig::parse_for(BackendKind::Memory, [(part.name.as_str(), configuration.to_string().as_str())], []);
    parsed.map(|parsed| parsed.config).map_err(|error| {
        let problem = error.problems.first().map_or_else(|| error.to_string(), ToString::to_string);
        MergeError::Invalid { name: part.name.clone(), problem }
    })
}

/// Names the share in the reasons and differences of its record.
fn attribute(record: &mut RunRecord, share: Share) {
    let name = |text: &mut String| *text = format!("share {share}: {text}");
    record.invalid.iter_mut().for_each(name);
    record.unsustained.iter_mut().for_each(name);
    record.aborted.iter_mut().for_each(name);
    record.failures.iter_mut().for_each(|FailureRecord { error, .. }| name(error));
    record.actions.iter_mut().filter_map(|action| action.error.as_mut()).for_each(name);
    record.census.iter_mut().flat_map(|census| &mut census.differences).for_each(name);
}

/// Adds the record of another share. Returns a problem of its series.
fn add(sum: &mut RunRecord, mut other: RunRecord) -> Result<(), String> {
    add_series(sum, &mut other)?;
    extend_test(sum, &other);
    extend_drain(sum, &other);
    for (action, other) in sum.actions.iter_mut().zip(std::mem::take(&mut other.actions)) {
        add_action(action, other);
    }
    sum.reads_without_id += other.reads_without_id;
    sum.started = sum.started.min(other.started);
    sum.ended = sum.ended.max(other.ended);
    sum.partial |= other.partial;
    sum.invalid.extend(other.invalid);
    sum.unsustained.extend(other.unsustained);
    sum.failures.extend(other.failures);
    sum.aborted = sum.aborted.take().or(other.aborted);
    sum.census = sum.census.take().zip(other.census.take()).map(|(census, other)| CensusRecord {
        // Only the last share counts the jobs of the store.
        jobs: census.jobs,
        sampled: census.sampled + other.sampled,
        differences: [census.differences, other.differences].concat(),
    });
    sum.add(SecondRecord {
        ingester: other.ingester,
        queries: other.queries,
        errors: other.errors,
        error_count: other.error_count,
        delays: other.delays,
        ..SecondRecord::default()
    });
    Ok(())
}

/// The second of a series in which the load started: the first one of ingestion.
fn start_second(record: &RunRecord) -> u64 {
    let ingestion = record.series.iter().find(|series| series.query_type.is_none());
    ingestion.and_then(|series| series.intervals.first()).map_or(0, |interval| interval.second)
}

/// Adds the intervals with the same distance from the start of the load.
fn add_series(sum: &mut RunRecord, other: &mut RunRecord) -> Result<(), String> {
    let (start, other_start) = (start_second(sum), start_second(other));
    for SeriesRecord { query_type, intervals } in std::mem::take(&mut other.series) {
        let at = sum.series.iter().position(|series| series.query_type == query_type).unwrap_or_else(|| {
            sum.series.push(SeriesRecord { query_type, intervals: Vec::new() });
            sum.series.len() - 1
        });
        let series = &mut sum.series[at].intervals;
        for mut interval in intervals {
            interval.second = (interval.second + start).saturating_sub(other_start);
            match series.binary_search_by_key(&interval.second, |interval| interval.second) {
                Ok(same) => series[same]
                    .merge(&interval)
                    .map_err(|error| format!("the latencies of second {}: {error}", interval.second))?,
                Err(index) => series.insert(index, interval),
            }
        }
    }
    Ok(())
}

/// Extends the test phase to that of another share, and shifts the later phases: the rates of a sum are those of the
/// longest test, also if the last share ended early.
fn extend_test(sum: &mut RunRecord, other: &RunRecord) {
    let length = |run: &RunRecord| run.phase(Phase::Test).map(|test| test.end_nanos - test.start_nanos);
    let (Some(own), Some(longest)) = (length(sum), length(other)) else { return };
    let missing = longest.saturating_sub(own);
    let later = sum.phases.iter_mut().skip_while(|phase| phase.phase != Phase::Test);
    for phase in later {
        phase.start_nanos += if phase.phase == Phase::Test { 0 } else { missing };
        phase.end_nanos += missing;
    }
}

/// Extends the drain to that of another share. The last share waits for the others in its census.
fn extend_drain(sum: &mut RunRecord, other: &RunRecord) {
    let Some(longest) = other.phase(Phase::Drain).map(|drain| drain.end_nanos - drain.start_nanos) else { return };
    let latest = sum.phase(Phase::Census).map_or(u64::MAX, |census| census.end_nanos);
    let mut end = 0;
    for phase in &mut sum.phases {
        match phase.phase {
            Phase::Drain => {
                phase.end_nanos = phase.end_nanos.max(phase.start_nanos + longest).min(latest);
                end = phase.end_nanos;
            }
            Phase::Census => phase.start_nanos = phase.start_nanos.max(end),
            _ => {}
        }
    }
}

fn add_action(action: &mut ActionRecord, other: ActionRecord) {
    let duration = |action: &ActionRecord| action.end_nanos.map(|end| end.saturating_sub(action.due_nanos));
    let longest = duration(action).zip(duration(&other)).map(|(one, other)| one.max(other));
    action.end_nanos = longest.map(|nanos| action.due_nanos + nanos);
    action.jobs += other.jobs;
    action.error = action.error.take().or(other.error);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::fixtures;
    use crate::load::record::PhaseRecord;

    #[test]
    fn the_test_of_a_sum_is_the_longest_one() {
        let phases =
            |end: u64| {
                [(Phase::Test, 2, end), (Phase::Drain, end, end + 3)]
                    .map(|(phase, start_nanos, end_nanos)| PhaseRecord { phase, start_nanos, end_nanos })
            };
        for (own, other, sum) in [(5, 12, 12), (12, 5, 12)] {
            let mut run = RunRecord { phases: phases(own).into(), ..fixtures::run() };
            extend_test(&mut run, &RunRecord { phases: phases(other).into(), ..fixtures::run() });
            assert_eq!(run.phases, phases(sum));
        }
    }
}
