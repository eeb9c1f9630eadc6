//! Decodes jobs and runs of the API from record batches.
//!
//! Batches contain strings as dictionary codes. A decoded job shares the values of the snapshot's dictionaries.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, FixedSizeBinaryArray, Int32Array, PrimitiveArray,
    TimestampMicrosecondArray, UInt8Array, UInt32Array,
};
use datafusion::arrow::datatypes::{Int64Type, TimestampMicrosecondType, UInt8Type, UInt32Type};
use datafusion::arrow::record_batch::RecordBatch;
use smol_str::SmolStr;

use super::storage::{AnnotationCatalog, Arena, Dictionary, FixedId, Tables, job_state};
use crate::ingest::{JOB_ID_BYTES, RUN_ID_BYTES};
use crate::model::{Annotations, Job, Run, RunState};
use crate::time::Timestamp;

/// The jobs of a batch, whose columns are [`JOB_COLUMNS`](super::plan::JOB_COLUMNS).
pub(super) fn jobs(tables: &Tables, batch: &RecordBatch, now: Timestamp) -> Vec<Job> {
    let mut jobs = JobArrays::new(tables, batch);
    let count = batch.num_rows();
    (0..count).map(|at| jobs.job(at, now)).collect()
}

/// A column of codes with the values of its dictionary.
struct Texts<'a> {
    codes: &'a UInt32Array,
    values: &'a Arena<SmolStr>,
}

impl<'a> Texts<'a> {
    fn new(codes: &'a ArrayRef, dictionary: &'a Dictionary) -> Self {
        Self { codes: codes.as_primitive(), values: dictionary.texts() }
    }

    fn text(&self, at: usize) -> SmolStr {
        self.values.get(self.codes.value(at)).clone()
    }

    fn optional(&self, at: usize) -> Option<SmolStr> {
        self.codes.is_valid(at).then(|| self.text(at))
    }
}

/// The columns of a batch of jobs.
struct JobArrays<'a> {
    job_id: &'a FixedSizeBinaryArray,
    queue: Texts<'a>,
    job_set: Texts<'a>,
    owner: Texts<'a>,
    namespace: Texts<'a>,
    priority_class: Texts<'a>,
    /// CPU, memory, ephemeral storage, GPUs and priority.
    integers: [&'a [i64]; 5],
    submitted: &'a [i64],
    cancelled: &'a TimestampMicrosecondArray,
    state: &'a UInt8Array,
    last_transition_time: &'a [i64],
    cancel_reason: Texts<'a>,
    cancel_user: Texts<'a>,
    latest_run_id: &'a FixedSizeBinaryArray,
    annotations: AnnotationArrays<'a>,
    runs: RunArrays<'a>,
}

impl<'a> JobArrays<'a> {
    fn new(tables: &'a Tables, batch: &'a RecordBatch) -> Self {
        let texts = &tables.dictionaries;
        let mut at = 0;
        let mut next = || {
            at += 1;
            batch.column(at - 1)
        };
        Self {
            job_id: next().as_fixed_size_binary(),
            queue: Texts::new(next(), &texts.queues),
            job_set: Texts::new(next(), &texts.job_sets),
            owner: Texts::new(next(), &texts.owners),
            namespace: Texts::new(next(), &texts.namespaces),
            priority_class: Texts::new(next(), &texts.priority_classes),
            integers: [(); 5].map(|()| values::<Int64Type>(next())),
            submitted: values::<TimestampMicrosecondType>(next()),
            cancelled: next().as_primitive(),
            state: next().as_primitive::<UInt8Type>(),
            last_transition_time: values::<TimestampMicrosecondType>(next()),
            cancel_reason: Texts::new(next(), &texts.cancel_reasons),
            cancel_user: Texts::new(next(), &texts.cancel_users),
            runs: RunArrays::new(tables, next()),
            latest_run_id: next().as_fixed_size_binary(),
            annotations: AnnotationArrays::new(tables, next()),
        }
    }

    // Inlined, so that the job is constructed in the vector and not moved to it.
    #[inline(always)]
    fn job(&mut self, at: usize, now: Timestamp) -> Job {
        let mut runs = self.runs.of_job(at);
        let last_active_run_id = self.latest_run_id.is_valid(at).then(|| {
            let id = FixedId::<RUN_ID_BYTES>::at(self.latest_run_id.value_data(), at);
            // The id is usually that of a run of the job, so its string is shared.
            match runs.first() {
                Some(run) if run.run_id.as_bytes() == id.as_bytes() => run.run_id.clone(),
                _ => id.as_str().into(),
            }
        });
        let last = Run::sort(&mut runs, now).unwrap_or_default();
        let [cpu, memory, ephemeral_storage, gpu, priority] = self.integers.map(|values| values[at]);
        Job {
            job_id: FixedId::<JOB_ID_BYTES>::at(self.job_id.value_data(), at).as_str().into(),
            queue: self.queue.text(at),
            owner: self.owner.text(at),
            namespace: self.namespace.optional(at),
            job_set: self.job_set.text(at),
            cpu,
            memory,
            ephemeral_storage,
            gpu,
            priority,
            priority_class: self.priority_class.optional(at),
            submitted: Timestamp::from_micros(self.submitted[at]),
            cancelled: time(self.cancelled, at),
            state: job_state(self.state.value(at)),
            last_transition_time: Timestamp::from_micros(self.last_transition_time[at]),
            last_active_run_id,
            duplicate: false,
            annotations: self.annotations.of_job(at),
            cancel_reason: self.cancel_reason.optional(at),
            cancel_user: self.cancel_user.optional(at),
            node: last.node,
            cluster: last.cluster,
            pool: last.pool,
            exit_code: last.exit_code,
            runtime_seconds: last.runtime_seconds,
            runs,
        }
    }
}

