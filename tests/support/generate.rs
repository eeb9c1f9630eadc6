//! Random queries and requests with few distinct ids and values, so that they affect each other.
//!
//! Most are valid; some exceed a limit or contain unknown names.

use std::collections::BTreeMap;
use std::ops::Range;

use broadside::ingest::*;
use broadside::scenario::{Call, Filter, GetJobGroupsRequest, GetJobsRequest, GroupedField, Match, Order};
use broadside::{HistoricalJobsParams, JobState, Timestamp};
use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Reason, TestRunner};
use serde_json::{Value, json};

/// The ids of jobs; one is that of a historical job.
pub const JOB_IDS: [&str; 6] = ["a", "000000000000000000", "b", "c", "d", "\u{e9}"];
/// The ids of runs; one is that of a historical job's run.
pub const RUN_IDS: [&str; 6] = ["r", "00000000000000000000", "s", "t", "u", "R"];
const TEXTS: [&str; 14] = [
    "q",
    "Q",
    "q%",
    "s",
    "s_",
    "s_t",
    "x\\",
    "\u{e9}",
    "e\u{301}",
    "hq",
    "general-purpose",
    "broadside-cluster-1",
    "1",
    "2",
];
const KEYS: [&str; 7] = ["k", "K", "queue", "count", "submitted", "", "example.com/broadside-alpha"];
const TEXT_FIELDS: [&str; 9] =
    ["jobId", "queue", "jobSet", "owner", "namespace", "priorityClass", "cluster", "node", "pool"];
const INTEGER_FIELDS: [&str; 5] = ["cpu", "memory", "ephemeralStorage", "gpu", "priority"];
const TIME_FIELDS: [&str; 2] = ["submitted", "lastTransitionTime"];
const GROUP_FIELDS: [&str; 8] = ["queue", "jobSet", "owner", "namespace", "state", "cluster", "node", "pool"];
const ORDER_FIELDS: [&str; 6] = ["jobId", "queue", "jobSet", "state", "submitted", "lastTransitionTime"];

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    select(texts).prop_map(str::to_owned)
}

fn job_id() -> impl Strategy<Value = String> {
    // Half of all queries affect the same job, so that it goes through many states.
    prop_oneof![200 => Just("a".to_owned()), 200 => one_of(&JOB_IDS), 1 => Just(String::new()), 1 => Just("x".repeat(33))]
}

fn run_id() -> impl Strategy<Value = String> {
    prop_oneof![100 => Just("r".to_owned()), 300 => one_of(&RUN_IDS), 1 => Just("a\0".to_owned())]
}

fn text() -> impl Strategy<Value = String> {
    one_of(&TEXTS)
}

fn maybe_text() -> impl Strategy<Value = Option<String>> {
    option::of(prop_oneof![1 => Just(String::new()), 3 => text()])
}

fn integer() -> impl Strategy<Value = i64> {
    select(&[0, 1, 2, -1, 1 << 40, i64::MAX, i64::MIN][..])
}

fn micros() -> impl Strategy<Value = i64> {
    let seconds = select(&[-2, -1, 0, 1, 2, 1_800_000_000, -2_208_988_800, 10_413_791_999][..]);
    let fraction = select(&[0, 1, 499_999, 500_000, 999_999][..]);
    (seconds, fraction).prop_map(|(second, micros): (i64, i64)| second * 1_000_000 + micros)
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![300 => micros().prop_map(Timestamp::from_micros), 1 => Just(Timestamp::from_seconds(10_413_792_000))]
}

fn message() -> impl Strategy<Value = Option<Bytes>> {
    let bytes = select(vec![b"".as_slice(), b"e", b"f", b"\xff", b"a\0b"]);
    option::of(bytes.prop_map(Bytes::from_static))
}

fn spec() -> impl Strategy<Value = Option<Bytes>> {
    let valid = select(vec![b"".as_slice(), b"\x0a\x01a", b"\x0a\x01b", b"\x0a\x00", b"\xa0\x06\x01\x0a\x01c"]);
    let bytes = prop_oneof![60 => valid, 1 => Just(b"\x08\x01".as_slice())];
    option::of(bytes.prop_map(Bytes::from_static))
}

fn annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(one_of(&KEYS), prop_oneof![1 => Just(String::new()), 4 => text()], 0..4)
}

/// A store with many jobs, by number.
#[derive(Debug, Clone, Copy)]
pub struct ManyJobs {
    /// The number of jobs.
    pub count: u32,
    /// Whether ids, submission times and job sets ascend with the numbers, as they roughly do in a cluster. Otherwise
    /// they are scattered.
    pub in_order: bool,
}

