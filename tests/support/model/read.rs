//! Reads, which scan all jobs and evaluate the filters of the JSON one by one.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use broadside::model::{GroupAggregates, JobState, Run};
use broadside::scenario::{Filter, GetJobGroupsRequest, GetJobsRequest, GroupedField, Order};
use broadside::{Job, JobGroup, SmolStr, Timestamp};
use serde_json::Value;

use super::Store;
use super::ingest::is_active;
use super::validity::micros;

/// The sort key of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderKey {
    /// No sort key: any order is correct.
    Any,
    /// A string, compared by bytes.
    Text(SmolStr),
    /// A number, an ordinal or a time.
    Number(i64),
    /// A sum and the number of its summands: an average before rounding.
    Average(i128, i128),
}

impl Ord for OrderKey {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Any, Self::Any) => Ordering::Equal,
            (Self::Text(a), Self::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Self::Number(a), Self::Number(b)) => a.cmp(b),
            (Self::Average(sum_a, count_a), Self::Average(sum_b, count_b)) => (sum_a * count_b).cmp(&(sum_b * count_a)),
            _ => panic!("keys of one order are of one kind: {self:?}, {other:?}"),
        }
    }
}

impl PartialOrd for OrderKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The value of a field of a job.
#[derive(Debug)]
enum Cell {
    Text(SmolStr),
    Integer(i64),
    Time(Timestamp),
    State(JobState),
}

impl Cell {
    /// Compares the value with that of a filter, which has the right type.
    fn compare(&self, value: &Value) -> Ordering {
        match self {
            Self::Text(text) => text.as_bytes().cmp(value.as_str().unwrap().as_bytes()),
            Self::Integer(integer) => integer.cmp(&value.as_i64().unwrap()),
            Self::Time(time) => time.as_micros().cmp(&micros(value.as_str().unwrap()).unwrap()),
            Self::State(state) => state.name().cmp(value.as_str().unwrap()),
        }
    }

    fn bytes(&self) -> &[u8] {
        let Self::Text(text) = self else { panic!("{self:?} is not a string") };
        text.as_bytes()
    }

    fn passes(&self, matcher: &str, value: &Value) -> bool {
        let text = || value.as_str().unwrap().as_bytes();
        match matcher {
            "exists" => true,
            "exact" => self.compare(value).is_eq(),
            "anyOf" => value.as_array().unwrap().iter().any(|value| self.compare(value).is_eq()),
            "startsWith" => self.bytes().starts_with(text()),
            "contains" => text().is_empty() || self.bytes().windows(text().len()).any(|window| window == text()),
            "greaterThan" => self.compare(value).is_gt(),
            "lessThan" => self.compare(value).is_lt(),
            "greaterThanOrEqualTo" => self.compare(value).is_ge(),
            "lessThanOrEqualTo" => self.compare(value).is_le(),
            _ => panic!("{matcher:?} is not a match operator"),
        }
    }
}

impl Store {
    /// The ids of the jobs that a valid request selects, in its order and without its page, each with its sort key.
    pub fn ranked_jobs(&self, request: &GetJobsRequest) -> Vec<(OrderKey, SmolStr)> {
        let selected = self.selected(&request.filters, request.active_job_sets).into_iter();
        let mut rows: Vec<_> = selected.map(|job| (job_key(job, &request.order), job.job_id.clone())).collect();
        sort(&mut rows, &request.order);
        rows
    }

    /// Existing jobs with their runs.
    pub fn jobs(&self, ids: &[SmolStr], now: Timestamp) -> Vec<Job> {
        let mut runs: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
        for stored in self.runs.values() {
            runs.entry(&stored.job_id).or_default().push(&stored.run);
        }
        let runs_of = |id: &SmolStr| runs.get(id.as_str()).map_or(&[][..], Vec::as_slice);
        ids.iter().map(|id| with_runs(&self.jobs[id.as_str()], runs_of(id), now)).collect()
    }

