//! Rows of the tables as the jobs and runs of the API: only those of a page ever become such.

use datafusion::arrow::array::{
    Array, ArrowPrimitiveType, AsArray, PrimitiveArray, TimestampMicrosecondArray, UInt32Array,
};
use datafusion::arrow::datatypes::{TimestampMicrosecondType, TimestampSecondType, UInt64Type};
use datafusion::arrow::record_batch::RecordBatch;
use smol_str::SmolStr;

use super::storage::{Dictionary, JobId, LatestRun, RunId, Tables, job_state};
use crate::model::{Annotations, GroupAggregates, Job, JobGroup, Run, RunState, StateSet};
use crate::query::Aggregates;
use crate::time::Timestamp;

/// The jobs of rows, with their annotations and runs.
pub(super) fn jobs(tables: &Tables, rows: &[u32], now: Timestamp) -> Vec<Job> {
    rows.iter().map(|&row| job(tables, row, now)).collect()
}

fn job(tables: &Tables, row: u32, now: Timestamp) -> Job {
    let (chunk, at) = tables.jobs.locate(row);
    let last_to_come = optional(chunk.last_run(), at);
    let mut runs = runs(tables, last_to_come);
    let latest = optional(chunk.latest_run(), at).map(LatestRun::unpack);
    let last_active_run_id = match latest {
        // Mostly it is this one, and one text serves both.
        Some(LatestRun::Run(run)) if Some(run) == last_to_come => runs.first().map(|run| run.run_id.clone()),
        latest => latest.map(|latest| latest_run_id(tables, latest)),
    };
    let last = Run::sort(&mut runs, now).unwrap_or_default();
    let annotations = annotations(tables, row);
    let texts = &tables.dictionaries;
    // Made whole at once a job is made where it stays, with no runs to attach to it later.
    Job {
        job_id: JobId::at(chunk.job_id(), at).as_str().into(),
        queue: texts.queues.text(chunk.queue().value(at)).clone(),
        owner: texts.owners.text(chunk.owner().value(at)).clone(),
        namespace: text(&texts.namespaces, chunk.namespace(), at),
        job_set: texts.job_sets.text(chunk.job_set().value(at)).clone(),
        cpu: chunk.cpu().value(at),
        memory: chunk.memory().value(at),
        ephemeral_storage: chunk.ephemeral_storage().value(at),
        gpu: chunk.gpu().value(at),
        priority: chunk.priority().value(at),
        priority_class: text(&texts.priority_classes, chunk.priority_class(), at),
        submitted: Timestamp::from_micros(chunk.submitted().value(at)),
        cancelled: time(chunk.cancelled(), at),
        state: job_state(chunk.state().value(at)),
        last_transition_time: Timestamp::from_micros(chunk.last_transition_time().value(at)),
        last_active_run_id,
        duplicate: false,
        annotations,
        cancel_reason: text(&texts.cancel_reasons, chunk.cancel_reason(), at),
        cancel_user: text(&texts.cancel_users, chunk.cancel_user(), at),
        node: last.node,
        cluster: last.cluster,
        pool: last.pool,
        exit_code: last.exit_code,
        runtime_seconds: last.runtime_seconds,
        runs,
    }
}

/// The id of a latest run.
pub(super) fn latest_run_id(tables: &Tables, latest: LatestRun) -> SmolStr {
    match latest {
        LatestRun::Run(run) => tables.runs.id(run).as_str().into(),
        LatestRun::Dangling(place) => tables.records.dangling_runs.get(place).as_str().into(),
    }
}

fn optional<T: ArrowPrimitiveType>(column: &PrimitiveArray<T>, at: usize) -> Option<T::Native> {
    column.is_valid(at).then(|| column.value(at))
}

fn time(column: &TimestampMicrosecondArray, at: usize) -> Option<Timestamp> {
    optional(column, at).map(Timestamp::from_micros)
}

fn text(dictionary: &Dictionary, codes: &UInt32Array, at: usize) -> Option<SmolStr> {
    optional(codes, at).map(|code| dictionary.text(code).clone())
}

/// The annotations of a job.
pub(super) fn annotations(tables: &Tables, row: u32) -> Annotations {
    let (chunk, at) = tables.jobs.locate(row);
    let catalog = &tables.dictionaries.annotations;
    let pair = |&key: &u32| {
        let code = chunk.annotations.get(key, at)?;
        Some((catalog.keys.text(key).clone(), catalog.values(key).text(code).clone()))
    };
    Annotations::from_sorted(catalog.shape(chunk.shape().value(at)).iter().filter_map(pair).collect())
}

/// The runs of a chain, the last to come first.
fn runs(tables: &Tables, last: Option<u32>) -> Vec<Run> {
    // Most jobs have one run, for which a vector that grows would have too much room.
    let mut runs: Vec<Run> = last.iter().map(|&row| run(tables, row)).collect();
    let previous = |row| {
        let (chunk, at) = tables.runs.locate(row);
        optional(chunk.previous(), at)
    };
    let mut next = last.and_then(previous);
    while let Some(row) = next {
        runs.push(run(tables, row));
        next = previous(row);
    }
    runs
}

fn run(tables: &Tables, row: u32) -> Run {
    let (chunk, at) = tables.runs.locate(row);
    let texts = &tables.dictionaries;
    Run {
        run_id: RunId::at(chunk.run_id(), at).as_str().into(),
        cluster: texts.clusters.text(chunk.cluster().value(at)).clone(),
        node: text(&texts.nodes, chunk.node(), at),
        pool: text(&texts.pools, chunk.pool(), at),
        leased: time(chunk.leased(), at),
        pending: time(chunk.pending(), at),
        started: time(chunk.started(), at),
        finished: time(chunk.finished(), at),
        // The column is only ever written from a `RunState`.
        job_run_state: RunState::from_ordinal(chunk.state().value(at)).unwrap_or(RunState::Leased),
        exit_code: optional(chunk.exit_code(), at),
    }
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
