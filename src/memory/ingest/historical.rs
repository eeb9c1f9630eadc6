//! Bulk ingestion of historical jobs, as columns.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{
    Int32Array, Int64Array, TimestampMicrosecondArray, TimestampSecondArray, UInt8Array, UInt32Array,
};
use datafusion::arrow::error::ArrowError;

use super::jobs::NewAnnotations;
use super::runs::push_messages;
use super::store::Store;
use crate::error::{Operation, Result};
use crate::historical::{self, ANNOTATIONS, CLUSTERS, Ending, HistoricalJobs, NODES};
use crate::memory::error::engine_error;
use crate::memory::storage::{Dictionary, JobId, JobRows, Reference, RunId, RunRows};
use crate::time::Timestamp;

/// Rows are appended in batches that fit into the L2 cache.
const JOBS_AT_A_TIME: usize = 1024;
/// The id indexes reserve capacity for at most this many jobs.
const RESERVED_JOBS: u64 = 1 << 24;

/// The dictionary codes that historical jobs share, looked up once per call.
struct Codes {
    queue: u32,
    job_set: u32,
    pair: u32,
    owner: u32,
    namespaces: Vec<u32>,
    priority_classes: Vec<u32>,
    clusters: Vec<u32>,
    nodes: Vec<u32>,
    pools: Vec<u32>,
    cancel_reason: u32,
    cancel_user: u32,
    key_set: u32,
    keys: Vec<u32>,
}

impl Store {
    /// Inserts the jobs of a range that do not exist, with their runs, specs and errors.
    pub(in crate::memory) fn populate(&mut self, jobs: &HistoricalJobs, range: Range<u64>) -> Result<()> {
        let ids: Vec<Option<JobId>> = range.clone().map(|i| JobId::new(&jobs.job_id(i))).collect();
        let known = self.job_rows(ids.iter().copied());
        let new = range.zip(ids).zip(known).filter(|(_, known)| known.is_none());
        let new: Vec<(u64, JobId)> = new.filter_map(|((i, id), _)| Some((i, id?))).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.check_room(Operation::PopulateHistoricalJobs, new.len(), new.len())?;
        // If the first job is new, the others probably are new too.
        self.reserve_ids(jobs, (jobs.count() - new[0].0).min(RESERVED_JOBS) as usize);
        let codes = self.historical_codes(jobs);
        let mut parts = new.chunks(JOBS_AT_A_TIME);
        parts
            .try_for_each(|part| {
                self.append_historical(jobs, &codes, part)?;
                self.apply_changes();
                Ok(())
            })
            .and_then(|()| self.end_batch())
            .map_err(|error| engine_error(Operation::PopulateHistoricalJobs, error.into()))
    }

    fn append_historical(
        &mut self,
        jobs: &HistoricalJobs,
        codes: &Codes,
        new: &[(u64, JobId)],
    ) -> Result<(), ArrowError> {
        self.insert_historical_records(jobs, new);
        let annotations = self.historical_annotations(codes, new);
        let first_job = self.jobs.len() as u32;
        let runs = self.new_historical_runs(first_job, new);
        let first_run = self.runs.len() as u32;
        // A job without a new run refers to an existing run of that id, which may belong to another job.
        let mut latest: Vec<Option<Reference>> = vec![None; new.len()];
        for (run, row) in (first_run..).zip(&runs) {
            latest[(row.job_row - first_job) as usize] = Some(Reference::Row(run));
        }
        self.append_jobs(&historical_rows(jobs, codes, new, &latest)?, annotations);
        let runs = self.historical_run_rows(jobs, codes, &runs)?;
        self.append_runs(&runs);
        for ((row, &(i, _)), latest) in (first_job..).zip(new).zip(latest) {
            if latest.is_none()
                && let Some(id) = RunId::new(&jobs.run_id(i))
            {
                self.set_latest_run(row, id, self.run_row(&id));
            }
        }
        Ok(())
    }

    fn reserve_ids(&self, jobs: &HistoricalJobs, more: usize) {
        self.indexes.job_ids.reserve(more);
        self.indexes.run_ids.reserve(more);
        if jobs.spec().is_some() {
            self.records.specs.reserve(more);
        }
    }

