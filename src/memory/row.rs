//! Decodes jobs and runs of the API from the stored columns.
//!
//! The columns of a page are gathered one after another: with few instructions per row, the processor waits for the cache
//! misses of several rows at once. A decoded job shares the values of the snapshot's dictionaries.

use std::sync::Arc;

use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::datatypes::ArrowNativeType;
use smol_str::SmolStr;

use super::storage::{
    Dictionary, JobCells, JobChunk, JobId, LocatedRows, OptionalCells, RunCells, RunChunk, RunId, Tables, TextList,
    job_state,
};
use crate::model::{Annotations, Job, Run, RunState};
use crate::time::Timestamp;

/// The jobs of some rows.
pub(super) fn jobs(tables: &Tables, rows: &[u32], now: Timestamp) -> Vec<Job> {
    let mut jobs = JobColumns::new(tables, &LocatedRows::new(tables.jobs.chunks(), rows));
    (0..rows.len()).map(|at| jobs.job(at, now)).collect()
}

/// A column of codes with the values of its dictionary.
struct Texts<'a, C> {
    codes: Vec<C>,
    values: &'a TextList,
}

impl Texts<'_, u32> {
    fn text(&self, at: usize) -> SmolStr {
        self.values[self.codes[at] as usize].clone()
    }
}

impl Texts<'_, Option<u32>> {
    fn text(&self, at: usize) -> Option<SmolStr> {
        self.codes[at].map(|code| self.values[code as usize].clone())
    }
}

/// The values of a column without nulls.
fn required<'a, C, V: ArrowNativeType>(
    rows: &LocatedRows<'a, C>,
    column: impl Fn(&'a C) -> &'a ScalarBuffer<V>,
) -> Vec<V> {
    rows.read(|chunk| {
        let values: &[V] = column(chunk);
        |at| values[at]
    })
}

/// The values of a column with nulls.
fn optional<'a, C, V: ArrowNativeType>(
    rows: &LocatedRows<'a, C>,
    column: impl Fn(&'a C) -> &'a OptionalCells<V>,
) -> Vec<Option<V>> {
    rows.read(|chunk| {
        let values = column(chunk);
        |at| values.get(at)
    })
}

/// The columns of a page of jobs.
struct JobColumns<'a> {
    tables: &'a Tables,
    job_id: Vec<JobId>,
    queue: Texts<'a, u32>,
    job_set: Texts<'a, u32>,
    owner: Texts<'a, u32>,
    namespace: Texts<'a, Option<u32>>,
    priority_class: Texts<'a, Option<u32>>,
    cpu: Vec<i64>,
    memory: Vec<i64>,
    ephemeral_storage: Vec<i64>,
    gpu: Vec<i64>,
    priority: Vec<i64>,
    submitted: Vec<i64>,
    cancelled: Vec<Option<i64>>,
    state: Vec<u8>,
    last_transition_time: Vec<i64>,
    duplicate: Vec<bool>,
    cancel_reason: Texts<'a, Option<u32>>,
    cancel_user: Texts<'a, Option<u32>>,
    runs: RunColumns<'a>,
    latest_run_id: Vec<Option<RunId>>,
    annotations: AnnotationColumns<'a>,
}

