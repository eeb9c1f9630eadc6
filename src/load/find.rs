//! Runs that search for the highest rate at which every objective holds.

use std::sync::Arc;

use tokio::sync::watch;

use super::config::LoadConfig;
use super::observer::Observer;
use super::record::{Phase, RunRecord};
use super::run::{RunOptions, run};
use super::search::RateSearch;
use crate::database::Database;
use crate::error::Result;

/// By how much of the test, and at most by how many seconds of arrivals, ingestion may be behind at its end, besides
/// the time that a batch waits to fill.
const BEHIND_SHARE: f64 = 0.1;
const BEHIND_SECONDS: f64 = 2.0;
const DEFAULT_LINGER_SECONDS: f64 = 1.0;

/// Searches for the highest submission rate at which every objective holds and ingestion keeps up, from the configured
/// rate on, by runs on a store that is torn down after each.
///
/// Gives the record of the run at that rate, or of the last run if no rate held, with the trials in
/// [`rate_search`](RunRecord::rate_search). A stop ends the search with the run that it stopped.
///
/// # Errors
///
/// As [`run`](run()).
pub async fn find_rate(
    database: Arc<dyn Database>,
    config: &LoadConfig,
    options: &RunOptions,
    observer: Arc<dyn Observer>,
    stop: watch::Receiver<bool>,
) -> Result<RunRecord> {
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
        let broke = broken(&record, &trial);
        *(if broke.is_empty() { &mut best } else { &mut last }) = Some(record);
        search.record(rate, broke);
    }
    let mut record = match best.or(last) {
        Some(record) => record,
        // The first rate is always tried; this is for the compiler.
        None => run(database, config, options, observer, stop).await?,
    };
    record.rate_search = Some(search.into_record());
    Ok(record)
}

fn at_rate(config: &LoadConfig, per_second: f64) -> LoadConfig {
    let mut trial = config.clone();
    trial.ingestion.submissions_per_hour = ((per_second * 3600.0) as u64).max(1);
    trial.skip_tear_down = false;
    trial
}

/// What broke in a run: objectives, the pace of ingestion, or the measurement itself.
fn broken(record: &RunRecord, config: &LoadConfig) -> Vec<String> {
    let missed = record.objectives.iter().filter(|objective| !objective.held).map(|objective| {
        format!("{}: {}", objective.objective, objective.measured.as_deref().unwrap_or("too few samples"))
    });
    let lost = record.census.iter().flat_map(|census| census.differences.iter().cloned());
    missed.chain(behind(record, config)).chain(record.invalid.iter().cloned()).chain(lost).collect()
}

/// That ingestion did not keep up: it was further behind at the end of the test than batches need to fill.
fn behind(record: &RunRecord, config: &LoadConfig) -> Option<String> {
    let shed = record.ingester.lives_dropped + record.ingester.lives_refused;
    if shed > 0 {
        return Some(format!("ingestion keeps up: {shed} lives were left out"));
    }
    let test = record.phase(Phase::Test)?;
    let ingestion = record.series.iter().find(|series| series.query_type.is_none())?;
    let seconds = test.start_nanos / 1_000_000_000..=test.end_nanos / 1_000_000_000;
    let of_test: Vec<_> = ingestion.intervals.iter().filter(|interval| seconds.contains(&interval.second)).collect();
    let target = of_test.iter().map(|interval| interval.target).sum::<f64>() / of_test.len() as f64;
    let behind = of_test.last()?.backlog as f64 / target.max(1.0);
    let linger = match config.ingestion.batch_timeout.as_secs_f64() {
        0.0 => DEFAULT_LINGER_SECONDS,
        seconds => seconds,
    };
    let limit = linger + (config.test_duration.as_secs_f64() * BEHIND_SHARE).min(BEHIND_SECONDS);
    (behind > limit).then(|| format!("ingestion keeps up: {behind:.1} s of arrivals behind at the end of the test"))
}