    fn historical_codes(&mut self, jobs: &HistoricalJobs) -> Codes {
        let dictionaries = &mut self.dictionaries;
        let intern =
            |dictionary: &mut Dictionary, texts: &[&str]| texts.iter().map(|text| dictionary.intern(text)).collect();
        let queue = dictionaries.queues.intern(jobs.queue());
        let job_set = dictionaries.job_sets.intern(jobs.job_set());
        let keys: Vec<u32> = ANNOTATIONS.iter().map(|(key, _)| dictionaries.annotations.keys.intern(key)).collect();
        let key_set: Arc<[u32]> = keys.clone().into();
        Codes {
            queue,
            job_set,
            pair: self.active.pair(queue, job_set),
            owner: dictionaries.owners.intern(jobs.queue()),
            namespaces: intern(&mut dictionaries.namespaces, &historical::NAMESPACES),
            priority_classes: intern(&mut dictionaries.priority_classes, &historical::PRIORITY_CLASSES),
            clusters: (0..CLUSTERS).map(|i| dictionaries.clusters.intern(&historical::cluster(i))).collect(),
            // The name of a node includes the name of its cluster.
            nodes: (0..NODES).map(|i| dictionaries.nodes.intern(&historical::node(i))).collect(),
            pools: intern(&mut dictionaries.pools, &historical::POOLS),
            cancel_reason: dictionaries.cancel_reasons.intern(historical::CANCEL_REASON),
            cancel_user: dictionaries.cancel_users.intern(jobs.queue()),
            key_set: *self
                .key_sets
                .entry(Arc::clone(&key_set))
                .or_insert_with(|| dictionaries.annotations.add_key_set(key_set)),
            keys,
        }
    }

    fn insert_historical_records(&mut self, jobs: &HistoricalJobs, new: &[(u64, JobId)]) {
        if let Some(spec) = jobs.spec() {
            self.records.specs.insert_all(new.iter().map(|&(_, id)| (id, spec.clone())));
        }
        if let Some(error) = jobs.error() {
            let failed = new.iter().filter(|&&(i, _)| jobs.ending(i) == Ending::Failed);
            self.records.errors.insert_all(failed.map(|&(_, id)| (id, error.clone())));
        }
    }

    fn historical_annotations(&mut self, codes: &Codes, new: &[(u64, JobId)]) -> NewAnnotations {
        let column = |(&key, &(_, modulus)): (&u32, &(&str, u64))| {
            let values = self.dictionaries.annotations.values_mut(key);
            let codes = self.historical_values.entry(key).or_insert_with(|| vec![None; modulus as usize]);
            let mut code = |i: u64| {
                let code = &mut codes[(i % modulus) as usize];
                *code.get_or_insert_with(|| values.intern(&historical::annotation_value(i, modulus)))
            };
            (key, (0..).zip(new).map(|(row, &(i, _))| (row, code(i))).collect())
        };
        codes.keys.iter().zip(&ANNOTATIONS).map(column).collect()
    }

    /// The new runs of jobs whose first row is `first_job`.
    fn new_historical_runs(&self, first_job: u32, new: &[(u64, JobId)]) -> Vec<HistoricalRun> {
        let ids = || new.iter().map(|(_, job_id)| RunId::new(&historical::run_id(job_id.as_str())));
        let known = self.run_rows(ids());
        let runs = (first_job..).zip(new).zip(ids()).zip(known).filter(|(_, known)| known.is_none());
        runs.filter_map(|(((job_row, &(i, _)), id), _)| Some(HistoricalRun { i, id: id?, job_row })).collect()
    }

