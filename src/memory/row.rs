//! Rows of the tables as the jobs and runs of the API: only those of a page ever become such.

use std::collections::BTreeMap;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{TimestampMicrosecondType, TimestampSecondType, UInt64Type};
use datafusion::arrow::record_batch::RecordBatch;

use super::storage::{LatestRun, NONE, NULL, Tables};
use crate::model::{GroupAggregates, Job, JobGroup, Run, RunState, StateSet};
use crate::query::Aggregates;
use crate::time::Timestamp;

/// The job of a row, with its annotations and runs.
pub(super) fn job(tables: &Tables, row: u32, now: Timestamp) -> Job {
    let (chunk, at) = tables.jobs.locate(row);
    let mut job = Job {
        job_id: chunk.ids.get(at).as_str().to_owned(),
        queue: tables.queues.text(chunk.queue.get(at)).to_owned(),
        owner: tables.owners.text(chunk.owner.get(at)).to_owned(),
        namespace: tables.namespaces.optional_text(chunk.namespace.get(at)).map(str::to_owned),
        job_set: tables.job_sets.text(chunk.job_set.get(at)).to_owned(),
        cpu: chunk.cpu.get(at),
        memory: chunk.memory.get(at),
        ephemeral_storage: chunk.ephemeral_storage.get(at),
        gpu: chunk.gpu.get(at),
        priority: chunk.priority.get(at),
        priority_class: tables.priority_classes.optional_text(chunk.priority_class.get(at)).map(str::to_owned),
        submitted: Timestamp::from_micros(chunk.submitted.get(at)),
        cancelled: time(chunk.cancelled.get(at)),
        state: tables.state(row),
        last_transition_time: Timestamp::from_micros(chunk.last_transition.get(at)),
        last_active_run_id: latest_run_id(tables, chunk.latest_run.get(at)),
        duplicate: false,
        annotations: annotations(tables, row),
        runs: Vec::new(),
        cancel_reason: tables.cancel_reasons.optional_text(chunk.cancel_reason.get(at)).map(str::to_owned),
        cancel_user: tables.cancel_users.optional_text(chunk.cancel_user.get(at)).map(str::to_owned),
        node: None,
        cluster: String::new(),
        pool: None,
        exit_code: None,
        runtime_seconds: 0,
    };
    job.attach_runs(runs(tables, chunk.last_run.get(at)), now);
    job
}

/// The id that a packed latest run stands for.
pub(super) fn latest_run_id(tables: &Tables, packed: u32) -> Option<String> {
    match LatestRun::unpack(packed) {
        LatestRun::None => None,
        LatestRun::Run(run) => Some(tables.runs.id(run).as_str().to_owned()),
        LatestRun::Dangling(code) => Some(tables.dangling_runs.text(code).to_owned()),
    }
}

/// A time, which may be absent.
pub(super) fn time(micros: i64) -> Option<Timestamp> {
    (micros != NULL).then(|| Timestamp::from_micros(micros))
}

/// The annotations of a job.
pub(super) fn annotations(tables: &Tables, row: u32) -> BTreeMap<String, String> {
    let (chunk, at) = tables.jobs.locate(row);
    let catalog = &tables.annotations;
    let annotation = |&key: &u32| {
        let code = chunk.annotations.column(key)?.get(at);
        Some((catalog.keys.text(key).to_owned(), catalog.values(key).optional_text(code)?.to_owned()))
    };
    catalog.shape(chunk.shape.get(at)).iter().filter_map(annotation).collect()
}

/// The runs of a chain, the last to come first.
fn runs(tables: &Tables, last: u32) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut next = last;
    while next != NONE {
        runs.push(run(tables, next));
        let (chunk, at) = tables.runs.locate(next);
        next = chunk.previous.get(at);
    }
    runs
}

fn run(tables: &Tables, row: u32) -> Run {
    let (chunk, at) = tables.runs.locate(row);
    Run {
        run_id: chunk.ids.get(at).as_str().to_owned(),
        cluster: tables.clusters.text(chunk.cluster.get(at)).to_owned(),
        node: tables.nodes.optional_text(chunk.node.get(at)).map(str::to_owned),
        pool: tables.pools.optional_text(chunk.pool.get(at)).map(str::to_owned),
        leased: time(chunk.leased.get(at)),
        pending: time(chunk.pending.get(at)),
        started: time(chunk.started.get(at)),
        finished: time(chunk.finished.get(at)),
        // The column is only ever written from a `RunState`.
        job_run_state: RunState::from_ordinal(chunk.state.get(at)).unwrap_or(RunState::Leased),
        exit_code: exit_code(chunk.exit_code.get(at)),
    }
}

/// An exit code, which may be absent.
pub(super) fn exit_code(stored: i64) -> Option<i32> {
    i32::try_from(stored).ok()
}

/// The groups of a batch, whose columns are those of [`groups::schema`](super::query::groups::schema).
pub(super) fn groups(batch: &RecordBatch, aggregates: Aggregates) -> Vec<JobGroup> {
    let mut columns = batch.columns().iter();
    let mut next = || columns.next();
    let (Some(names), Some(counts)) = (next(), next()) else { return Vec::new() };
    let (names, counts) = (names.as_string::<i32>(), counts.as_primitive::<UInt64Type>());
    let states: Vec<_> =
        aggregates.states().into_iter().flat_map(StateSet::iter).zip(std::iter::from_fn(&mut next)).collect();
    let submitted = aggregates.submitted().then(&mut next).flatten();
    let last_transition = aggregates.last_transition_time().and_then(|_| next());
    let group = |at: usize| JobGroup {
        name: names.value(at).to_owned(),
        count: counts.value(at),
        aggregates: GroupAggregates {
            state: aggregates.states().map(|_| {
                states.iter().map(|(state, counts)| (*state, counts.as_primitive::<UInt64Type>().value(at))).collect()
            }),
            submitted: submitted
                .map(|times| Timestamp::from_micros(times.as_primitive::<TimestampMicrosecondType>().value(at))),
            last_transition_time: last_transition
                .map(|times| Timestamp::from_seconds(times.as_primitive::<TimestampSecondType>().value(at))),
        },
    };
    (0..names.len()).map(group).collect()
}
