//! Historical jobs in bulk: rows are made in column form, without a query for each.

use std::ops::Range;
use std::sync::Arc;

use super::Store;
use super::jobs::NewAnnotations;
use crate::error::{Operation, Result};
use crate::historical::{self, ANNOTATIONS, CLUSTERS, Ending, HistoricalJobs, NODES};
use crate::memory::storage::{Dictionary, JobId, JobRows, LatestRun, Message, NONE, NULL, RunId, RunRows};

/// How many jobs are made in columns before these are appended: few enough to stay in the processor's cache.
const JOBS_AT_A_TIME: usize = 1024;
/// For how many jobs to come the indexes of ids make room at most.
const RESERVED_JOBS: u64 = 1 << 24;

/// The dictionary codes of what historical jobs have in common, looked up once a chunk.
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
    shape: u32,
    keys: Vec<u32>,
}

impl Store {
    /// Adds those jobs of a range that do not exist, with their runs, specs and errors.
    pub(in crate::memory) fn populate(&mut self, jobs: &HistoricalJobs, range: Range<u64>) -> Result<()> {
        let ids: Vec<Option<JobId>> = range.clone().map(|i| JobId::new(&jobs.job_id(i))).collect();
        let known = self.tables.job_rows(ids.iter().copied());
        let new = range.zip(ids).zip(known).filter(|(_, known)| known.is_none());
        let new: Vec<(u64, JobId)> = new.filter_map(|((i, id), _)| Some((i, id?))).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.check_room(Operation::PopulateHistoricalJobs, new.len(), new.len())?;
        // If these are new, the rest most likely is too.
        self.reserve_ids(jobs, (jobs.count() - new[0].0).min(RESERVED_JOBS) as usize);
        let codes = self.historical_codes(jobs);
        for part in new.chunks(JOBS_AT_A_TIME) {
            self.append_historical(jobs, &codes, part);
        }
        Ok(())
    }

    /// Adds jobs of which none exists.
    fn append_historical(&mut self, jobs: &HistoricalJobs, codes: &Codes, new: &[(u64, JobId)]) {
        self.insert_historical_records(jobs, new);
        let annotations = self.historical_annotations(codes, new);
        let first_job = self.tables.jobs.len() as u32;
        let (runs, latest) = self.historical_runs(jobs, codes, new);
        self.append_jobs(historical_rows(jobs, codes, new, latest.clone()), annotations);
        self.append_runs(runs);
        for ((row, &(i, _)), latest) in (first_job..).zip(new).zip(latest) {
            // The run was there before, perhaps as another job's.
            if latest == LatestRun::None {
                self.set_latest_run(row, &jobs.run_id(i));
            }
        }
    }

    /// Makes room in the indexes of ids for so many more jobs.
    fn reserve_ids(&self, jobs: &HistoricalJobs, more: usize) {
        self.tables.job_index.reserve(more, |row| self.tables.jobs.id(row));
        self.tables.run_index.reserve(more, |row| self.tables.runs.id(row));
        if jobs.spec().is_some() {
            self.tables.specs.reserve(more);
        }
    }

    fn historical_codes(&mut self, jobs: &HistoricalJobs) -> Codes {
        let tables = &mut self.tables;
        let intern =
            |dictionary: &mut Dictionary, texts: &[&str]| texts.iter().map(|text| dictionary.intern(text)).collect();
        let queue = tables.queues.intern(jobs.queue());
        let job_set = tables.job_sets.intern(jobs.job_set());
        let keys: Vec<u32> = ANNOTATIONS.iter().map(|(key, _)| tables.annotations.keys.intern(key)).collect();
        let shape: Arc<[u32]> = keys.clone().into();
        Codes {
            queue,
            job_set,
            pair: self.active.pair(queue, job_set),
            owner: tables.owners.intern(jobs.queue()),
            namespaces: intern(&mut tables.namespaces, &historical::NAMESPACES),
            priority_classes: intern(&mut tables.priority_classes, &historical::PRIORITY_CLASSES),
            clusters: (0..CLUSTERS).map(|i| tables.clusters.intern(&historical::cluster(i))).collect(),
            // A node's name holds its cluster's, whose numbers repeat within those of the nodes.
            nodes: (0..NODES).map(|i| tables.nodes.intern(&historical::node(i))).collect(),
            pools: intern(&mut tables.pools, &historical::POOLS),
            cancel_reason: tables.cancel_reasons.intern(historical::CANCEL_REASON),
            cancel_user: tables.cancel_users.intern(jobs.queue()),
            shape: *self.shapes.entry(Arc::clone(&shape)).or_insert_with(|| tables.annotations.add_shape(shape)),
            keys,
        }
    }

    fn insert_historical_records(&mut self, jobs: &HistoricalJobs, new: &[(u64, JobId)]) {
        if let Some(spec) = jobs.spec() {
            self.tables.specs.insert_all(new.iter().map(|&(_, id)| (id, spec)));
        }
        if let Some(error) = jobs.error() {
            let failed = new.iter().filter(|&&(i, _)| jobs.ending(i) == Ending::Failed);
            self.tables.errors.insert_all(failed.map(|&(_, id)| (id, error)));
        }
    }

    fn historical_annotations(&mut self, codes: &Codes, new: &[(u64, JobId)]) -> NewAnnotations {
        let column = |(&key, &(_, modulus)): (&u32, &(&str, u64))| {
            let values = self.tables.annotations.values_mut(key);
            let codes = self.historical_values.entry(key).or_insert_with(|| vec![NONE; modulus as usize]);
            let mut code = |i: u64| {
                let code = &mut codes[(i % modulus) as usize];
                if *code == NONE {
                    *code = values.intern(&historical::annotation_value(i, modulus));
                }
                *code
            };
            (key, (0..).zip(new).map(|(row, &(i, _))| (row, code(i))).collect())
        };
        codes.keys.iter().zip(&ANNOTATIONS).map(column).collect()
    }