impl ManyJobs {
    fn job(self, i: u32) -> String {
        if self.in_order { format!("{i:08}") } else { format!("{:08x}", i.wrapping_mul(0x9e37_79b1)) }
    }

    fn run(self, i: u32) -> String {
        format!("{}-r", self.job(i))
    }

    /// The submission time of a job, if the jobs are in order.
    fn submitted(self, i: u32) -> Timestamp {
        Timestamp::from_micros(i64::from(i) * 700_001)
    }

    /// A batch that inserts some of the jobs, most with a run.
    fn inserts(self, numbers: Range<u32>) -> impl Strategy<Value = Vec<IngestionQuery>> {
        let one = (new_job(), spec(), option::weighted(0.8, (text(), maybe_text(), maybe_text(), time())));
        vec(one, numbers.len()).prop_map(move |rows| {
            let queries = numbers.clone().zip(rows).flat_map(|(i, (mut job, job_spec, run))| {
                job.job_id = self.job(i);
                if self.in_order {
                    job.submitted = self.submitted(i);
                    job.job_set = format!("set-{}", i / 500);
                }
                let run = run.map(|(cluster, node, pool, time)| {
                    let (job_run_id, job_id) = (self.run(i), self.job(i));
                    InsertJobRun { job_run_id, job_id, cluster, node, pool, time, submitted: None }.into()
                });
                let spec = InsertJobSpec { job_id: job.job_id.clone(), job_spec, submitted: None }.into();
                job.submitted = job.submitted.min(Timestamp::from_seconds(10_413_791_999));
                [InsertJob { job, job_spec: None }.into(), spec].into_iter().chain(run)
            });
            only_valid(queries.collect())
        })
    }

    /// Reads at the boundaries of chunks: every order from different offsets, and every comparison with a time at which
    /// a chunk may end.
    fn reads_at_seams(self) -> Vec<GetJobsRequest> {
        let count = i64::from(self.count);
        let orders = ORDER_FIELDS.iter().flat_map(|&field| [Order::ascending(field), Order::descending(field)]);
        let skips = [0, 1_000, count / 4, count / 2, count / 2 + 17, count - 9];
        let pages = orders.flat_map(|order| {
            skips.map(|skip| GetJobsRequest { order: order.clone(), skip, take: 20, ..Default::default() })
        });
        let seams = (0..self.count).step_by(2_048).flat_map(|i| [i.saturating_sub(1), i]).chain([self.count - 1]);
        let comparisons = seams.flat_map(|i| {
            COMPARISONS.map(|matcher| {
                let filters = vec![is("submitted", &matcher, json!(self.submitted(i).to_string()))];
                let order = if i % 2 == 0 { Order::ascending("jobId") } else { Order::descending("submitted") };
                GetJobsRequest { filters, order, take: 5, ..Default::default() }
            })
        });
        pages.chain(comparisons).collect()
    }

    /// A batch of updates of scattered jobs.
    fn updates(self) -> impl Strategy<Value = Vec<IngestionQuery>> {
        let jobs = move || (0..self.count).prop_map(move |i| self.job(i));
        let runs = move || (0..self.count).prop_map(move |i| self.run(i));
        vec(prop_oneof![job_update(jobs(), runs()), run_update(runs())], 400).prop_map(only_valid)
    }

    /// A page with any offset.
    fn page(self) -> impl Strategy<Value = (i64, i64)> {
        let last = i64::from(self.count);
        let skip = prop_oneof![4 => Just(0), 2 => 0..100_i64, 3 => 0..last, 1 => last - 20..last];
        (skip, 1..60_i64)
    }

    /// Calls on a store with these jobs, always the same: rounds of updates, each followed by reads.
    pub fn calls(self, rounds: usize) -> Result<Vec<Call>, Reason> {
        let mut random = TestRunner::deterministic();
        let mut calls = vec![Call::InitialiseSchema, Call::TearDown];
        for first in (0..self.count).step_by(2_500) {
            let inserts = self.inserts(first..self.count.min(first + 2_500));
            calls.push(Call::Ingest { queries: inserts.new_tree(&mut random)?.current() });
        }
        calls.extend(self.reads_at_seams().into_iter().map(Call::GetJobs));
        for _ in 0..rounds {
            calls.push(Call::Ingest { queries: self.updates().new_tree(&mut random)?.current() });
            for _ in 0..12 {
                let mut request = jobs_request().new_tree(&mut random)?.current();
                (request.skip, request.take) = self.page().new_tree(&mut random)?.current();
                calls.push(Call::GetJobs(request));
            }
            for _ in 0..6 {
                calls.push(Call::GetJobGroups(groups_request().new_tree(&mut random)?.current()));
            }
        }
        Ok(calls)
    }
}

