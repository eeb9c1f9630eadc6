//! The search for the highest rate that meets all objectives.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::config::LoadConfig;
use super::record::{FailureRecord, Phase, RateSearchRecord, RateTrial, RunRecord, TrialOutcome};
use super::run::{LoadTest, RunOptions, run_unchecked};
use super::search::{NextTrial, RateSearch};
use super::verdict::Tolerance;
use crate::database::Database;
use crate::error::Result;

/// The ratio of the duration of the test that confirms the result to that of the other trials.
const CONFIRMATION: u32 = 5;
/// The time before the load of a trial in which the store may finish its maintenance: a time, or a share of the test if
/// that is less.
const REST: Duration = Duration::from_secs(5);
const REST_SHARE: f64 = 0.25;
/// The maximum duration of the removal of the data of a run that was ended early.
const TEAR_DOWN: Duration = Duration::from_secs(60);

impl LoadTest {
    /// Searches for the highest submission rate at which all objectives are met and ingestion keeps up.
    ///
    /// The search starts at the configured rate, but at least at 1 submission per second. Each trial is a run on the store,
    /// which is torn down afterwards. A trial passes if all objectives are met and the store has neither a backlog at the end
    /// nor one that grows. A trial with invalid measurements is repeated up to twice. A test five times as long as configured
    /// confirms the result.
    ///
    /// Returns the record of the run that confirms the highest rate, or of the last run if there is none, with the given
    /// configuration and the trials in [`rate_search`](RunRecord::rate_search). A stop, or a trial after which the store
    /// cannot be torn down, ends the search without a result.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    pub async fn find_rate(&self, database: Arc<dyn Database>) -> Result<RunRecord> {
        let config = &self.config;
        check_samples(config)?;
        let rest = self.options.rest.max(REST.min(config.test_duration.mul_f64(REST_SHARE)));
        let options = RunOptions { rest, ..self.options.clone() };
        let mut number = 0;
        let mut run = |trial: NextTrial, trials: RateSearchRecord| {
            number += 1;
            self.observer.trial(number, trial.rate, trial.confirms);
            let (database, config) = (database.clone(), of_trial(config, trial));
            let test = Self { config, ..self.clone().with_options(options.clone()) };
            async move { run_unchecked(database, &test, Some(trials)).await }
        };
        let mut search = RateSearch::default();
        let first = config.ingestion.submissions_per_hour.max(3600) as f64 / 3600.0;
        let mut trial = NextTrial { rate: first, confirms: false };
        let mut record = run(trial, search.trials()).await?;
        while !record.partial {
            let next = search.record(measured(&record, config, trial));
            if !is_torn_down(&*database, &mut record).await {
                break;
            }
            let Some(next) = next else { break };
            // A lower rate may have too few samples.
            if let Err(error) = check_samples(&of_trial(config, next)) {
                search.end(error.to_string());
                break;
            }
            trial = next;
            match run(trial, search.trials()).await {
                Ok(of_trial) => record = of_trial,
                Err(error) => {
                    record.failures.push(FailureRecord { phase: Phase::Setup, error: error.to_string() });
                    break;
                }
            }
        }
        record.configuration = serde_json::to_value(config).unwrap_or_default();
        record.rate_search = Some(search.into_record());
        Ok(record)
    }
}

fn check_samples(config: &LoadConfig) -> Result<()> {
    config.slo.iter().try_for_each(|objective| objective.check_samples(config))
}

/// The configuration of a trial.
fn of_trial(config: &LoadConfig, trial: NextTrial) -> LoadConfig {
    let mut config = config.clone();
    config.ingestion.submissions_per_hour = ((trial.rate * 3600.0) as u64).max(1);
    config.skip_tear_down = false;
    if trial.confirms {
        config.test_duration *= CONFIRMATION;
        config.stages.iter_mut().for_each(|stage| stage.duration *= CONFIRMATION);
    }
    config
}