impl<'a> JobColumns<'a> {
    fn new(tables: &'a Tables, rows: &LocatedRows<'a, JobChunk>) -> Self {
        let texts = |column: fn(&JobCells) -> &ScalarBuffer<u32>, dictionary: &'a Dictionary| Texts {
            codes: required(rows, |chunk| column(&chunk.cells)),
            values: dictionary.texts(),
        };
        let optional_texts = |column: fn(&JobCells) -> &OptionalCells<u32>, dictionary: &'a Dictionary| Texts {
            codes: optional(rows, |chunk| column(&chunk.cells)),
            values: dictionary.texts(),
        };
        let dictionaries = &tables.dictionaries;
        Self {
            tables,
            job_id: rows.read(|chunk| |at| JobId::at(&chunk.cells.job_id, at)),
            queue: texts(|cells| &cells.queue, &dictionaries.queues),
            job_set: texts(|cells| &cells.job_set, &dictionaries.job_sets),
            owner: texts(|cells| &cells.owner, &dictionaries.owners),
            namespace: optional_texts(|cells| &cells.namespace, &dictionaries.namespaces),
            priority_class: optional_texts(|cells| &cells.priority_class, &dictionaries.priority_classes),
            cpu: required(rows, |chunk| &chunk.cells.cpu),
            memory: required(rows, |chunk| &chunk.cells.memory),
            ephemeral_storage: required(rows, |chunk| &chunk.cells.ephemeral_storage),
            gpu: required(rows, |chunk| &chunk.cells.gpu),
            priority: required(rows, |chunk| &chunk.cells.priority),
            submitted: required(rows, |chunk| &chunk.cells.submitted),
            cancelled: optional(rows, |chunk| &chunk.cells.cancelled),
            state: required(rows, |chunk| &chunk.cells.state),
            last_transition_time: required(rows, |chunk| &chunk.cells.last_transition_time),
            duplicate: rows.read(|chunk| |at| chunk.duplicates.get(at).is_some()),
            cancel_reason: optional_texts(|cells| &cells.cancel_reason, &dictionaries.cancel_reasons),
            cancel_user: optional_texts(|cells| &cells.cancel_user, &dictionaries.cancel_users),
            // The runs precede the ids of the latest runs, because they load most of them into the caches of the
            // processor.
            runs: RunColumns::new(tables, rows),
            latest_run_id: {
                let latest = optional(rows, |chunk| &chunk.cells.latest_run);
                latest.into_iter().map(|packed| Some(tables.latest_run(packed?))).collect()
            },
            annotations: AnnotationColumns::new(rows),
        }
    }

    // Inlined, so that the job is constructed in the vector and not moved to it.
    #[inline(always)]
    fn job(&mut self, at: usize, now: Timestamp) -> Job {
        let mut runs = self.runs.of_job(at);
        let last_active_run_id = self.latest_run_id[at].map(|id| match runs.first() {
            // The id is usually that of a run of the job, so its string is shared.
            Some(run) if run.run_id.as_bytes() == id.as_bytes() => run.run_id.clone(),
            _ => id.as_str().into(),
        });
        let last = Run::sort(&mut runs, now).unwrap_or_default();
        Job {
            job_id: self.job_id[at].as_str().into(),
            queue: self.queue.text(at),
            owner: self.owner.text(at),
            namespace: self.namespace.text(at),
            job_set: self.job_set.text(at),
            cpu: self.cpu[at],
            memory: self.memory[at],
            ephemeral_storage: self.ephemeral_storage[at],
            gpu: self.gpu[at],
            priority: self.priority[at],
            priority_class: self.priority_class.text(at),
            submitted: Timestamp::from_micros(self.submitted[at]),
            cancelled: self.cancelled[at].map(Timestamp::from_micros),
            state: job_state(self.state[at]),
            last_transition_time: Timestamp::from_micros(self.last_transition_time[at]),
            last_active_run_id,
            duplicate: self.duplicate[at],
            annotations: self.annotations.of_job(self.tables, at),
            cancel_reason: self.cancel_reason.text(at),
            cancel_user: self.cancel_user.text(at),
            node: last.node,
            cluster: last.cluster,
            pool: last.pool,
            exit_code: last.exit_code,
            runtime_seconds: last.runtime_seconds,
            runs,
        }
    }
}

/// The annotations per job for which memory is reserved: for most stores, the vector then does not grow.
const ENTRIES_PER_JOB: usize = 8;

/// The annotations of a page of jobs.
struct AnnotationColumns<'a> {
    key_sets: Vec<u32>,
    /// The codes of the values of all jobs, in the order of the keys of their key sets.
    codes: Vec<u32>,
    /// The number of codes of the jobs that were decoded.
    decoded: usize,
    /// The keys of the previous job: most jobs have the same keys.
    previous: Option<(u32, Keys<'a>)>,
}

/// The names of the keys of a key set, and the dictionary of each key.
struct Keys<'a> {
    names: Arc<[SmolStr]>,
    values: Vec<&'a TextList>,
}

impl<'a> AnnotationColumns<'a> {
    fn new(rows: &LocatedRows<'_, JobChunk>) -> Self {
        let key_sets = required(rows, |chunk| &chunk.cells.key_set);
        let mut codes = Vec::with_capacity(key_sets.len() * ENTRIES_PER_JOB);
        rows.iter().for_each(|(chunk, at)| codes.extend_from_slice(chunk.annotations.get(at)));
        Self { key_sets, codes, decoded: 0, previous: None }
    }

