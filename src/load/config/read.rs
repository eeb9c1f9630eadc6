//! Reads the sections of a configuration and validates their values.

use std::time::Duration;

use super::database;
use super::section::Section;
use super::types::{
    ActionConfig, ActionsConfig, BacklogStrategy, HistoricalJobsConfig, IngestionConfig, JobSetConfig, LoadConfig,
    LookoutQueryConfig, QueryConfig, QueueConfig, StageConfig, TransitionConfig,
};
use crate::error::BackendKind;
use crate::historical::{HistoricalJobs, HistoricalJobsParams};
use crate::load::duration::GoDuration;
use crate::load::objective::Objective;
use crate::time::{Clock, SystemClock};

/// The tolerance of sums of proportions.
const TOLERANCE: f64 = 0.001;

const DEFAULT_BUFFER_MULTIPLIER: u64 = 10;
const DEFAULT_CHUNK_SIZE: u64 = 500_000;
const DEFAULT_PAGE_SIZE: u64 = 100;
const DEFAULT_ERRORS: u64 = 2000;
const DEFAULT_DEEP_OFFSET: u64 = 10_000;
const DEFAULT_ABORT_AFTER: Duration = Duration::from_secs(30);
const MAX_STAGE_RATE: f64 = 1e6;
/// The tolerance of the sum of the stages' durations.
const STAGES_TOLERANCE: Duration = Duration::from_millis(1);
/// The maximum number of queues, and of job sets of a queue: job ids have two base 32 digits for the index.
const MAX_ENTRIES: usize = 1024;

/// Reads the top-level mapping. `external` is the backend of a store that the caller opens.
pub(super) fn root(root: &Section<'_>, external: Option<BackendKind>) -> LoadConfig {
    let test_duration = root.duration("testDuration").unwrap_or_default();
    if test_duration.is_zero() {
        root.problem("testDuration", "must be more than 0");
    }
    let toggles = root.section("featureToggles");
    let database = database::read(&root.section("databaseConfig"), &toggles, external);
    toggles.warn_of_unknown_keys();
    let queues = queues(root);
    let actions = root.section("actionsConfig");
    let config = LoadConfig {
        test_duration,
        warmup_duration: root.duration("warmupDuration").unwrap_or_default(),
        skip_tear_down: root.boolean("skipTearDown"),
        database,
        ingestion: ingestion(&root.section("ingestionConfig")),
        queries: queries(&root.section("queryConfig")),
        lookout_queries: lookout_queries(&root.section("lookoutQueryConfig")),
        actions: ActionsConfig {
            job_set_reprioritisations: actions_of(&actions, "jobSetReprioritisations", test_duration, &queues),
            job_set_cancellations: actions_of(&actions, "jobSetCancellations", test_duration, &queues),
        },
        queues,
        redelivery: root.proportion("redelivery"),
        reads: root.text("reads").map(Into::into),
        slo: objectives(root, "slo"),
        stages: stages(root, test_duration),
        abort_after: root.duration("abortAfter").unwrap_or(DEFAULT_ABORT_AFTER),
        abort_on: objectives(root, "abortOn"),
    };
    warn_of_lives(root, &config);
    actions.warn_of_unknown_keys();
    root.warn_of_unknown_keys();
    config
}

fn queues(root: &Section<'_>) -> Vec<QueueConfig> {
    let sections = root.sections("queueConfig");
    check_entries(root, "queueConfig", &sections);
    let queue = |section: &Section<'_>| {
        let job_sets = section.sections("jobSetConfig");
        check_entries(section, "jobSetConfig", &job_sets);
        let queue = QueueConfig {
            name: section.required_text("name"),
            proportion: section.proportion("proportion"),
            job_sets: job_sets.iter().map(job_set).collect(),
        };
        section.warn_of_unknown_keys();
        queue
    };
    sections.iter().map(queue).collect()
}