    /// The runs that do not exist, and what each job's latest run is to be: none where the run exists.
    fn historical_runs(&self, jobs: &HistoricalJobs, codes: &Codes, new: &[(u64, JobId)]) -> (RunRows, Vec<LatestRun>) {
        let mut rows = RunRows::default();
        let first = self.tables.runs.len() as u32;
        let first_job = self.tables.jobs.len() as u32;
        let error: Message = jobs.error().map(|bytes| Arc::new(bytes.clone()));
        let debug: Message = jobs.debug().map(|bytes| Arc::new(bytes.clone()));
        let preemption: Message = jobs.preemption().map(|bytes| Arc::new(bytes.clone()));
        let ids: Vec<Option<RunId>> =
            new.iter().map(|(_, job_id)| RunId::new(&historical::run_id(job_id.as_str()))).collect();
        let known = self.tables.run_rows(ids.iter().copied());
        let ids = ids.into_iter().zip(known).map(|(id, known)| id.filter(|_| known.is_none()));
        let latest = (first_job..).zip(new).zip(ids).map(|((job, &(i, job_id)), id)| {
            let (Some(id), Some(base)) = (id, jobs.submitted(i)) else { return LatestRun::None };
            let ending = jobs.ending(i);
            let row = first + rows.ids.len() as u32;
            rows.ids.push(id);
            rows.job_ids.push(job_id);
            rows.job_rows.push(job);
            rows.previous.push(NONE);
            rows.cluster.push(historical::pick(&codes.clusters, i));
            rows.node.push(historical::pick(&codes.nodes, i));
            rows.pool.push(historical::pick(&codes.pools, i));
            rows.leased.push(base.plus_seconds(historical::LEASED_AFTER).as_micros());
            rows.pending.push(base.plus_seconds(historical::PENDING_AFTER).as_micros());
            rows.started.push(base.plus_seconds(historical::STARTED_AFTER).as_micros());
            rows.finished.push(base.plus_seconds(historical::FINISHED_AFTER).as_micros());
            rows.state.push(ending.run_state().ordinal());
            rows.exit_code.push(ending.exit_code().map_or(NULL, i64::from));
            rows.error.push(match ending {
                Ending::Failed => error.clone(),
                Ending::Preempted => preemption.clone(),
                Ending::Succeeded | Ending::Cancelled => None,
            });
            rows.debug.push(debug.clone().filter(|_| ending == Ending::Failed));
            LatestRun::Run(row)
        });
        let latest = latest.collect();
        (rows, latest)
    }
}

fn historical_rows(jobs: &HistoricalJobs, codes: &Codes, new: &[(u64, JobId)], latest: Vec<LatestRun>) -> JobRows {
    let each = || new.iter().map(|&(i, _)| i);
    let count = new.len();
    // There are jobs, so there are bases.
    let base = |i: u64| jobs.submitted(i).unwrap_or_else(|| crate::Timestamp::from_micros(0));
    let finished = |i: u64| base(i).plus_seconds(historical::FINISHED_AFTER);
    let if_cancelled = |i: u64, value: u32| if jobs.ending(i) == Ending::Cancelled { value } else { NONE };
    let of_run = |table: &[u32]| -> Vec<u32> {
        let code = |(i, &latest)| if latest == LatestRun::None { NONE } else { historical::pick(table, i) };
        each().zip(&latest).map(code).collect()
    };
    JobRows {
        ids: new.iter().map(|&(_, id)| id).collect(),
        queue: vec![codes.queue; count],
        job_set: vec![codes.job_set; count],
        pair: vec![codes.pair; count],
        owner: vec![codes.owner; count],
        namespace: each().map(|i| historical::pick(&codes.namespaces, i)).collect(),
        priority_class: each().map(|i| historical::pick(&codes.priority_classes, i)).collect(),
        cpu: each().map(|i| historical::pick(&historical::CPUS, i)).collect(),
        memory: each().map(|i| historical::pick(&historical::MEMORIES, i)).collect(),
        ephemeral_storage: each().map(|i| historical::pick(&historical::EPHEMERAL_STORAGES, i)).collect(),
        gpu: each().map(|i| historical::pick(&historical::GPUS, i)).collect(),
        priority: each().map(historical::priority).collect(),
        submitted: each().map(|i| base(i).as_micros()).collect(),
        cancelled: each()
            .map(|i| if jobs.ending(i) == Ending::Cancelled { finished(i).as_micros() } else { NULL })
            .collect(),
        cancel_reason: each().map(|i| if_cancelled(i, codes.cancel_reason)).collect(),
        cancel_user: each().map(|i| if_cancelled(i, codes.cancel_user)).collect(),
        state: each().map(|i| jobs.ending(i).job_state().ordinal()).collect(),
        last_transition: each().map(|i| finished(i).as_micros()).collect(),
        last_transition_seconds: each().map(|i| finished(i).floor_seconds()).collect(),
        cluster: of_run(&codes.clusters),
        node: of_run(&codes.nodes),
        pool: of_run(&codes.pools),
        latest_run: latest.into_iter().map(LatestRun::pack).collect(),
        last_run: vec![NONE; count],
        shape: vec![codes.shape; count],
    }
}