fn new_job() -> impl Strategy<Value = NewJob> {
    let names = (job_id(), text(), text(), text(), maybe_text(), maybe_text());
    let numbers = (integer(), integer(), integer(), integer(), integer());
    (names, numbers, time(), annotations()).prop_map(|(names, numbers, submitted, annotations)| {
        let (job_id, queue, job_set, owner, namespace, priority_class) = names;
        let (priority, cpu, memory, ephemeral_storage, gpu) = numbers;
        NewJob {
            job_id,
            queue,
            job_set,
            owner,
            namespace,
            priority,
            priority_class,
            submitted,
            cpu,
            memory,
            ephemeral_storage,
            gpu,
            annotations,
        }
    })
}

/// Any of the 19 queries.
fn query() -> impl Strategy<Value = IngestionQuery> {
    prop_oneof![5 => insert(), 7 => job_update(job_id(), run_id()), 6 => run_update(run_id())]
}

/// Removes invalid queries, because one of them would make a large batch invalid.
fn only_valid(mut queries: Vec<IngestionQuery>) -> Vec<IngestionQuery> {
    queries.retain(|query| IngestionBatch::new([query.clone()]).is_ok());
    queries
}

fn insert() -> impl Strategy<Value = IngestionQuery> {
    let run = (run_id(), job_id(), text(), maybe_text(), maybe_text(), time(), option::of(time()));
    prop_oneof![
        4 => (new_job(), spec()).prop_map(|(job, job_spec)| InsertJob { job, job_spec }.into()),
        1 => (job_id(), spec()).prop_map(|(job_id, job_spec)| InsertJobSpec { job_id, job_spec, submitted: None }.into()),
        1 => (job_id(), message()).prop_map(|(job_id, error)| InsertJobError { job_id, error, submitted: None }.into()),
        3 => run.prop_map(|(job_run_id, job_id, cluster, node, pool, time, submitted)| {
            InsertJobRun { job_run_id, job_id, cluster, node, pool, time, submitted }.into()
        }),
    ]
}

fn job_update(
    jobs: impl Strategy<Value = String>,
    runs: impl Strategy<Value = String>,
) -> impl Strategy<Value = IngestionQuery> {
    let common = (jobs, time(), option::of(time()));
    let kinds = select(vec![0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 8]);
    (kinds, common, runs, integer(), maybe_text(), maybe_text()).prop_map(
        |(kind, (job_id, time, submitted), run_id, priority, cancel_reason, cancel_user)| match kind {
            0 => UpdateJobPriority { job_id, priority, submitted }.into(),
            1 => SetJobLeased { job_id, time, run_id, submitted }.into(),
            2 => SetJobPending { job_id, time, run_id, submitted }.into(),
            3 => SetJobRunning { job_id, time, latest_run_id: run_id, submitted }.into(),
            4 => SetJobSucceeded { job_id, time, submitted }.into(),
            5 => SetJobErrored { job_id, time, submitted }.into(),
            6 => SetJobRejected { job_id, time, submitted }.into(),
            7 => SetJobPreempted { job_id, time, submitted }.into(),
            _ => SetJobCancelled { job_id, time, cancel_reason, cancel_user, submitted }.into(),
        },
    )
}

fn run_update(runs: impl Strategy<Value = String>) -> impl Strategy<Value = IngestionQuery> {
    let common = (runs, time(), option::of(time()));
    let exit_code = select(&[0, 1, -1, i32::MAX, i32::MIN][..]);
    (0..6, common, maybe_text(), message(), message(), exit_code).prop_map(
        |(kind, (job_run_id, time, submitted), node, error, debug, exit_code)| match kind {
            0 => SetJobRunPending { job_run_id, time, submitted }.into(),
            1 => SetJobRunStarted { job_run_id, time, node, submitted }.into(),
            2 => SetJobRunSucceeded { job_run_id, time, exit_code, submitted }.into(),
            3 => SetJobRunFailed { job_run_id, time, error, debug, exit_code, submitted }.into(),
            4 => SetJobRunCancelled { job_run_id, time, submitted }.into(),
            _ => SetJobRunPreempted { job_run_id, time, error, submitted }.into(),
        },
    )
}

/// Batches after which jobs are in different states.
pub fn history() -> impl Strategy<Value = Vec<Vec<IngestionQuery>>> {
    (population(), vec(batch(), 0..3)).prop_map(|(first, rest)| std::iter::once(first).chain(rest).collect())
}

