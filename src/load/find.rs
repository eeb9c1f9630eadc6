//! The search for the highest rate that meets all objectives.

use std::sync::Arc;

use tokio::sync::watch;

use super::config::LoadConfig;
use super::observer::Observer;
use super::record::{Phase, RunRecord};
use super::run::{RunOptions, run};
use super::search::RateSearch;
use crate::database::Database;
use crate::error::Result;

/// The maximum backlog at the end of the test, beyond the batch timeout: a fraction of the test duration, and at most a
/// number of seconds of arrivals.
const MAX_BACKLOG_FRACTION: f64 = 0.1;
const MAX_BACKLOG_SECONDS: f64 = 2.0;
const DEFAULT_LINGER_SECONDS: f64 = 1.0;

/// Searches for the highest submission rate at which all objectives are met and ingestion keeps up.
///
/// The search starts at the configured rate, but at least at 1 submission per second. Each trial is a run on the store,
/// which is torn down afterwards. Returns the record of the run at the highest rate, or of the last run if no rate met
/// the objectives, with the trials in [`rate_search`](RunRecord::rate_search). A stop ends the search and returns the
/// record of the stopped run.
///
/// # Errors
///
/// As for [`run`](run()), and `InvalidArgument` if at low rates, at which batches are sent by time, the test has too
/// few batches for the statistic of an objective.
pub async fn find_rate(
    database: Arc<dyn Database>,
    config: &LoadConfig,
    options: &RunOptions,
    observer: Arc<dyn Observer>,
    stop: watch::Receiver<bool>,
) -> Result<RunRecord> {
    let batches = config.test_duration.as_secs_f64() / linger(config) * config.ingestion.num_workers as f64;
    config.slo.iter().try_for_each(|objective| objective.check_batches(batches))?;
    let mut best: Option<RunRecord> = None;
    let mut last: Option<RunRecord> = None;
    let mut search = RateSearch::new(config.ingestion.submissions_per_hour.max(3600) as f64 / 3600.0);
    while let Some(rate) = search.next_rate() {
        let trial = at_rate(config, rate);
        let record = run(database.clone(), &trial, options, observer.clone(), stop.clone()).await?;
        if record.partial {
            last = Some(record);
            best = None;
            break;
        }
        let violations = violations(&record, &trial);
        *(if violations.is_empty() { &mut best } else { &mut last }) = Some(record);
        search.record(rate, violations);
    }
    let mut record = match best.or(last) {
        Some(record) => record,
        // Unreachable, because the search has at least one trial.
        None => run(database, config, options, observer, stop).await?,
    };
    record.rate_search = Some(search.into_record());
    Ok(record)
}

/// The maximum time that a query waits for its batch to fill, in seconds.
fn linger(config: &LoadConfig) -> f64 {
    match config.ingestion.batch_timeout.as_secs_f64() {
        0.0 => DEFAULT_LINGER_SECONDS,
        seconds => seconds,
    }
}

fn at_rate(config: &LoadConfig, per_second: f64) -> LoadConfig {
    let mut trial = config.clone();
    trial.ingestion.submissions_per_hour = ((per_second * 3600.0) as u64).max(1);
    trial.skip_tear_down = false;
    trial
}

/// The violations of a run: missed objectives, ingestion that does not keep up, invalid measurements and differences
/// found by the census.
fn violations(record: &RunRecord, config: &LoadConfig) -> Vec<String> {
    let missed = record.objectives.iter().filter(|objective| !objective.held).map(|objective| {
        format!("{}: {}", objective.objective, objective.measured.as_deref().unwrap_or("too few samples"))
    });
    let lost = record.census.iter().flat_map(|census| census.differences.iter().cloned());
    missed.chain(behind(record, config)).chain(record.invalid.iter().cloned()).chain(lost).collect()
}

/// Describes that ingestion did not keep up: jobs were shed, or the backlog at the end of the test exceeds the limit.
fn behind(record: &RunRecord, config: &LoadConfig) -> Option<String> {
    let shed = record.ingester.jobs_dropped + record.ingester.jobs_rejected;
    if shed > 0 {
        return Some(format!("ingestion did not keep up: {shed} jobs were shed"));
    }
    let test = record.phase(Phase::Test)?;
    let ingestion = record.series.iter().find(|series| series.query_type.is_none())?;
    let seconds = test.start_nanos / 1_000_000_000..=test.end_nanos / 1_000_000_000;
    let of_test: Vec<_> = ingestion.intervals.iter().filter(|interval| seconds.contains(&interval.second)).collect();
    let target = of_test.iter().map(|interval| interval.target).sum::<f64>() / of_test.len() as f64;
    let behind = of_test.last()?.backlog as f64 / target.max(1.0);
    let limit = linger(config) + (config.test_duration.as_secs_f64() * MAX_BACKLOG_FRACTION).min(MAX_BACKLOG_SECONDS);
    (behind > limit).then(|| format!("ingestion did not keep up: a backlog of {behind:.1} s at the end of the test"))
}