struct AnnotationArrays<'a> {
    catalog: &'a AnnotationCatalog,
    offsets: &'a [i32],
    keys: &'a [u32],
    values: &'a [u32],
    /// The keys of the previous job: most jobs have the same keys.
    resolved: ResolvedKeys<'a>,
}

#[derive(Default)]
struct ResolvedKeys<'a> {
    codes: &'a [u32],
    names: Arc<[SmolStr]>,
    /// The dictionary of each key.
    values: Vec<&'a Arena<SmolStr>>,
}

impl<'a> AnnotationArrays<'a> {
    fn new(tables: &'a Tables, annotations: &'a ArrayRef) -> Self {
        let map = annotations.as_map();
        let (keys, values) = (values::<UInt32Type>(map.keys()), values::<UInt32Type>(map.values()));
        let catalog = &tables.dictionaries.annotations;
        Self { catalog, offsets: map.offsets(), keys, values, resolved: ResolvedKeys::default() }
    }

    /// The entries of a range of jobs.
    fn entries(&self, jobs: Range<usize>) -> Range<usize> {
        self.offsets[jobs.start] as usize..self.offsets[jobs.end] as usize
    }

    fn of_job(&mut self, at: usize) -> Annotations {
        let entries = self.entries(at..at + 1);
        let (codes, values) = (&self.keys[entries.clone()], &self.values[entries]);
        if self.resolved.codes != codes {
            let values = codes.iter().map(|&code| self.catalog.values(code).texts());
            let names = codes.iter().map(|&code| self.catalog.keys.text(code).clone());
            self.resolved = ResolvedKeys { codes, names: names.collect(), values: values.collect() };
        }
        let values = self.resolved.values.iter().zip(values);
        let values = values.map(|(values, &code)| values.get(code).clone()).collect();
        Annotations::from_sorted(Arc::clone(&self.resolved.names), values)
    }
}

/// The columns of the runs of jobs.
struct RunArrays<'a> {
    offsets: &'a [i32],
    run_id: &'a FixedSizeBinaryArray,
    cluster: Texts<'a>,
    node: Texts<'a>,
    pool: Texts<'a>,
    leased: &'a TimestampMicrosecondArray,
    pending: &'a TimestampMicrosecondArray,
    started: &'a TimestampMicrosecondArray,
    finished: &'a TimestampMicrosecondArray,
    state: &'a UInt8Array,
    exit_code: &'a Int32Array,
}

impl<'a> RunArrays<'a> {
    fn new(tables: &'a Tables, runs: &'a ArrayRef) -> Self {
        let texts = &tables.dictionaries;
        let list = runs.as_list::<i32>();
        let runs = list.values().as_struct();
        let mut at = 0;
        let mut next = || {
            at += 1;
            runs.column(at - 1)
        };
        Self {
            offsets: list.offsets(),
            run_id: next().as_fixed_size_binary(),
            cluster: Texts::new(next(), &texts.clusters),
            node: Texts::new(next(), &texts.nodes),
            pool: Texts::new(next(), &texts.pools),
            leased: next().as_primitive(),
            pending: next().as_primitive(),
            started: next().as_primitive(),
            finished: next().as_primitive(),
            state: next().as_primitive(),
            exit_code: next().as_primitive(),
        }
    }

    /// The indices of the runs of a range of jobs.
    fn runs_of(&self, jobs: Range<usize>) -> Range<usize> {
        self.offsets[jobs.start] as usize..self.offsets[jobs.end] as usize
    }

    fn of_job(&self, at: usize) -> Vec<Run> {
        self.runs_of(at..at + 1).map(|at| self.run(at)).collect()
    }

    // Inlined, so that the run is constructed in the vector and not moved to it.
    #[inline(always)]
    fn run(&self, at: usize) -> Run {
        Run {
            run_id: FixedId::<RUN_ID_BYTES>::at(self.run_id.value_data(), at).as_str().into(),
            cluster: self.cluster.text(at),
            node: self.node.optional(at),
            pool: self.pool.optional(at),
            leased: time(self.leased, at),
            pending: time(self.pending, at),
            started: time(self.started, at),
            finished: time(self.finished, at),
            // The column contains only ordinals of `RunState`.
            job_run_state: RunState::from_ordinal(self.state.value(at)).unwrap_or(RunState::Leased),
            exit_code: self.exit_code.is_valid(at).then(|| self.exit_code.value(at)),
        }
    }
}

fn values<T: ArrowPrimitiveType>(array: &ArrayRef) -> &[T::Native] {
    array.as_primitive::<T>().values()
}

fn time(column: &PrimitiveArray<TimestampMicrosecondType>, at: usize) -> Option<Timestamp> {
    column.is_valid(at).then(|| Timestamp::from_micros(column.value(at)))
}
