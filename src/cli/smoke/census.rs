//! Comparison of the store's group counts with the generated jobs.

use std::collections::BTreeMap;

use broadside::measure::LatencyHistogram;
use broadside::query::GroupField;
use broadside::workload::{GeneratedJob, Workload};
use broadside::{Database, GroupQuery, JobGroup};

use super::summary::{Row, Tally};
use crate::cli::messages;

/// Counts by group name.
type Counts = BTreeMap<String, u64>;

/// A grouped field, and the group of a job.
type Grouping = (GroupField, fn(&GeneratedJob) -> String);

const GROUPINGS: [Grouping; 5] = [
    (GroupField::Queue, |job| job.new.queue.clone()),
    (GroupField::JobSet, |job| job.new.job_set.clone()),
    (GroupField::Namespace, |job| job.new.namespace.clone().unwrap_or_default()),
    (GroupField::State, |job| job.state.name().to_owned()),
    (GroupField::Node, |job| job.runs.last().map(|run| run.node.clone()).unwrap_or_default()),
];

/// The number of jobs after which a signal can interrupt the census.
const JOBS_BETWEEN_SIGNALS: usize = 10_000;

/// Compares the store's group counts with those of the workload.
pub async fn check(database: &dyn Database, workload: &Workload) -> Row {
    let mut counts = GROUPINGS.map(|_| Counts::new());
    for (number, job) in workload.jobs().enumerate() {
        if number % JOBS_BETWEEN_SIGNALS == 0 {
            tokio::task::yield_now().await;
        }
        for ((_, name), counts) in GROUPINGS.iter().zip(&mut counts) {
            *counts.entry(name(&job)).or_default() += 1;
        }
    }
    let mut tally = Tally::default();
    for ((field, _), expected) in GROUPINGS.iter().zip(counts) {
        let groups = groups(database, *field).await;
        if let Err(problem) = groups.and_then(|groups| compare(&expected, groups)) {
            messages::problem(format_args!("groups by {field}: {problem}"));
            tally.count(false);
        } else {
            tally.count(true);
        }
    }
    Row { name: "counts of the generated jobs".to_owned(), tally, rows: None, latencies: LatencyHistogram::default() }
}

async fn groups(database: &dyn Database, field: GroupField) -> Result<Vec<JobGroup>, String> {
    database.get_job_groups(&GroupQuery::by(field)).await.map_err(|error| error.to_string())
}

/// Returns the first group whose count differs.
fn compare(expected: &Counts, groups: Vec<JobGroup>) -> Result<(), String> {
    let listed = groups.len();
    let counts: Counts = groups.into_iter().map(|group| (group.name.into(), group.count)).collect();
    if counts.len() != listed {
        return Err(format!("{listed} groups have {} distinct names", counts.len()));
    }
    let names = expected.keys().chain(counts.keys());
    let count = |counts: &Counts, name| counts.get(name).copied().unwrap_or_default();
    match names.map(|name| (name, count(expected, name), count(&counts, name))).find(|(_, a, b)| a != b) {
        Some((name, expected, got)) => Err(format!("group {name:?} has {got} jobs, expected {expected}")),
        None => Ok(()),
    }
}