/// A batch that inserts a job and a run for each id.
fn population() -> impl Strategy<Value = Vec<IngestionQuery>> {
    let jobs = vec((new_job(), spec()), 1..=JOB_IDS.len());
    let runs = vec((one_of(&JOB_IDS), text(), maybe_text(), maybe_text(), time()), 0..=RUN_IDS.len());
    (jobs, runs).prop_map(|(jobs, runs)| {
        let jobs = jobs.into_iter().zip(JOB_IDS).map(|((mut job, job_spec), id)| {
            job.job_id = id.to_owned();
            InsertJob { job, job_spec }.into()
        });
        let runs = runs.into_iter().zip(RUN_IDS).map(|((job_id, cluster, node, pool, time), id)| {
            InsertJobRun { job_run_id: id.to_owned(), job_id, cluster, node, pool, time, submitted: None }.into()
        });
        jobs.chain(runs).collect()
    })
}

/// Calls on a store, which is mostly not empty at the beginning.
pub fn calls() -> impl Strategy<Value = Vec<Call>> {
    let first = population().prop_map(|queries| Call::Ingest { queries });
    (option::weighted(0.9, first), vec(call(), 1..16)).prop_map(|(first, rest)| first.into_iter().chain(rest).collect())
}

/// A batch of queries.
pub fn batch() -> impl Strategy<Value = Vec<IngestionQuery>> {
    vec(query(), 0..20)
}

fn is(field: impl Into<String>, matcher: &Match, value: Value) -> Filter {
    Filter::new(field, *matcher, value)
}

fn text_value() -> impl Strategy<Value = String> {
    let odd = one_of(&["", "%", "_", "\\", "q\0", "a", "c", "000000000000000001", "br", "f", "00"]);
    prop_oneof![3 => text(), 2 => odd]
}

fn text_match() -> impl Strategy<Value = (Match, Value)> {
    prop_oneof![
        text_value().prop_map(|value| (Match::Exact, json!(value))),
        vec(text_value(), 0..4).prop_map(|values| (Match::AnyOf, json!(values))),
        text_value().prop_map(|value| (Match::StartsWith, json!(value))),
        text_value().prop_map(|value| (Match::Contains, json!(value))),
    ]
}

const COMPARISONS: [Match; 5] =
    [Match::Exact, Match::GreaterThan, Match::LessThan, Match::GreaterThanOrEqualTo, Match::LessThanOrEqualTo];

fn comparison() -> impl Strategy<Value = Match> {
    select(&COMPARISONS[..])
}

fn state_name() -> impl Strategy<Value = &'static str> {
    select(&JobState::ALL[..]).prop_map(JobState::name)
}

/// A filter, mostly a valid one.
pub fn filter() -> impl Strategy<Value = Filter> {
    let far_time =
        one_of(&["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z", "1970-01-01T01:00:00.0000009+01:00"]);
    let any_time =
        prop_oneof![4 => micros().prop_map(|micros| Timestamp::from_micros(micros).to_string()), 1 => far_time];
    let odd_value =
        prop_oneof![Just(Value::Null), Just(json!(1.0)), Just(json!([1])), text_value().prop_map(Value::from)];
    let any_field = one_of(&["queue", "state", "cpu", "submitted", "nope", "k"]);
    prop_oneof![
        16 => (one_of(&TEXT_FIELDS), text_match()).prop_map(|(field, (matcher, value))| is(field, &matcher, value)),
        2 => state_name().prop_map(|state| is("state", &Match::Exact, json!(state))),
        4 => vec(state_name(), 0..6).prop_map(|states| is("state", &Match::AnyOf, json!(states))),
        4 => (one_of(&INTEGER_FIELDS), comparison(), integer()).prop_map(|(field, matcher, value)| is(field, &matcher, json!(value))),
        2 => (one_of(&INTEGER_FIELDS), vec(integer(), 0..4)).prop_map(|(field, values)| is(field, &Match::AnyOf, json!(values))),
        4 => (one_of(&TIME_FIELDS), comparison(), any_time).prop_map(|(field, matcher, value)| is(field, &matcher, json!(value))),
        8 => (one_of(&KEYS), text_match()).prop_map(|(key, (matcher, value))| Filter::annotation(key, matcher, value)),
        2 => one_of(&KEYS).prop_map(|key| Filter::annotation(key, Match::Exists, Value::Null)),
        1 => (any_field, select(&Match::ALL[..]), odd_value).prop_map(|(field, matcher, value)| is(field, &matcher, value)),
    ]
}

fn filters() -> impl Strategy<Value = Vec<Filter>> {
    prop_oneof![2 => Just(Vec::new()), 3 => vec(filter(), 1..2), 1 => vec(filter(), 2..4)]
}

