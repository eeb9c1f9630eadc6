//! The tables, and their changes by a batch.

use std::collections::HashMap;

use broadside::bytes::Bytes;
use broadside::ingest::{JobEffect, JobInsert, JobPatch, RunInsert, RunUpdate};
use broadside::{HistoricalJobs, IngestionBatch, Job, JobState, Run, RunState, SmolStr, Timestamp};

/// Jobs without their runs, runs, and the records of both.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) jobs: HashMap<SmolStr, Job>,
    pub(crate) runs: HashMap<SmolStr, StoredRun>,
    specs: HashMap<SmolStr, Bytes>,
    errors: HashMap<SmolStr, Bytes>,
}

#[derive(Debug)]
pub(crate) struct StoredRun {
    pub(crate) job_id: SmolStr,
    pub(crate) run: Run,
    error: Option<Bytes>,
    debug: Option<Bytes>,
}

impl Tables {
    pub(crate) fn apply(&mut self, batch: &IngestionBatch) {
        for job in batch.jobs() {
            self.jobs.entry(SmolStr::new(&job.job_id)).or_insert_with(|| new_job(job));
        }
        for run in batch.runs() {
            self.runs.entry(SmolStr::new(&run.run_id)).or_insert_with(|| new_run(run));
        }
        for (table, records) in [(&mut self.specs, batch.specs()), (&mut self.errors, batch.errors())] {
            for record in records {
                table.entry(SmolStr::new(&record.job_id)).or_insert_with(|| record.value.clone());
            }
        }
        for update in batch.job_updates() {
            let Some(job) = self.jobs.get_mut(update.job_id.as_str()) else { continue };
            match update.effect_on(job.state) {
                JobEffect::Patch(patch) => change_job(job, patch),
                JobEffect::Preempt(time) => set_state(job, JobState::Preempted, time),
                JobEffect::None => {}
            }
        }
        for update in batch.run_updates() {
            if let Some(run) = self.runs.get_mut(update.run_id.as_str()) {
                change_run(run, update);
            }
        }
    }

    /// Inserts historical job `i`, unless its id exists.
    pub(crate) fn insert_historical(&mut self, jobs: &HistoricalJobs, i: u64) {
        let Some(historical) = jobs.job(i) else { return };
        let (job_id, run_id) = (historical.job.job_id.clone(), historical.run.run_id.clone());
        if self.jobs.contains_key(&job_id) {
            return;
        }
        self.jobs.insert(job_id.clone(), historical.job);
        self.runs.entry(run_id).or_insert_with(|| StoredRun {
            job_id: job_id.clone(),
            run: historical.run,
            error: historical.run_error,
            debug: historical.run_debug_message,
        });
        let records = [(&mut self.specs, historical.spec), (&mut self.errors, historical.job_error)];
        for (table, record) in records {
            if let Some(record) = record {
                table.entry(job_id.clone()).or_insert(record);
            }
        }
    }

    /// The spec of an existing job.
    pub(crate) fn spec(&self, job_id: &str) -> Option<&Bytes> {
        self.jobs.get(job_id)?;
        self.specs.get(job_id)
    }

    /// The error of an existing job.
    pub(crate) fn job_error(&self, job_id: &str) -> Option<&Bytes> {
        self.jobs.get(job_id)?;
        self.errors.get(job_id)
    }

    pub(crate) fn run_error(&self, run_id: &str) -> Option<&Bytes> {
        self.runs.get(run_id)?.error.as_ref()
    }

    pub(crate) fn run_debug_message(&self, run_id: &str) -> Option<&Bytes> {
        self.runs.get(run_id)?.debug.as_ref()
    }
}

fn new_job(job: &JobInsert) -> Job {
    Job {
        job_id: SmolStr::new(&job.job_id),
        queue: SmolStr::new(&job.queue),
        owner: SmolStr::new(&job.owner),
        namespace: job.namespace.as_ref().map(SmolStr::new),
        job_set: SmolStr::new(&job.job_set),
        cpu: job.cpu,
        memory: job.memory,
        ephemeral_storage: job.ephemeral_storage,
        gpu: job.gpu,
        priority: job.priority,
        priority_class: job.priority_class.as_ref().map(SmolStr::new),
        submitted: job.submitted,
        cancelled: None,
        state: JobState::Queued,
        last_transition_time: job.submitted,
        last_active_run_id: None,
        duplicate: false,
        annotations: job.annotations.iter().collect(),
        runs: Vec::new(),
        cancel_reason: None,
        cancel_user: None,
        node: None,
        cluster: SmolStr::default(),
        pool: None,
        exit_code: None,
        runtime_seconds: 0,
    }
}

fn new_run(run: &RunInsert) -> StoredRun {
    StoredRun {
        job_id: SmolStr::new(&run.job_id),
        run: Run {
            run_id: SmolStr::new(&run.run_id),
            cluster: SmolStr::new(&run.cluster),
            node: run.node.as_ref().map(SmolStr::new),
            pool: run.pool.as_ref().map(SmolStr::new),
            leased: Some(run.leased),
            pending: None,
            started: None,
            finished: None,
            job_run_state: RunState::Leased,
            exit_code: None,
        },
        error: None,
        debug: None,
    }
}

fn change_job(job: &mut Job, patch: &JobPatch) {
    job.priority = patch.priority.unwrap_or(job.priority);
    if let Some((state, time)) = patch.transition {
        set_state(job, state, time);
    }
    set(&mut job.last_active_run_id, patch.latest_run_id.as_ref().map(SmolStr::new));
    if let Some(cancellation) = &patch.cancellation {
        job.cancelled = Some(cancellation.time);
        job.cancel_reason = cancellation.reason.as_ref().map(SmolStr::new);
        job.cancel_user = cancellation.user.as_ref().map(SmolStr::new);
    }
}

fn change_run(stored: &mut StoredRun, update: &RunUpdate) {
    let run = &mut stored.run;
    run.job_run_state = update.state;
    set(&mut run.node, update.node.as_ref().map(SmolStr::new));
    set(&mut run.pending, update.pending);
    set(&mut run.started, update.started);
    set(&mut run.finished, update.finished);
    set(&mut run.exit_code, update.exit_code);
    set(&mut stored.error, update.error.clone());
    set(&mut stored.debug, update.debug.clone());
}

fn set_state(job: &mut Job, state: JobState, time: Timestamp) {
    (job.state, job.last_transition_time) = (state, time);
}

/// Sets a column to a new value, if there is one.
fn set<T>(column: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *column = value;
    }
}