/// Checks a list of queues or job sets: its length, names and the sum of proportions.
fn check_entries(parent: &Section<'_>, name: &str, entries: &[Section<'_>]) {
    if entries.is_empty() {
        return parent.problem(name, "must have at least one entry");
    }
    if entries.len() > MAX_ENTRIES {
        parent.problem(name, format!("must have at most {MAX_ENTRIES} entries"));
    }
    let sum: f64 = entries.iter().map(|entry| entry.proportion("proportion")).sum();
    if (sum - 1.0).abs() > TOLERANCE {
        parent.problem(name, format!("must have proportions that sum to 1, not to {}", rounded(sum)));
    }
    let mut names: Vec<_> = entries.iter().filter_map(|entry| entry.text("name")).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        parent.problem(name, format!("must have distinct names, but {:?} is repeated", twice[0]));
    }
}

fn rounded(sum: f64) -> f64 {
    (sum * 1e6).round() / 1e6
}

fn job_set(section: &Section<'_>) -> JobSetConfig {
    let historical = section.section("historicalJobsConfig");
    let job_set = JobSetConfig {
        name: section.required_text("name"),
        proportion: section.proportion("proportion"),
        historical: HistoricalJobsConfig {
            number_of_jobs: historical.count("numberOfJobs").unwrap_or_default(),
            proportion_succeeded: historical.proportion("proportionSucceeded"),
            proportion_errored: historical.proportion("proportionErrored"),
            proportion_cancelled: historical.proportion("proportionCancelled"),
            proportion_preempted: historical.proportion("proportionPreempted"),
            job_age_days: historical.counts("jobAgeDays"),
        },
    };
    check_historical(&historical, &job_set.historical);
    historical.warn_of_unknown_keys();
    section.warn_of_unknown_keys();
    job_set
}

fn check_historical(section: &Section<'_>, jobs: &HistoricalJobsConfig) {
    let sum =
        jobs.proportion_succeeded + jobs.proportion_errored + jobs.proportion_cancelled + jobs.proportion_preempted;
    if sum > 1.0 + TOLERANCE {
        section.problem("proportionSucceeded", format!("and the other three sum to {}, more than 1", rounded(sum)));
    }
    if jobs.number_of_jobs == 0 {
        return;
    }
    if jobs.job_age_days.is_empty() {
        return section.problem("jobAgeDays", "must not be empty if there are jobs");
    }
    if sum < 1.0 - TOLERANCE {
        let message = format!("and the other three sum to {}: all other jobs are preempted", rounded(sum));
        section.warn("proportionSucceeded", message);
    }
    // The validation of the library rejects, for example, ages that precede the earliest valid time.
    let params = HistoricalJobsParams {
        queue_idx: 0,
        job_set_idx: 0,
        queue_name: "queue".to_owned(),
        job_set_name: "job set".to_owned(),
        n_jobs: jobs.number_of_jobs as i64,
        chunk_size: 0,
        succeeded_threshold: 0,
        errored_threshold: 0,
        cancelled_threshold: 0,
        job_age_days: jobs.job_age_days.iter().map(|&days| days as i64).collect(),
        job_spec_bytes: None,
        error_bytes: None,
        debug_bytes: None,
        preemption_bytes: None,
        reference_time: SystemClock.now(),
    };
    if let Err(error) = HistoricalJobs::try_from(params) {
        section.problem("jobAgeDays", format!("cannot be used: {}", error.message()));
    }
}