    /// The groups of a valid request, in its order and without its page, each with its sort key.
    pub fn ranked_groups(&self, request: &GetJobGroupsRequest) -> Vec<(OrderKey, JobGroup)> {
        let mut members: BTreeMap<SmolStr, Vec<&Job>> = BTreeMap::new();
        for job in self.selected(&request.filters, request.active_job_sets) {
            if let Some(name) = self.group_name(job, &request.grouped_field) {
                members.entry(name).or_default().push(job);
            }
        }
        let mut rows: Vec<_> = members
            .into_iter()
            .map(|(name, jobs)| (group_key(&name, &jobs, request), group(name, &jobs, request)))
            .collect();
        if request.grouped_field.field == "state" && !request.grouped_field.is_annotation {
            // Ties are ordered by ordinal, not by name.
            rows.sort_by_key(|(_, group)| group.name.parse::<JobState>().unwrap().ordinal());
        }
        sort(&mut rows, &request.order);
        rows
    }

    fn selected(&self, filters: &[Filter], active_job_sets: bool) -> Vec<&Job> {
        let active: BTreeSet<_> =
            self.jobs.values().filter(|job| is_active(job.state)).map(|job| (&job.queue, &job.job_set)).collect();
        self.jobs
            .values()
            .filter(|job| !active_job_sets || active.contains(&(&job.queue, &job.job_set)))
            .filter(|job| filters.iter().all(|filter| self.holds(job, filter)))
            .collect()
    }

    fn holds(&self, job: &Job, filter: &Filter) -> bool {
        let cell = if filter.is_annotation {
            job.annotations.get(&filter.field).cloned().map(Cell::Text)
        } else {
            self.cell(job, &filter.field)
        };
        cell.is_some_and(|cell| cell.passes(&filter.matcher, &filter.value))
    }

    /// The value of a field; `None` if it is null.
    fn cell(&self, job: &Job, field: &str) -> Option<Cell> {
        let latest_run = || Some(&self.runs.get(job.last_active_run_id.as_deref()?)?.run);
        match field {
            "jobId" => Some(Cell::Text(job.job_id.clone())),
            "queue" => Some(Cell::Text(job.queue.clone())),
            "jobSet" => Some(Cell::Text(job.job_set.clone())),
            "owner" => Some(Cell::Text(job.owner.clone())),
            "namespace" => job.namespace.clone().map(Cell::Text),
            "priorityClass" => job.priority_class.clone().map(Cell::Text),
            "cluster" => latest_run().map(|run| Cell::Text(run.cluster.clone())),
            "node" => latest_run()?.node.clone().map(Cell::Text),
            "pool" => latest_run()?.pool.clone().map(Cell::Text),
            "state" => Some(Cell::State(job.state)),
            "cpu" => Some(Cell::Integer(job.cpu)),
            "memory" => Some(Cell::Integer(job.memory)),
            "ephemeralStorage" => Some(Cell::Integer(job.ephemeral_storage)),
            "gpu" => Some(Cell::Integer(job.gpu)),
            "priority" => Some(Cell::Integer(job.priority)),
            "submitted" => Some(Cell::Time(job.submitted)),
            "lastTransitionTime" => Some(Cell::Time(job.last_transition_time)),
            _ => panic!("{field:?} is not a field"),
        }
    }

    /// The name of the group of a job; `None` if it is in none.
    fn group_name(&self, job: &Job, grouped: &GroupedField) -> Option<SmolStr> {
        if grouped.is_annotation {
            return job.annotations.get(&grouped.field).cloned();
        }
        match self.cell(job, &grouped.field) {
            Some(Cell::Text(text)) => Some(text),
            Some(Cell::State(state)) => Some(state.name().into()),
            Some(cell) => panic!("jobs cannot be grouped by {cell:?}"),
            None => Some(SmolStr::default()),
        }
    }
}

fn with_runs(job: &Job, runs: &[&Run], now: Timestamp) -> Job {
    let mut job = job.clone();
    job.runs = runs.iter().map(|&run| run.clone()).collect();
    job.runs.sort_by_key(|run| (run.leased.or(run.pending), run.run_id.clone()));
    if let Some(last) = job.runs.last() {
        job.node = last.node.clone();
        job.cluster = last.cluster.clone();
        job.pool = last.pool.clone();
        job.exit_code = last.exit_code;
        if let Some(started) = last.started {
            let micros = last.finished.unwrap_or(now).as_micros() - started.as_micros();
            job.runtime_seconds = rounded_quotient(micros.into(), 1_000_000);
        }
    }
    job
}

