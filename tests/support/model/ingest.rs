//! Execution of queries one by one in the order of the list, inserts first; and of batch plans, for
//! [`Database`](broadside::Database).

use std::collections::btree_map::Entry;

use broadside::ingest::{IngestionBatch, IngestionQuery, InsertJobRun, JobUpdate, NewJob, RunUpdate};
use broadside::model::{JobState, Run, RunState};
use broadside::{Job, SmolStr, Timestamp};
use bytes::Bytes;

use super::{Store, StoredRun};

impl Store {
    /// Executes the inserts, and then the updates.
    pub fn ingest(&mut self, queries: &[IngestionQuery]) {
        queries.iter().for_each(|query| self.insert(query));
        queries.iter().for_each(|query| self.update(query));
    }

    fn insert(&mut self, query: &IngestionQuery) {
        match query {
            IngestionQuery::InsertJob(query) => {
                self.insert_spec(&query.job.job_id, query.job_spec.as_ref());
                self.jobs.entry(query.job.job_id.clone()).or_insert_with(|| new_job(&query.job));
            }
            IngestionQuery::InsertJobSpec(query) => self.insert_spec(&query.job_id, query.job_spec.as_ref()),
            IngestionQuery::InsertJobError(query) => self.insert_error(&query.job_id, query.error.as_ref()),
            IngestionQuery::InsertJobRun(query) => {
                self.runs.entry(query.job_run_id.clone()).or_insert_with(|| new_run(query));
            }
            _ => {}
        }
    }

    pub(super) fn insert_spec(&mut self, job_id: &str, spec: Option<&Bytes>) {
        if let Some(spec) = spec.filter(|spec| !spec.is_empty()) {
            self.specs.entry(job_id.to_owned()).or_insert_with(|| spec.clone());
        }
    }

    pub(super) fn insert_error(&mut self, job_id: &str, error: Option<&Bytes>) {
        if let Some(error) = error.filter(|error| !error.is_empty()) {
            self.errors.entry(job_id.to_owned()).or_insert_with(|| error.clone());
        }
    }

    fn update(&mut self, query: &IngestionQuery) {
        match query {
            IngestionQuery::InsertJob(_)
            | IngestionQuery::InsertJobSpec(_)
            | IngestionQuery::InsertJobError(_)
            | IngestionQuery::InsertJobRun(_) => {}
            IngestionQuery::UpdateJobPriority(query) => {
                self.update_job(&query.job_id, |job| job.priority = query.priority);
            }
            IngestionQuery::SetJobLeased(query) => {
                self.set_job_state(&query.job_id, JobState::Leased, query.time, Some(&query.run_id));
            }
            IngestionQuery::SetJobPending(query) => {
                self.set_job_state(&query.job_id, JobState::Pending, query.time, Some(&query.run_id));
            }
            IngestionQuery::SetJobRunning(query) => {
                self.set_job_state(&query.job_id, JobState::Running, query.time, Some(&query.latest_run_id));
            }
            IngestionQuery::SetJobSucceeded(query) => {
                self.set_job_state(&query.job_id, JobState::Succeeded, query.time, None);
            }
            IngestionQuery::SetJobErrored(query) => {
                self.set_job_state(&query.job_id, JobState::Failed, query.time, None);
            }
            IngestionQuery::SetJobRejected(query) => {
                self.set_job_state(&query.job_id, JobState::Rejected, query.time, None);
            }
            IngestionQuery::SetJobPreempted(query) => self.preempt_job(&query.job_id, query.time),
            IngestionQuery::SetJobCancelled(query) => self.update_job(&query.job_id, |job| {
                set_state(job, JobState::Cancelled, query.time);
                job.cancelled = Some(query.time);
                job.cancel_reason = non_empty(query.cancel_reason.as_ref());
                job.cancel_user = non_empty(query.cancel_user.as_ref());
            }),
            IngestionQuery::SetJobRunPending(query) => {
                self.update_run(&query.job_run_id, RunState::Pending, |run| run.run.pending = Some(query.time));
            }
            IngestionQuery::SetJobRunStarted(query) => self.update_run(&query.job_run_id, RunState::Running, |run| {
                run.run.started = Some(query.time);
                keep_or_set(&mut run.run.node, non_empty(query.node.as_ref()));
            }),
            IngestionQuery::SetJobRunSucceeded(query) => {
                self.update_run(&query.job_run_id, RunState::Succeeded, |run| {
                    run.run.finished = Some(query.time);
                    run.run.exit_code = Some(query.exit_code);
                });
            }
            IngestionQuery::SetJobRunFailed(query) => self.update_run(&query.job_run_id, RunState::Failed, |run| {
                run.run.finished = Some(query.time);
                run.run.exit_code = Some(query.exit_code);
                keep_or_set(&mut run.error, non_empty_bytes(query.error.as_ref()));
                keep_or_set(&mut run.debug, non_empty_bytes(query.debug.as_ref()));
            }),
            IngestionQuery::SetJobRunCancelled(query) => {
                self.update_run(&query.job_run_id, RunState::Cancelled, |run| run.run.finished = Some(query.time));
            }
            IngestionQuery::SetJobRunPreempted(query) => {
                self.update_run(&query.job_run_id, RunState::Preempted, |run| {
                    run.run.finished = Some(query.time);
                    keep_or_set(&mut run.error, non_empty_bytes(query.error.as_ref()));
                });
            }
            later => panic!("the model has no query {}", later.type_name()),
        }
    }

    fn set_job_state(&mut self, job_id: &str, state: JobState, time: Timestamp, run_id: Option<&String>) {
        self.update_job(job_id, |job| {
            set_state(job, state, time);
            keep_or_set(&mut job.last_active_run_id, run_id.map(SmolStr::from));
        });
    }

