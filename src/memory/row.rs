//! Rows of the tables as the jobs and runs of the API: only those of a page ever become such.

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{TimestampMicrosecondType, TimestampSecondType, UInt64Type};
use datafusion::arrow::record_batch::RecordBatch;
use smol_str::SmolStr;

use super::storage::{Dictionary, LatestRun, NONE, NULL, Tables};
use crate::model::{Annotations, GroupAggregates, Job, JobGroup, Run, RunState, StateSet};
use crate::query::Aggregates;
use crate::time::Timestamp;

/// The jobs of rows, with their annotations and runs.
pub(super) fn jobs(tables: &Tables, rows: &[u32], now: Timestamp) -> Vec<Job> {
    rows.iter().map(|&row| job(tables, row, now)).collect()
}

fn job(tables: &Tables, row: u32, now: Timestamp) -> Job {
    let (chunk, at) = tables.jobs.locate(row);
    let last_to_come = chunk.last_run.get(at);
    let mut runs = runs(tables, last_to_come);
    let last_active_run_id = match LatestRun::unpack(chunk.latest_run.get(at)) {
        // Mostly it is this one, and one text serves both.
        LatestRun::Run(run) if run == last_to_come => runs.first().map(|run| run.run_id.clone()),
        latest => latest_run_id(tables, latest),
    };
    let last = Run::sort(&mut runs, now).unwrap_or_default();
    let annotations = annotations(tables, row);
    // Made whole at once a job is made where it stays, with no runs to attach to it later.
    Job {
        job_id: chunk.ids.get(at).as_str().into(),
        queue: tables.queues.text(chunk.queue.get(at)).clone(),
        owner: tables.owners.text(chunk.owner.get(at)).clone(),
        namespace: optional_text(&tables.namespaces, chunk.namespace.get(at)),
        job_set: tables.job_sets.text(chunk.job_set.get(at)).clone(),
        cpu: chunk.cpu.get(at),
        memory: chunk.memory.get(at),
        ephemeral_storage: chunk.ephemeral_storage.get(at),
        gpu: chunk.gpu.get(at),
        priority: chunk.priority.get(at),
        priority_class: optional_text(&tables.priority_classes, chunk.priority_class.get(at)),
        submitted: Timestamp::from_micros(chunk.submitted.get(at)),
        cancelled: time(chunk.cancelled.get(at)),
        state: tables.state(row),
        last_transition_time: Timestamp::from_micros(chunk.last_transition.get(at)),
        last_active_run_id,
        duplicate: false,
        annotations,
        cancel_reason: optional_text(&tables.cancel_reasons, chunk.cancel_reason.get(at)),
        cancel_user: optional_text(&tables.cancel_users, chunk.cancel_user.get(at)),
        node: last.node,
        cluster: last.cluster,
        pool: last.pool,
        exit_code: last.exit_code,
        runtime_seconds: last.runtime_seconds,
        runs,
    }
}

/// The id of a latest run.
pub(super) fn latest_run_id(tables: &Tables, latest: LatestRun) -> Option<SmolStr> {
    match latest {
        LatestRun::None => None,
        LatestRun::Run(run) => Some(tables.runs.id(run).as_str().into()),
        LatestRun::Dangling(code) => Some(tables.dangling_runs.text(code).clone()),
    }
}

/// A time, which may be absent.
pub(super) fn time(micros: i64) -> Option<Timestamp> {
    (micros != NULL).then(|| Timestamp::from_micros(micros))
}

/// The annotations of a job.
pub(super) fn annotations(tables: &Tables, row: u32) -> Annotations {
    let (chunk, at) = tables.jobs.locate(row);
    let catalog = &tables.annotations;
    let pair = |&key: &u32| {
        let code = chunk.annotations.get(key, at);
        (catalog.keys.text(key).clone(), catalog.values(key).text(code).clone())
    };
    Annotations::from_sorted(catalog.shape(chunk.shape.get(at)).iter().map(pair).collect())
}

/// The runs of a chain, the last to come first.
fn runs(tables: &Tables, last: u32) -> Vec<Run> {
    // Most jobs have one run, for which a vector that grows would have too much room.
    let mut runs: Vec<Run> = Some(last).filter(|&row| row != NONE).iter().map(|&row| run(tables, row)).collect();
    let previous = |row| {
        let (chunk, at) = tables.runs.locate(row);
        chunk.previous.get(at)
    };
    let mut next = if last == NONE { NONE } else { previous(last) };
    while next != NONE {
        runs.push(run(tables, next));
        next = previous(next);
    }
    runs
}

fn run(tables: &Tables, row: u32) -> Run {
    let (chunk, at) = tables.runs.locate(row);
    Run {
        run_id: chunk.ids.get(at).as_str().into(),
        cluster: tables.clusters.text(chunk.cluster.get(at)).clone(),
        node: optional_text(&tables.nodes, chunk.node.get(at)),
        pool: optional_text(&tables.pools, chunk.pool.get(at)),
        leased: time(chunk.leased.get(at)),
        pending: time(chunk.pending.get(at)),
        started: time(chunk.started.get(at)),
        finished: time(chunk.finished.get(at)),
        // The column is only ever written from a `RunState`.
        job_run_state: RunState::from_ordinal(chunk.state.get(at)).unwrap_or(RunState::Leased),
        exit_code: exit_code(chunk.exit_code.get(at)),
    }
}

/// The text of a code, which may be that of none.
fn optional_text(dictionary: &Dictionary, code: u32) -> Option<SmolStr> {
    dictionary.optional_text(code).cloned()
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
        name: names.value(at).into(),
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