fn job_key(job: &Job, order: &Order) -> OrderKey {
    match order.field.as_str() {
        "" => OrderKey::Any,
        "jobId" => OrderKey::Text(job.job_id.clone()),
        "queue" => OrderKey::Text(job.queue.clone()),
        "jobSet" => OrderKey::Text(job.job_set.clone()),
        "state" => OrderKey::Number(job.state.ordinal().into()),
        "submitted" => OrderKey::Number(job.submitted.as_micros()),
        "lastTransitionTime" => OrderKey::Number(whole_second(job.last_transition_time)),
        field => panic!("jobs cannot be ordered by {field:?}"),
    }
}

fn group_key(name: &str, jobs: &[&Job], request: &GetJobGroupsRequest) -> OrderKey {
    let grouped = &request.grouped_field;
    match request.order.field.as_str() {
        "" if request.order.direction.is_empty() => OrderKey::Any,
        "count" => OrderKey::Number(jobs.len().try_into().unwrap()),
        "submitted" => OrderKey::Number(earliest_submission(jobs).as_micros()),
        "lastTransitionTime" => {
            let (sum, count) = transition_time(jobs, grouped);
            OrderKey::Average(sum, count)
        }
        _ if grouped.field == "state" && !grouped.is_annotation => {
            OrderKey::Number(name.parse::<JobState>().unwrap().ordinal().into())
        }
        _ => OrderKey::Text(name.into()),
    }
}

fn group(name: SmolStr, jobs: &[&Job], request: &GetJobGroupsRequest) -> JobGroup {
    let mut aggregates = GroupAggregates::default();
    for aggregate in &request.aggregates {
        match aggregate.as_str() {
            "state" => {
                let count = |state| jobs.iter().filter(|job| job.state == state).count() as u64;
                let states = JobState::ALL.into_iter().filter(|&state| admits(&request.filters, state));
                aggregates.state = Some(states.map(|state| (state, count(state))).collect());
            }
            "submitted" => aggregates.submitted = Some(earliest_submission(jobs)),
            "lastTransitionTime" => {
                let (sum, count) = transition_time(jobs, &request.grouped_field);
                aggregates.last_transition_time = Some(Timestamp::from_seconds(rounded_quotient(sum, count)));
            }
            _ => panic!("{aggregate:?} is not an aggregate"),
        }
    }
    JobGroup { name, count: jobs.len() as u64, aggregates }
}

/// Whether the filters on the state admit a state.
fn admits(filters: &[Filter], state: JobState) -> bool {
    filters
        .iter()
        .filter(|filter| filter.field == "state" && !filter.is_annotation)
        .all(|filter| Cell::State(state).passes(&filter.matcher, &filter.value))
}

fn earliest_submission(jobs: &[&Job]) -> Timestamp {
    jobs.iter().map(|job| job.submitted).min().unwrap()
}

/// The aggregate of the transition times as a sum and the number of its summands.
fn transition_time(jobs: &[&Job], grouped: &GroupedField) -> (i128, i128) {
    let seconds = || jobs.iter().map(|job| i128::from(whole_second(job.last_transition_time)));
    match grouped.last_transition_time_aggregate.as_str() {
        "" | "average" => (seconds().sum(), jobs.len() as i128),
        "earliest" => (seconds().min().unwrap(), 1),
        "latest" => (seconds().max().unwrap(), 1),
        other => panic!("{other:?} is not an aggregate of times"),
    }
}

fn whole_second(time: Timestamp) -> i64 {
    time.as_micros().div_euclid(1_000_000)
}

/// The quotient, rounded half away from zero.
fn rounded_quotient(dividend: i128, divisor: i128) -> i64 {
    let magnitude = (2 * dividend.abs() + divisor) / (2 * divisor);
    (dividend.signum() * magnitude).try_into().unwrap()
}

/// Sorts by the key. The sort is stable.
fn sort<T>(rows: &mut [(OrderKey, T)], order: &Order) {
    match order.direction.as_str() {
        "DESC" => rows.sort_by(|(a, _), (b, _)| b.cmp(a)),
        _ => rows.sort_by(|(a, _), (b, _)| a.cmp(b)),
    }
}