    fn historical_run_rows(
        &mut self,
        jobs: &HistoricalJobs,
        codes: &Codes,
        runs: &[HistoricalRun],
    ) -> Result<RunRows, ArrowError> {
        let count = runs.len();
        let each = || runs.iter().map(|run| run.i);
        let times = |after: i64| {
            TimestampMicrosecondArray::from_iter_values(each().map(|i| base(jobs, i).plus_seconds(after).as_micros()))
        };
        let code = |of: &[u32]| UInt32Array::from_iter_values(each().map(|i| historical::pick(of, i)));
        let error = |i: u64| -> Option<&Bytes> {
            match jobs.ending(i) {
                Ending::Failed => jobs.error(),
                Ending::Preempted => jobs.preemption(),
                Ending::Succeeded | Ending::Cancelled => None,
            }
        };
        let debug = |i: u64| jobs.debug().filter(|_| jobs.ending(i) == Ending::Failed);
        let messages = &mut self.records.run_messages;
        Ok(RunRows {
            run_id: RunId::column(runs.iter().map(|run| run.id))?,
            cluster: code(&codes.clusters),
            node: code(&codes.nodes),
            pool: code(&codes.pools),
            leased: times(historical::LEASED_AFTER),
            pending: times(historical::PENDING_AFTER),
            started: times(historical::STARTED_AFTER),
            finished: times(historical::FINISHED_AFTER),
            state: UInt8Array::from_iter_values(each().map(|i| jobs.ending(i).run_state().ordinal())),
            exit_code: each().map(|i| jobs.ending(i).exit_code()).collect::<Int32Array>(),
            error: push_messages(messages, each().map(|i| error(i).cloned())),
            debug: push_messages(messages, each().map(|i| debug(i).cloned())),
            job: UInt32Array::from_iter_values(runs.iter().map(|run| Reference::Row(run.job_row).pack())),
            previous: UInt32Array::new_null(count),
        })
    }
}

struct HistoricalRun {
    i: u64,
    id: RunId,
    job_row: u32,
}

/// The submission of a job. Only an empty range has no base.
fn base(jobs: &HistoricalJobs, i: u64) -> Timestamp {
    jobs.submitted(i).unwrap_or_else(|| Timestamp::from_micros(0))
}

fn historical_rows(
    jobs: &HistoricalJobs,
    codes: &Codes,
    new: &[(u64, JobId)],
    latest: &[Option<Reference>],
) -> Result<JobRows, ArrowError> {
    let each = || new.iter().map(|&(i, _)| i);
    let count = new.len();
    let finished = |i: u64| base(jobs, i).plus_seconds(historical::FINISHED_AFTER);
    let is_cancelled = |i: u64| jobs.ending(i) == Ending::Cancelled;
    let if_cancelled = |value: u32| each().map(|i| is_cancelled(i).then_some(value)).collect::<UInt32Array>();
    let code = |of: &[u32]| UInt32Array::from_iter_values(each().map(|i| historical::pick(of, i)));
    let integers = |of: &[i64]| Int64Array::from_iter_values(each().map(|i| historical::pick(of, i)));
    let of_run = |of: &[u32]| -> UInt32Array {
        each().zip(latest).map(|(i, latest)| latest.map(|_| historical::pick(of, i))).collect()
    };
    Ok(JobRows {
        job_id: JobId::column(new.iter().map(|&(_, id)| id))?,
        queue: UInt32Array::from_value(codes.queue, count),
        job_set: UInt32Array::from_value(codes.job_set, count),
        owner: UInt32Array::from_value(codes.owner, count),
        namespace: code(&codes.namespaces),
        priority_class: code(&codes.priority_classes),
        cpu: integers(&historical::CPUS),
        memory: integers(&historical::MEMORIES),
        ephemeral_storage: integers(&historical::EPHEMERAL_STORAGES),
        gpu: integers(&historical::GPUS),
        priority: Int64Array::from_iter_values(each().map(historical::priority)),
        submitted: TimestampMicrosecondArray::from_iter_values(each().map(|i| base(jobs, i).as_micros())),
        cancelled: each().map(|i| is_cancelled(i).then(|| finished(i).as_micros())).collect(),
        state: UInt8Array::from_iter_values(each().map(|i| jobs.ending(i).job_state().ordinal())),
        last_transition_time: TimestampMicrosecondArray::from_iter_values(each().map(|i| finished(i).as_micros())),
        latest_run: latest.iter().map(|latest| latest.map(Reference::pack)).collect(),
        cancel_reason: if_cancelled(codes.cancel_reason),
        cancel_user: if_cancelled(codes.cancel_user),
        cluster: of_run(&codes.clusters),
        node: of_run(&codes.nodes),
        pool: of_run(&codes.pools),
        pair: UInt32Array::from_value(codes.pair, count),
        last_transition_seconds: TimestampSecondArray::from_iter_values(each().map(|i| finished(i).floor_seconds())),
        last_run: UInt32Array::new_null(count),
        key_set: UInt32Array::from_value(codes.key_set, count),
    })
}