/// Removes the data of a run that was ended early. Returns false if the store has data of the run.
async fn is_torn_down(database: &dyn Database, record: &mut RunRecord) -> bool {
    if record.aborted.is_some() {
        let error = match timeout(TEAR_DOWN, database.tear_down()).await {
            Ok(Ok(())) => return record.failures.is_empty(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not completed within {TEAR_DOWN:?}"),
        };
        record.failures.push(FailureRecord { phase: Phase::TearDown, error });
    }
    record.failures.is_empty()
}

/// The outcome of a trial. Invalid measurements have no violations.
fn measured(record: &RunRecord, config: &LoadConfig, trial: NextTrial) -> RateTrial {
    let steps = record.failures.iter().filter(|failure| failure.phase != Phase::TearDown);
    let invalid: Vec<_> = record
        .invalid
        .iter()
        .cloned()
        .chain(steps.map(|failure| format!("{}: {}", failure.phase, failure.error)))
        .collect();
    let violations = violations(record, &of_trial(config, trial));
    let unmeasured = record.objectives.iter().filter(|objective| objective.measured.is_none());
    let unmeasured: Vec<_> = unmeasured.map(|objective| format!("{}: too few samples", objective.objective)).collect();
    let (outcome, reasons) = match (invalid.is_empty(), violations.is_empty(), unmeasured.is_empty()) {
        (false, ..) => (TrialOutcome::Inconclusive, invalid),
        (_, false, _) => (TrialOutcome::Violated, violations),
        (_, _, false) => (TrialOutcome::Inconclusive, unmeasured),
        _ => (TrialOutcome::Passed, Vec::new()),
    };
    let ingester = &record.ingester;
    RateTrial {
        rate: trial.rate,
        confirms: trial.confirms,
        outcome,
        reasons,
        test_nanos: record.phase(Phase::Test).map_or(0, |test| test.end_nanos - test.start_nanos),
        achieved: trial.rate * ingester.queries_in_time as f64 / ingester.queries_due.max(1) as f64,
        ingest_p99_nanos: ingester.latency.quantile(0.99),
    }
}

/// The violations of a run: missed objectives, ingestion or reads that do not keep up, and differences found by the
/// census.
fn violations(record: &RunRecord, config: &LoadConfig) -> Vec<String> {
    let missed = record.objectives.iter().filter(|objective| !objective.held);
    let missed =
        missed.filter_map(|objective| Some(format!("{}: {}", objective.objective, objective.measured.as_ref()?)));
    let mut violations: Vec<_> = missed.chain(record.overload(config, Tolerance::TRIAL)).collect();
    let lost = record.census.iter().flat_map(|census| &census.differences);
    for reason in record.unsustained.iter().chain(&record.aborted).chain(lost) {
        if !violations.contains(reason) {
            violations.push(reason.clone());
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::{DelayRecord, IngesterRecord, ObjectiveRecord, PhaseRecord};
    use crate::load::{StageConfig, fixtures};
    use crate::measure::LatencyHistogram;

    const TRIAL: NextTrial = NextTrial { rate: 40.0, confirms: false };

    fn config(more: &str) -> LoadConfig {
        let base = "
testDuration: 2s
databaseConfig: {inMemory: true}
queueConfig: [{name: q, proportion: 1, jobSetConfig: [{name: s, proportion: 1}]}]
ingestionConfig: {batchSize: 100, submissionsPerHour: 144000, batchTimeout: 20ms}
";
        LoadConfig::parse([("base.yaml", base), ("more.yaml", more)], []).unwrap().config
    }

    /// A run with 80 events in 2 s, whose delay in milliseconds is given for each twentieth of the test.
    fn record(millis: impl Fn(u64) -> u64, in_time: u64) -> RunRecord {
        let phases = vec![PhaseRecord { phase: Phase::Test, start_nanos: 0, end_nanos: 2_000_000_000 }];
        let mut record = RunRecord { phases, ..fixtures::run() };
        let delays = Vec::from_iter((0..20).map(millis));
        let latency: LatencyHistogram = delays.iter().flat_map(|&millis| [Duration::from_millis(millis); 4]).collect();
        record.delays.push(DelayRecord {
            query_type: None,
            arrivals: vec![4; 20],
            nanos: delays.iter().map(|millis| millis * 4_000_000).collect(),
        });
        let call_time = latency.clone();
        let (queries_due, queries_in_time) = (80, in_time);
        record.ingester = IngesterRecord { queries_due, queries_in_time, latency, call_time, ..Default::default() };
        record
    }

    fn objective(held: bool, measured: Option<&str>) -> ObjectiveRecord {
        let (objective, measured) = ("ingest.p99 < 1s".to_owned(), measured.map(str::to_owned));
        ObjectiveRecord { objective, measured, interval: None, held, is_unresolved: false }
    }

    fn outcome(record: &RunRecord) -> (TrialOutcome, String) {
        let trial = measured(record, &config("{}"), TRIAL);
        (trial.outcome, trial.reasons.join("; "))
    }

    #[test]
    fn invalid_measurements_have_no_violations_and_too_few_no_result() {
        use TrialOutcome::{Inconclusive, Passed, Violated};
        let mut record = record(|_| 20, 79);
        let trial = measured(&record, &config("{}"), TRIAL);
        assert_eq!((trial.outcome, trial.reasons.as_slice(), trial.test_nanos), (Passed, &[][..], 2_000_000_000));
        assert_eq!((trial.rate, trial.achieved), (40.0, 40.0 * 79.0 / 80.0));
        // Too few events for a 99th percentile.
        assert_eq!(trial.ingest_p99_nanos, None);
        record.objectives = vec![objective(false, None)];
        assert_eq!(outcome(&record), (Inconclusive, "ingest.p99 < 1s: too few samples".to_owned()));
        record.objectives.push(objective(false, Some("2s")));
        assert_eq!(outcome(&record), (Violated, "ingest.p99 < 1s: 2s".to_owned()));
        record.invalid = vec!["lag".to_owned()];
        assert_eq!(outcome(&record), (Inconclusive, "lag".to_owned()));
        record.invalid.clear();
        let failure = |phase| FailureRecord { phase, error: "gone".to_owned() };
        record.failures = vec![failure(Phase::TearDown)];
        assert_eq!(outcome(&record).0, Violated);
        record.failures.push(failure(Phase::Census));
        assert_eq!(outcome(&record), (Inconclusive, "census: gone".to_owned()));
    }

    #[test]
    fn a_trial_passes_only_without_backlog_at_its_end_and_without_growth() {
        let violations = |record: &RunRecord| violations(record, &config("{}"));
        // 3 % more load than the capacity: 3 ms in each 0.1 s. A single run tolerates it.
        let growing = record(|part| 20 + 3 * part, 79);
        assert_eq!(violations(&growing), ["ingestion: the delay grew by 30 ms a second until the end"]);
        let mut run = growing.clone();
        run.evaluate(&config("{}"));
        assert_eq!(run.unsustained, [] as [&str; 0]);
        assert_eq!(violations(&record(|part| 20 + part / 2, 79)), [] as [&str; 0]);
        // The calls take longer and longer. At the end, 20 of 80 events are missing, or 0.5 s, of which the calls at the
        // start explain twice 45 ms, and the tolerance 0.1 s.
        let behind = record(|part| 25 + 10 * part.min(9), 60);
        assert_eq!(violations(&behind), ["ingestion: 30.0 of 40.0 per second were done by the end of the test"]);
        // Without the up to three queries of one event, 7 missing ones are 175 ms, and 8 are 200 ms.
        assert_eq!(violations(&record(|part| 25 + 10 * part.min(9), 80 - 10)), [] as [&str; 0]);
        assert_eq!(violations(&record(|part| 25 + 10 * part.min(9), 80 - 11)).len(), 1);
    }

    #[test]
    fn a_run_that_confirms_is_five_times_as_long_with_its_stages() {
        let mut config = config("{skipTearDown: true}");
        config.stages = [0.5, 1.0].map(|rate| StageConfig { duration: Duration::from_secs(1), rate }).into();
        let short = of_trial(&config, NextTrial { rate: 0.5, confirms: false });
        assert_eq!((short.test_duration, short.ingestion.submissions_per_hour), (Duration::from_secs(2), 1800));
        assert!(!short.skip_tear_down);
        let long = of_trial(&config, NextTrial { rate: 2.0, confirms: true });
        assert_eq!((long.test_duration, long.ingestion.submissions_per_hour), (Duration::from_secs(10), 7200));
        let stages: Vec<_> = long.stages.iter().map(|stage| (stage.duration, stage.rate)).collect();
        assert_eq!(stages, [(Duration::from_secs(5), 0.5), (Duration::from_secs(5), 1.0)]);
    }
}
