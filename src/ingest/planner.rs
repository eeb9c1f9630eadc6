//! Computes the plan of a batch, query by query.

use bytes::Bytes;

use super::id_index::IdIndex;
use super::plan::*;
use super::query::*;
use crate::model::{JobState, RunState};
use crate::time::Timestamp;

/// The change of a job by one query.
enum JobChange {
    Priority(i64),
    Transition { state: JobState, time: Timestamp, latest_run_id: Option<String> },
    Cancel(Cancellation),
}

/// A plan during construction, with indexes of its ids.
#[derive(Default)]
pub(super) struct Planner {
    pub(super) plan: Plan,
    job_ids: IdIndex,
    spec_ids: IdIndex,
    error_ids: IdIndex,
    run_ids: IdIndex,
    updated_jobs: IdIndex,
    updated_runs: IdIndex,
}

impl Planner {
    /// The last spec in the plan, or an absent one.
    pub(super) fn valid_spec(&self) -> &[u8] {
        self.plan.specs.last().map_or(&[], |spec| &spec.value)
    }

    pub(super) fn add(&mut self, query: IngestionQuery) {
        match query {
            IngestionQuery::InsertJob(query) => self.insert_job(query),
            IngestionQuery::InsertJobSpec(query) => self.insert_spec(query.job_id, query.job_spec),
            IngestionQuery::UpdateJobPriority(query) => {
                self.update_job(query.job_id, JobChange::Priority(query.priority));
            }
            IngestionQuery::SetJobLeased(query) => {
                self.transition(query.job_id, JobState::Leased, query.time, Some(query.run_id));
            }
            IngestionQuery::SetJobPending(query) => {
                self.transition(query.job_id, JobState::Pending, query.time, Some(query.run_id));
            }
            IngestionQuery::SetJobRunning(query) => {
                self.transition(query.job_id, JobState::Running, query.time, Some(query.latest_run_id));
            }
            IngestionQuery::SetJobSucceeded(query) => {
                self.transition(query.job_id, JobState::Succeeded, query.time, None);
            }
            IngestionQuery::SetJobErrored(query) => {
                self.transition(query.job_id, JobState::Failed, query.time, None);
            }
            IngestionQuery::SetJobRejected(query) => {
                self.transition(query.job_id, JobState::Rejected, query.time, None);
            }
            IngestionQuery::SetJobPreempted(query) => {
                self.transition(query.job_id, JobState::Preempted, query.time, None);
            }
            IngestionQuery::SetJobCancelled(query) => self.update_job(
                query.job_id,
                JobChange::Cancel(Cancellation {
                    time: query.time,
                    reason: non_empty(query.cancel_reason),
                    user: non_empty(query.cancel_user),
                }),
            ),
            IngestionQuery::InsertJobError(query) => self.insert_error(query.job_id, query.error),
            IngestionQuery::InsertJobRun(query) => self.insert_run(query),
            IngestionQuery::SetJobRunPending(query) => {
                self.update_run(query.job_run_id, RunState::Pending).pending = Some(query.time);
            }
            IngestionQuery::SetJobRunStarted(query) => {
                let update = self.update_run(query.job_run_id, RunState::Running);
                update.started = Some(query.time);
                set_if_some(&mut update.node, non_empty(query.node));
            }
            IngestionQuery::SetJobRunSucceeded(query) => {
                let update = self.update_run(query.job_run_id, RunState::Succeeded);
                update.finished = Some(query.time);
                update.exit_code = Some(query.exit_code);
            }
            IngestionQuery::SetJobRunFailed(query) => {
                let update = self.update_run(query.job_run_id, RunState::Failed);
                update.finished = Some(query.time);
                update.exit_code = Some(query.exit_code);
                set_if_some(&mut update.error, non_empty_bytes(query.error));
                set_if_some(&mut update.debug, non_empty_bytes(query.debug));
            }
            IngestionQuery::SetJobRunCancelled(query) => {
                self.update_run(query.job_run_id, RunState::Cancelled).finished = Some(query.time);
            }
            IngestionQuery::SetJobRunPreempted(query) => {
                let update = self.update_run(query.job_run_id, RunState::Preempted);
                update.finished = Some(query.time);
                set_if_some(&mut update.error, non_empty_bytes(query.error));
            }
        }
    }