fn page() -> impl Strategy<Value = (i64, i64)> {
    let skip = prop_oneof![6 => Just(0), 3 => 0..6_i64, 1 => Just(i64::MAX)];
    let take = prop_oneof![4 => Just(0), 6 => 1..6_i64, 1 => Just(i64::MAX)];
    (skip, take)
}

fn ordered(field: impl Strategy<Value = String>) -> impl Strategy<Value = Order> {
    (field, any::<bool>()).prop_map(
        |(field, ascending)| {
            if ascending { Order::ascending(field) } else { Order::descending(field) }
        },
    )
}

/// A request for jobs.
fn jobs_request() -> impl Strategy<Value = GetJobsRequest> {
    let order = prop_oneof![1 => Just(Order::default()), 6 => ordered(one_of(&ORDER_FIELDS))];
    (filters(), prop::bool::weighted(0.2), order, page()).prop_map(|(filters, active_job_sets, order, (skip, take))| {
        GetJobsRequest { filters, active_job_sets, order, skip, take }
    })
}

/// A request for groups.
fn groups_request() -> impl Strategy<Value = GetJobGroupsRequest> {
    let grouped = prop_oneof![
        3 => one_of(&GROUP_FIELDS).prop_map(GroupedField::field),
        2 => one_of(&KEYS).prop_map(GroupedField::annotation),
    ];
    let aggregates = proptest::sample::subsequence(vec!["state", "submitted", "lastTransitionTime"], 0..=3);
    let time_aggregate = one_of(&["", "average", "earliest", "latest"]);
    let selection = (filters(), prop::bool::weighted(0.2), page());
    (selection, grouped, aggregates, time_aggregate, 0..8_usize, any::<bool>()).prop_map(
        |(
            (filters, active_job_sets, (skip, take)),
            mut grouped_field,
            aggregates,
            time_aggregate,
            order,
            ascending,
        )| {
            // An order by an aggregate that was not requested is invalid, so it is rare.
            let mut fields = vec![grouped_field.field.as_str(), "count"];
            fields.extend(aggregates.iter().filter(|name| **name != "state" || order == 0));
            let field = fields[order % fields.len()].to_owned();
            let order = if order == 7 {
                Order::default()
            } else if ascending {
                Order::ascending(field)
            } else {
                Order::descending(field)
            };
            grouped_field.last_transition_time_aggregate = time_aggregate;
            let aggregates = aggregates.into_iter().map(str::to_owned).collect();
            GetJobGroupsRequest { filters, active_job_sets, grouped_field, aggregates, order, skip, take }
        },
    )
}

fn historical() -> impl Strategy<Value = HistoricalJobsParams> {
    let thresholds = (0..4_i64, 0..4_i64, 0..4_i64);
    (0..2_i64, 0..5_i64, 0..3_i64, thresholds, message()).prop_map(
        |(queue_idx, n_jobs, chunk_size, thresholds, bytes)| HistoricalJobsParams {
            queue_idx,
            job_set_idx: 0,
            queue_name: "hq".to_owned(),
            job_set_name: "s".to_owned(),
            n_jobs,
            chunk_size,
            succeeded_threshold: thresholds.0,
            errored_threshold: thresholds.1,
            cancelled_threshold: thresholds.2,
            job_age_days: vec![0, 1, 400],
            job_spec_bytes: bytes.is_some().then_some(Bytes::from_static(b"\x0a\x01h")),
            error_bytes: bytes.clone(),
            debug_bytes: bytes.clone(),
            preemption_bytes: bytes,
            reference_time: Timestamp::from_seconds(1_800_000_000),
        },
    )
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        20 => batch().prop_map(|queries| Call::Ingest { queries }),
        20 => jobs_request().prop_map(Call::GetJobs),
        20 => groups_request().prop_map(Call::GetJobGroups),
        3 => one_of(&JOB_IDS).prop_map(|job_id| Call::GetJobSpec { job_id }),
        2 => one_of(&JOB_IDS).prop_map(|job_id| Call::GetJobError { job_id }),
        3 => one_of(&RUN_IDS).prop_map(|job_run_id| Call::GetJobRunError { job_run_id }),
        3 => one_of(&RUN_IDS).prop_map(|job_run_id| Call::GetJobRunDebugMessage { job_run_id }),
        2 => micros().prop_map(|micros| Call::SetClock { now: Timestamp::from_micros(micros) }),
        4 => historical().prop_map(|params| Call::PopulateHistoricalJobs { params }),
        1 => Just(Call::InitialiseSchema),
        1 => Just(Call::TearDown),
    ]
}