fn ingestion(section: &Section<'_>) -> IngestionConfig {
    let batch_size = section.count("batchSize").unwrap_or_default();
    if batch_size == 0 {
        section.problem("batchSize", "must be more than 0");
    }
    let lifecycle = section.section("jobStateTransitionConfig");
    let config = IngestionConfig {
        batch_size,
        num_workers: positive(section, "numWorkers", 1),
        submissions_per_hour: section.count("submissionsPerHour").unwrap_or_default(),
        channel_buffer_size_multiplier: positive(section, "channelBufferSizeMultiplier", DEFAULT_BUFFER_MULTIPLIER),
        max_backlog_size: section.count("maxBacklogSize").unwrap_or_default(),
        backlog_drop_strategy: strategy(section),
        batch_timeout: section.duration("batchTimeout").unwrap_or_default(),
        historical_job_chunk_size: positive(section, "historicalJobChunkSize", DEFAULT_CHUNK_SIZE),
        historical_job_workers: positive(section, "historicalJobWorkers", 1),
        transitions: transitions(&lifecycle),
    };
    lifecycle.warn_of_unknown_keys();
    section.warn_of_unknown_keys();
    config
}

/// A count that has a default, which also replaces 0.
fn positive(section: &Section<'_>, name: &str, default: u64) -> u64 {
    section.count(name).filter(|&count| count > 0).unwrap_or(default)
}

fn strategy(section: &Section<'_>) -> BacklogStrategy {
    match section.text("backlogDropStrategy") {
        None | Some("" | "block") => BacklogStrategy::Block,
        Some("drop") => BacklogStrategy::Drop,
        Some("error") => BacklogStrategy::Error,
        Some(_) => {
            section.problem("backlogDropStrategy", "must be block, drop or error");
            BacklogStrategy::Block
        }
    }
}

fn transitions(section: &Section<'_>) -> TransitionConfig {
    let duration = |name| section.duration(name).unwrap_or_default();
    let transitions = TransitionConfig {
        queueing_duration: duration("queueingDuration"),
        leased_duration: duration("leasedDuration"),
        pending_duration: duration("pendingDuration"),
        proportion_succeed: section.proportion("proportionSucceed"),
        running_to_success_duration: duration("runningToSuccessDuration"),
        proportion_fail: section.proportion("proportionFail"),
        running_to_failure_duration: duration("runningToFailureDuration"),
    };
    let sum = transitions.proportion_succeed + transitions.proportion_fail;
    if sum > 1.0 + TOLERANCE {
        section.problem("proportionSucceed", format!("and proportionFail sum to {}, more than 1", rounded(sum)));
    } else if section.get("proportionFail").is_some() && sum < 1.0 - TOLERANCE {
        let message = format!("and proportionSucceed sum to {}: all jobs that do not succeed fail", rounded(sum));
        section.warn("proportionFail", message);
    }
    transitions
}

fn queries(section: &Section<'_>) -> QueryConfig {
    let count = |name| section.count(name).unwrap_or_default();
    let config = QueryConfig {
        get_jobs_queries_per_hour: count("getJobsQueriesPerHour"),
        get_job_groups_queries_per_hour: count("getJobGroupsQueriesPerHour"),
        get_job_spec_queries_per_hour: count("getJobSpecQueriesPerHour"),
        get_job_run_error_queries_per_hour: count("getJobRunErrorQueriesPerHour"),
        get_job_run_debug_message_queries_per_hour: count("getJobRunDebugMessageQueriesPerHour"),
        get_jobs_page_size: positive(section, "getJobsPageSize", DEFAULT_PAGE_SIZE),
        get_job_groups_page_size: positive(section, "getJobGroupsPageSize", DEFAULT_PAGE_SIZE),
        max_concurrent_queries: count("maxConcurrentQueries"),
        max_errors_to_collect: positive(section, "maxErrorsToCollect", DEFAULT_ERRORS),
    };
    section.warn_of_unknown_keys();
    config
}

fn lookout_queries(section: &Section<'_>) -> LookoutQueryConfig {
    let count = |name| section.count(name).unwrap_or_default();
    let config = LookoutQueryConfig {
        active_job_sets_queries_per_hour: count("activeJobSetsQueriesPerHour"),
        contains_queries_per_hour: count("containsQueriesPerHour"),
        deep_offset_queries_per_hour: count("deepOffsetQueriesPerHour"),
        owner_queries_per_hour: count("ownerQueriesPerHour"),
        pool_queries_per_hour: count("poolQueriesPerHour"),
        deep_offset: positive(section, "deepOffset", DEFAULT_DEEP_OFFSET),
    };
    section.warn_of_unknown_keys();
    config
}

