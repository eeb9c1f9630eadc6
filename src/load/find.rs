//! The search for the highest rate that meets all objectives.

use std::sync::Arc;

use tokio::sync::watch;

use super::config::LoadConfig;
use super::observer::Observer;
use super::record::RunRecord;
use super::run::{RunOptions, run_unchecked};
use super::search::RateSearch;
use crate::database::Database;
use crate::error::Result;

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
    config.slo.iter().try_for_each(|objective| objective.check_samples(config))?;
    let mut best: Option<RunRecord> = None;
    let mut last: Option<RunRecord> = None;
    let mut search = RateSearch::new(config.ingestion.submissions_per_hour.max(3600) as f64 / 3600.0);
    while let Some(rate) = search.next_rate() {
        let trial = at_rate(config, rate);
        let record = run_unchecked(database.clone(), &trial, options, observer.clone(), stop.clone()).await?;
        if record.partial {
            last = Some(record);
            best = None;
            break;
        }
        let violations = violations(&record);
        *(if violations.is_empty() { &mut best } else { &mut last }) = Some(record);
        search.record(rate, violations);
    }
    let mut record = match best.or(last) {
        Some(record) => record,
        // Unreachable, because the search has at least one trial.
        None => run_unchecked(database, config, options, observer, stop).await?,
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

/// The violations of a run: missed objectives, ingestion that does not keep up, invalid measurements and differences
/// found by the census.
fn violations(record: &RunRecord) -> Vec<String> {
    let missed = record.objectives.iter().filter(|objective| !objective.held).map(|objective| {
        format!("{}: {}", objective.objective, objective.measured.as_deref().unwrap_or("too few samples"))
    });
    let lost = record.census.iter().flat_map(|census| census.differences.iter().cloned());
    let reasons = [&record.unsustained, &record.invalid].into_iter().flatten().chain(&record.aborted).cloned();
    missed.chain(reasons).chain(lost).collect()
}
