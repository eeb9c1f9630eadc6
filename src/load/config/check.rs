//! Checks of a configuration that concern more than one value, and the defaults that replace 0.

use std::time::Duration;

use super::types::{ActionConfig, HistoricalJobsConfig, LoadConfig, TransitionConfig};
use super::value::Value;
use crate::historical::HistoricalJobs;
use crate::load::duration::GoDuration;
use crate::time::{Clock, SystemClock};

/// The tolerance of sums of proportions.
const TOLERANCE: f64 = 0.001;
/// The tolerance of the sum of the stages' durations.
const STAGES_TOLERANCE: Duration = Duration::from_millis(1);
/// The maximum number of queues, and of job sets of a queue: job ids have two base 32 digits for the index.
const MAX_ENTRIES: usize = 1024;

/// Replaces 0 by the defaults.
pub(super) fn set_defaults(config: &mut LoadConfig) {
    let (ingestion, queries) = (&mut config.ingestion, &mut config.queries);
    let defaults = [
        (&mut ingestion.num_workers, 1),
        (&mut ingestion.channel_buffer_size_multiplier, 10),
        (&mut ingestion.historical_job_chunk_size, 500_000),
        (&mut ingestion.historical_job_workers, 1),
        (&mut queries.get_jobs_page_size, 100),
        (&mut queries.get_job_groups_page_size, 100),
        (&mut queries.max_errors_to_collect, 2000),
        (&mut config.lookout_queries.deep_offset, 10_000),
    ];
    for (value, default) in defaults {
        if *value == 0 {
            *value = default;
        }
    }
}

/// Reports the problems of a configuration that was read from a value.
pub(super) fn check(root: &Value<'_>, config: &LoadConfig) {
    if config.test_duration.is_zero() {
        root.key("testDuration").problem("must be more than 0");
    }
    check_queues(&root.key("queueConfig"), config);
    let ingestion = root.key("ingestionConfig");
    if config.ingestion.batch_size == 0 {
        ingestion.key("batchSize").problem("must be more than 0");
    }
    check_transitions(&ingestion.key("jobStateTransitionConfig"), &config.ingestion.transitions);
    let actions = root.key("actionsConfig");
    check_actions(&actions.key("jobSetReprioritisations"), &config.actions.job_set_reprioritisations, config);
    check_actions(&actions.key("jobSetCancellations"), &config.actions.job_set_cancellations, config);
    check_stages(&root.key("stages"), config);
    warn_of_lives(root, config);
}

fn check_queues(queues: &Value<'_>, config: &LoadConfig) {
    check_entries(queues, config.queues.iter().map(|queue| (queue.name.as_str(), queue.proportion)));
    for (index, queue) in config.queues.iter().enumerate() {
        let job_sets = queues.index(index).key("jobSetConfig");
        check_entries(&job_sets, queue.job_sets.iter().map(|set| (set.name.as_str(), set.proportion)));
        for (index, set) in queue.job_sets.iter().enumerate() {
            check_historical(&job_sets.index(index).key("historicalJobsConfig"), &set.historical);
        }
    }
    // The validation of the library refuses, for example, ages that precede the earliest valid time.
    for jobs in config.historical_jobs(SystemClock.now()) {
        let job_sets = queues.index(jobs.queue_idx as usize).key("jobSetConfig");
        let section = job_sets.index(jobs.job_set_idx as usize).key("historicalJobsConfig");
        if jobs.queue_name.is_empty() || jobs.job_set_name.is_empty() {
            continue;
        }
        if let Err(error) = HistoricalJobs::try_from(jobs) {
            section.problem(format!("cannot be used: {}", error.message()));
        }
    }
}

/// Checks a list of queues or job sets by their names and proportions.
fn check_entries<'a>(list: &Value<'_>, entries: impl ExactSizeIterator<Item = (&'a str, f64)>) {
    let (mut names, proportions): (Vec<_>, Vec<_>) = entries.unzip();
    if names.is_empty() {
        return list.problem("must have at least one entry");
    }
    if names.len() > MAX_ENTRIES {
        list.problem(format!("must have at most {MAX_ENTRIES} entries"));
    }
    let sum: f64 = proportions.into_iter().sum();
    if (sum - 1.0).abs() > TOLERANCE {
        list.problem(format!("must have proportions that sum to 1, not to {}", rounded(sum)));
    }
    for (index, _) in names.iter().enumerate().filter(|(_, name)| name.is_empty()) {
        list.index(index).key("name").problem("must not be empty");
    }
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1] && !pair[0].is_empty()) {
        list.problem(format!("must have distinct names, but {:?} is repeated", twice[0]));
    }
}