    /// The annotations of a job. The jobs are decoded in their order.
    fn of_job(&mut self, tables: &'a Tables, at: usize) -> Annotations {
        let (catalog, key_set) = (&tables.dictionaries.annotations, self.key_sets[at]);
        let known = self.previous.take().filter(|&(of, _)| of == key_set);
        let (_, keys) = self.previous.insert(known.unwrap_or_else(|| {
            let codes = catalog.key_set(key_set);
            let names = codes.iter().map(|&code| catalog.keys.text(code).clone()).collect();
            (key_set, Keys { names, values: codes.iter().map(|&code| catalog.values(code).texts()).collect() })
        }));
        let codes = &self.codes[self.decoded..][..keys.values.len()];
        self.decoded += codes.len();
        let values = keys.values.iter().zip(codes).map(|(values, &code)| values[code as usize].clone());
        Annotations::from_sorted(Arc::clone(&keys.names), values.collect())
    }
}

/// The columns of the runs of a page of jobs, in descending order of insertion.
struct RunColumns<'a> {
    /// The end of the runs of each job.
    ends: Vec<usize>,
    run_id: Vec<RunId>,
    cluster: Texts<'a, u32>,
    node: Texts<'a, Option<u32>>,
    pool: Texts<'a, Option<u32>>,
    leased: Vec<Option<i64>>,
    pending: Vec<Option<i64>>,
    started: Vec<Option<i64>>,
    finished: Vec<Option<i64>>,
    state: Vec<u8>,
    exit_code: Vec<Option<i32>>,
}

/// The rows of the runs of jobs, and the end of those of each job.
fn runs_of(tables: &Tables, jobs: &LocatedRows<'_, JobChunk>) -> (Vec<u32>, Vec<usize>) {
    let count = jobs.rows().len();
    let (mut rows, mut ends) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let previous = |run: u32| {
        let (chunk, at) = tables.runs.locate(run);
        chunk.cells.previous.get(at)
    };
    // The last two runs of all jobs are read before the others, so that their cache misses overlap.
    let last = optional(jobs, |chunk| &chunk.cells.last_run);
    let second: Vec<Option<u32>> = last.iter().map(|last| previous((*last)?)).collect();
    for (last, mut next) in last.into_iter().zip(second) {
        rows.extend(last);
        while let Some(run) = next {
            rows.push(run);
            next = previous(run);
        }
        ends.push(rows.len());
    }
    (rows, ends)
}

impl<'a> RunColumns<'a> {
    fn new(tables: &'a Tables, jobs: &LocatedRows<'_, JobChunk>) -> Self {
        let (rows, ends) = runs_of(tables, jobs);
        let rows: &LocatedRows<'_, RunChunk> = &LocatedRows::new(tables.runs.chunks(), &rows);
        let times = |column: fn(&RunCells) -> &OptionalCells<i64>| optional(rows, |chunk| column(&chunk.cells));
        let optional_texts = |column: fn(&RunCells) -> &OptionalCells<u32>, dictionary: &'a Dictionary| Texts {
            codes: optional(rows, |chunk| column(&chunk.cells)),
            values: dictionary.texts(),
        };
        let dictionaries = &tables.dictionaries;
        let cluster = required(rows, |chunk| &chunk.cells.cluster);
        Self {
            ends,
            run_id: rows.read(|chunk| |at| RunId::at(&chunk.cells.run_id, at)),
            cluster: Texts { codes: cluster, values: dictionaries.clusters.texts() },
            node: optional_texts(|cells| &cells.node, &dictionaries.nodes),
            pool: optional_texts(|cells| &cells.pool, &dictionaries.pools),
            leased: times(|cells| &cells.leased),
            pending: times(|cells| &cells.pending),
            started: times(|cells| &cells.started),
            finished: times(|cells| &cells.finished),
            state: required(rows, |chunk| &chunk.cells.state),
            exit_code: optional(rows, |chunk| &chunk.cells.exit_code),
        }
    }

    fn of_job(&self, at: usize) -> Vec<Run> {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        (start..self.ends[at]).map(|at| self.run(at)).collect()
    }

    // Inlined, so that the run is constructed in the vector and not moved to it.
    #[inline(always)]
    fn run(&self, at: usize) -> Run {
        Run {
            run_id: self.run_id[at].as_str().into(),
            cluster: self.cluster.text(at),
            node: self.node.text(at),
            pool: self.pool.text(at),
            leased: self.leased[at].map(Timestamp::from_micros),
            pending: self.pending[at].map(Timestamp::from_micros),
            started: self.started[at].map(Timestamp::from_micros),
            finished: self.finished[at].map(Timestamp::from_micros),
            job_run_state: RunState::from_stored(self.state[at].into()),
            exit_code: self.exit_code[at],
        }
    }
}