    fn insert_job(&mut self, InsertJob { job, job_spec }: InsertJob) {
        // A repeated insert of a job still inserts its spec.
        if job_spec.as_ref().is_some_and(|spec| !spec.is_empty()) {
            self.insert_spec(job.job_id.clone(), job_spec);
        }
        let jobs = &mut self.plan.jobs;
        if self.job_ids.claim(&job.job_id, jobs.len(), |slot| &jobs[slot].job_id).is_none() {
            jobs.push(JobInsert {
                job_id: job.job_id,
                queue: job.queue,
                job_set: job.job_set,
                owner: job.owner,
                namespace: non_empty(job.namespace),
                priority: job.priority,
                priority_class: non_empty(job.priority_class),
                submitted: job.submitted,
                cpu: job.cpu,
                memory: job.memory,
                ephemeral_storage: job.ephemeral_storage,
                gpu: job.gpu,
                annotations: job.annotations,
            });
        }
    }

    fn insert_spec(&mut self, job_id: String, spec: Option<Bytes>) {
        insert_record(&mut self.plan.specs, &mut self.spec_ids, job_id, spec);
    }

    fn insert_error(&mut self, job_id: String, error: Option<Bytes>) {
        insert_record(&mut self.plan.errors, &mut self.error_ids, job_id, error);
    }

    fn insert_run(&mut self, query: InsertJobRun) {
        let runs = &mut self.plan.runs;
        if self.run_ids.claim(&query.job_run_id, runs.len(), |slot| &runs[slot].run_id).is_none() {
            runs.push(RunInsert {
                run_id: query.job_run_id,
                job_id: query.job_id,
                cluster: query.cluster,
                node: non_empty(query.node),
                pool: non_empty(query.pool),
                leased: query.time,
            });
        }
    }

    fn transition(&mut self, job_id: String, state: JobState, time: Timestamp, latest_run_id: Option<String>) {
        self.update_job(job_id, JobChange::Transition { state, time, latest_run_id });
    }

    fn update_job(&mut self, job_id: String, change: JobChange) {
        let updates = &mut self.plan.job_updates;
        let slot = self.updated_jobs.claim(&job_id, updates.len(), |slot| &updates[slot].job_id);
        let slot = slot.unwrap_or_else(|| {
            updates.push(JobUpdate { job_id, if_active: JobPatch::default(), preempted: None });
            updates.len() - 1
        });
        updates[slot].apply(change);
    }

    fn update_run(&mut self, run_id: String, state: RunState) -> &mut RunUpdate {
        let updates = &mut self.plan.run_updates;
        let slot = self.updated_runs.claim(&run_id, updates.len(), |slot| &updates[slot].run_id);
        let slot = slot.unwrap_or_else(|| {
            updates.push(RunUpdate::new(run_id, state));
            updates.len() - 1
        });
        let update = &mut updates[slot];
        update.state = state;
        update
    }
}

impl JobUpdate {
    /// Applies the next change in list order to each case.
    fn apply(&mut self, change: JobChange) {
        if let JobChange::Transition { state: JobState::Preempted, time, .. } = change {
            self.preempted.get_or_insert(time);
        }
        let state_so_far = self.if_active.transition.map(|(state, _)| state);
        match (state_so_far, &change) {
            (Some(end), JobChange::Transition { state: JobState::Preempted, .. }) if end.is_preemptible_end() => {}
            (Some(end), _) if end.is_terminal() => return,
            _ => {}
        }
        let patch = &mut self.if_active;
        match change {
            JobChange::Priority(priority) => patch.priority = Some(priority),
            JobChange::Transition { state, time, latest_run_id } => {
                patch.transition = Some((state, time));
                set_if_some(&mut patch.latest_run_id, latest_run_id);
            }
            JobChange::Cancel(cancellation) => {
                patch.transition = Some((JobState::Cancelled, cancellation.time));
                patch.cancellation = Some(cancellation);
            }
        }
    }
}

impl RunUpdate {
    fn new(run_id: String, state: RunState) -> Self {
        Self {
            run_id,
            state,
            node: None,
            pending: None,
            started: None,
            finished: None,
            exit_code: None,
            error: None,
            debug: None,
        }
    }
}

fn insert_record(records: &mut Vec<RecordInsert>, ids: &mut IdIndex, job_id: String, value: Option<Bytes>) {
    let Some(value) = non_empty_bytes(value) else { return };
    if ids.claim(&job_id, records.len(), |slot| &records[slot].job_id).is_none() {
        records.push(RecordInsert { job_id, value });
    }
}

fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn non_empty_bytes(bytes: Option<Bytes>) -> Option<Bytes> {
    bytes.filter(|bytes| !bytes.is_empty())
}

fn set_if_some<T>(slot: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *slot = value;
    }
}