fn actions_of(section: &Section<'_>, name: &str, test_duration: Duration, queues: &[QueueConfig]) -> Vec<ActionConfig> {
    let action = |section: &Section<'_>| {
        let action = ActionConfig {
            perform_after_test_start_time: section.duration("performAfterTestStartTime").unwrap_or_default(),
            queue: section.required_text("queue"),
            job_set: section.required_text("jobSet"),
        };
        if action.perform_after_test_start_time > test_duration {
            section.problem("performAfterTestStartTime", "must not be after the end of the test");
        }
        match queues.iter().find(|queue| queue.name == action.queue) {
            None if action.queue.is_empty() => {}
            None => section.problem("queue", "must be a queue of queueConfig"),
            Some(queue) if queue.job_sets.iter().any(|set| set.name == action.job_set) => {}
            Some(_) if action.job_set.is_empty() => {}
            Some(_) => section.problem("jobSet", "must be a job set of the queue"),
        }
        section.warn_of_unknown_keys();
        action
    };
    section.sections(name).iter().map(action).collect()
}

fn objectives(root: &Section<'_>, name: &str) -> Vec<Objective> {
    let mut objectives = Vec::new();
    for text in root.texts(name) {
        match text.parse() {
            Ok(objective) => objectives.push(objective),
            Err(problem) => root.problem(name, format!("{text:?} {problem}")),
        }
    }
    objectives
}

fn stages(root: &Section<'_>, test_duration: Duration) -> Vec<StageConfig> {
    let stage = |section: &Section<'_>| {
        let duration = section.duration("duration").unwrap_or_default();
        if duration.is_zero() {
            section.problem("duration", "must be more than 0");
        }
        if section.get("rate").is_none() {
            section.problem("rate", "must be set");
        }
        section.warn_of_unknown_keys();
        StageConfig { duration, rate: section.number("rate", 0.0..=MAX_STAGE_RATE).unwrap_or_default() }
    };
    let stages: Vec<_> = root.sections("stages").iter().map(stage).collect();
    let sum = stages.iter().map(|stage| stage.duration).fold(Duration::ZERO, Duration::saturating_add);
    if !stages.is_empty() && sum.abs_diff(test_duration) > STAGES_TOLERANCE {
        let (sum, test) = (GoDuration(sum), GoDuration(test_duration));
        root.problem("stages", format!("must have durations that sum to testDuration ({test}), not to {sum}"));
    }
    stages
}

/// Warns of a run that does not have the load of jobs in all states: one that ends before jobs reach a state, or one
/// whose warm-up ends before the first jobs do, so that the rate of ingestion grows in the test.
fn warn_of_lives(root: &Section<'_>, config: &LoadConfig) {
    if config.ingestion.submissions_per_hour == 0 {
        return;
    }
    let stages = config.ingestion.transitions.stages();
    let horizon = config.warmup_duration.saturating_add(config.test_duration);
    if let Some((state, after)) = stages.iter().find(|(_, after)| *after >= horizon) {
        let (after, horizon) = (GoDuration(*after), GoDuration(horizon));
        let message = format!("takes {after} until a job {state}, but warm-up and test take {horizon}");
        root.section("ingestionConfig").warn("jobStateTransitionConfig", message);
    }
    let life = stages.last().map_or(Duration::ZERO, |&(_, after)| after);
    if config.warmup_duration < life {
        let life = GoDuration(life);
        let message =
            format!("is shorter than the life of a job ({life}): the rate of ingestion still grows in the test");
        root.warn("warmupDuration", message);
    }
}