fn rounded(sum: f64) -> f64 {
    (sum * 1e6).round() / 1e6
}

fn check_historical(section: &Value<'_>, jobs: &HistoricalJobsConfig) {
    let sum =
        jobs.proportion_succeeded + jobs.proportion_errored + jobs.proportion_cancelled + jobs.proportion_preempted;
    let first = section.key("proportionSucceeded");
    if sum > 1.0 + TOLERANCE {
        first.problem(format!("and the other three sum to {}, more than 1", rounded(sum)));
    } else if jobs.number_of_jobs > 0 && sum < 1.0 - TOLERANCE {
        first.warn(format!("and the other three sum to {}: all other jobs are preempted", rounded(sum)));
    }
}

fn check_transitions(section: &Value<'_>, transitions: &TransitionConfig) {
    let sum = transitions.proportion_succeed + transitions.proportion_fail;
    let fail = section.key("proportionFail");
    if sum > 1.0 + TOLERANCE {
        let message = format!("and proportionFail sum to {}, more than 1", rounded(sum));
        section.key("proportionSucceed").problem(message);
    } else if fail.is_set() && sum < 1.0 - TOLERANCE {
        fail.warn(format!("and proportionSucceed sum to {}: all jobs that do not succeed fail", rounded(sum)));
    }
}

fn check_actions(list: &Value<'_>, actions: &[ActionConfig], config: &LoadConfig) {
    for (index, action) in actions.iter().enumerate() {
        let section = list.index(index);
        if action.perform_after_test_start_time > config.test_duration {
            section.key("performAfterTestStartTime").problem("must not be after the end of the test");
        }
        let (queue, job_set) = (section.key("queue"), section.key("jobSet"));
        for (value, name) in [(&queue, &action.queue), (&job_set, &action.job_set)] {
            if name.is_empty() {
                value.problem("must not be empty");
            }
        }
        match config.queues.iter().find(|queue| queue.name == action.queue) {
            None if action.queue.is_empty() => {}
            None => queue.problem("must be a queue of queueConfig"),
            Some(queue) if queue.job_sets.iter().any(|set| set.name == action.job_set) => {}
            Some(_) if action.job_set.is_empty() => {}
            Some(_) => job_set.problem("must be a job set of the queue"),
        }
    }
}

fn check_stages(list: &Value<'_>, config: &LoadConfig) {
    for (index, stage) in config.stages.iter().enumerate() {
        let section = list.index(index);
        if stage.duration.is_zero() {
            section.key("duration").problem("must be more than 0");
        }
        if !section.key("rate").is_set() {
            section.key("rate").problem("must be set");
        }
    }
    let sum = config.stages.iter().map(|stage| stage.duration).fold(Duration::ZERO, Duration::saturating_add);
    if !config.stages.is_empty() && sum.abs_diff(config.test_duration) > STAGES_TOLERANCE {
        let (sum, test) = (GoDuration(sum), GoDuration(config.test_duration));
        list.problem(format!("must have durations that sum to testDuration ({test}), not to {sum}"));
    }
}

/// Warns of a run that does not have the load of jobs in all states: one that ends before jobs reach a state, or one
/// whose warm-up ends before the first jobs do, so that the rate of ingestion grows in the test.
fn warn_of_lives(root: &Value<'_>, config: &LoadConfig) {
    if config.ingestion.submissions_per_hour == 0 {
        return;
    }
    let stages = config.ingestion.transitions.stages();
    let horizon = config.warmup_duration.saturating_add(config.test_duration);
    if let Some((state, after)) = stages.iter().find(|(_, after)| *after >= horizon) {
        let (after, horizon) = (GoDuration(*after), GoDuration(horizon));
        let message = format!("takes {after} until a job {state}, but warm-up and test take {horizon}");
        root.key("ingestionConfig").key("jobStateTransitionConfig").warn(message);
    }
    let life = stages.last().map_or(Duration::ZERO, |&(_, after)| after);
    if config.warmup_duration < life {
        let life = GoDuration(life);
        let message =
            format!("is shorter than the life of a job ({life}): the rate of ingestion still grows in the test");
        root.key("warmupDuration").warn(message);
    }
}