    fn update_job(&mut self, job_id: &str, change: impl FnOnce(&mut Job)) {
        if let Some(job) = self.jobs.get_mut(job_id).filter(|job| is_active(job.state)) {
            change(job);
        }
    }

    fn preempt_job(&mut self, job_id: &str, time: Timestamp) {
        if let Some(job) = self.jobs.get_mut(job_id)
            && (is_active(job.state)
                || matches!(job.state, JobState::Succeeded | JobState::Failed | JobState::Cancelled))
        {
            set_state(job, JobState::Preempted, time);
        }
    }

    fn update_run(&mut self, run_id: &str, state: RunState, change: impl FnOnce(&mut StoredRun)) {
        if let Some(run) = self.runs.get_mut(run_id) {
            run.run.job_run_state = state;
            change(run);
        }
    }

    /// Executes the plan of a batch.
    pub(super) fn apply(&mut self, batch: &IngestionBatch) {
        for job in batch.jobs() {
            self.jobs.entry(job.job_id.clone()).or_insert_with(|| {
                new_job(&NewJob {
                    job_id: job.job_id.clone(),
                    queue: job.queue.clone(),
                    job_set: job.job_set.clone(),
                    owner: job.owner.clone(),
                    namespace: job.namespace.clone(),
                    priority: job.priority,
                    priority_class: job.priority_class.clone(),
                    submitted: job.submitted,
                    cpu: job.cpu,
                    memory: job.memory,
                    ephemeral_storage: job.ephemeral_storage,
                    gpu: job.gpu,
                    annotations: job.annotations.clone(),
                })
            });
        }
        batch.specs().iter().for_each(|spec| self.insert_spec(&spec.job_id, Some(&spec.value)));
        batch.errors().iter().for_each(|error| self.insert_error(&error.job_id, Some(&error.value)));
        for run in batch.runs() {
            self.runs.entry(run.run_id.clone()).or_insert_with(|| {
                new_run(&InsertJobRun {
                    job_run_id: run.run_id.clone(),
                    job_id: run.job_id.clone(),
                    cluster: run.cluster.clone(),
                    node: run.node.clone(),
                    pool: run.pool.clone(),
                    time: run.leased,
                    submitted: None,
                })
            });
        }
        batch.job_updates().iter().for_each(|update| self.apply_job_update(update));
        batch.run_updates().iter().for_each(|update| self.apply_run_update(update));
    }

    fn apply_job_update(&mut self, update: &JobUpdate) {
        let Entry::Occupied(mut job) = self.jobs.entry(update.job_id.clone()) else { return };
        let job = job.get_mut();
        if !is_active(job.state) {
            if let Some(time) = update.preempted {
                self.preempt_job(&update.job_id, time);
            }
            return;
        }
        let patch = &update.if_active;
        job.priority = patch.priority.unwrap_or(job.priority);
        if let Some((state, time)) = patch.transition {
            set_state(job, state, time);
        }
        keep_or_set(&mut job.last_active_run_id, patch.latest_run_id.as_ref().map(SmolStr::from));
        if let Some(cancellation) = &patch.cancellation {
            job.cancelled = Some(cancellation.time);
            job.cancel_reason = cancellation.reason.as_ref().map(SmolStr::from);
            job.cancel_user = cancellation.user.as_ref().map(SmolStr::from);
        }
    }

    fn apply_run_update(&mut self, update: &RunUpdate) {
        self.update_run(&update.run_id, update.state, |stored| {
            keep_or_set(&mut stored.run.node, update.node.as_ref().map(SmolStr::from));
            keep_or_set(&mut stored.run.pending, update.pending);
            keep_or_set(&mut stored.run.started, update.started);
            keep_or_set(&mut stored.run.finished, update.finished);
            keep_or_set(&mut stored.run.exit_code, update.exit_code);
            keep_or_set(&mut stored.error, update.error.clone());
            keep_or_set(&mut stored.debug, update.debug.clone());
        });
    }
}

/// The job that an insert creates.
pub(super) fn new_job(job: &NewJob) -> Job {
    Job {
        job_id: job.job_id.as_str().into(),
        queue: job.queue.as_str().into(),
        owner: job.owner.as_str().into(),
        namespace: non_empty(job.namespace.as_ref()),
        job_set: job.job_set.as_str().into(),
        cpu: job.cpu,
        memory: job.memory,
        ephemeral_storage: job.ephemeral_storage,
        gpu: job.gpu,
        priority: job.priority,
        priority_class: non_empty(job.priority_class.as_ref()),
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

/// The run that an insert creates.
pub(super) fn new_run(query: &InsertJobRun) -> StoredRun {
    StoredRun {
        job_id: query.job_id.clone(),
        run: Run {
            run_id: query.job_run_id.as_str().into(),
            cluster: query.cluster.as_str().into(),
            node: non_empty(query.node.as_ref()),
            pool: non_empty(query.pool.as_ref()),
            leased: Some(query.time),
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

pub(super) fn is_active(state: JobState) -> bool {
    matches!(state, JobState::Queued | JobState::Leased | JobState::Pending | JobState::Running)
}

fn set_state(job: &mut Job, state: JobState, time: Timestamp) {
    job.state = state;
    job.last_transition_time = time;
}

fn non_empty(text: Option<&String>) -> Option<SmolStr> {
    text.filter(|text| !text.is_empty()).map(SmolStr::from)
}

fn non_empty_bytes(bytes: Option<&Bytes>) -> Option<Bytes> {
    bytes.filter(|bytes| !bytes.is_empty()).cloned()
}

fn keep_or_set<T>(slot: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *slot = value;
    }
}
