//! The plan of a batch: the net effect of a list of queries, computed once for all backends.
//!
//! Inserts precede updates (rule 2 of the contract) and the first insert of an id wins (rule 3), so the plan has four
//! lists of inserts without repeated ids and two lists of updates with one entry for each id. The effect of a job
//! update depends on the stored state (rule 5), which the plan does not know; it holds the effect for each of the three
//! cases, and a backend selects one by the stored state.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::id_index::IdIndex;
use super::query::*;
use super::validate;
use crate::error::{Error, Operation, Result};
use crate::model::{JobState, RunState};
use crate::time::Timestamp;

/// A validated batch, the argument of [`execute_ingestion_query_batch`]. Backends do not validate again.
///
/// ```
/// use broadside::ingest::{IngestionBatch, InsertJobError};
///
/// let error = InsertJobError { job_id: "job-1".into(), error: Some("out of memory".into()) };
/// let batch = IngestionBatch::new([error.into()])?;
/// assert_eq!((batch.query_count(), batch.errors().len()), (1, 1));
/// # Ok::<(), broadside::Error>(())
/// ```
///
/// [`execute_ingestion_query_batch`]: crate::Database::execute_ingestion_query_batch
///
/// Cloning shares the queries.
#[derive(Debug, Clone, Default)]
pub struct IngestionBatch {
    plan: Arc<Plan>,
}

/// The plan of a batch.
#[derive(Debug, Default)]
struct Plan {
    jobs: Vec<JobInsert>,
    specs: Vec<RecordInsert>,
    errors: Vec<RecordInsert>,
    runs: Vec<RunInsert>,
    job_updates: Vec<JobUpdate>,
    run_updates: Vec<RunUpdate>,
    query_count: usize,
}

/// A job to insert in state QUEUED, unless its id is known.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobInsert {
    /// The job's id.
    pub job_id: String,
    /// The queue.
    pub queue: String,
    /// The job set.
    pub job_set: String,
    /// The submitting user.
    pub owner: String,
    /// The Kubernetes namespace; never empty.
    pub namespace: Option<String>,
    /// The priority.
    pub priority: i64,
    /// The Kubernetes priority class; never empty.
    pub priority_class: Option<String>,
    /// When it was submitted: also the time of the transition to QUEUED.
    pub submitted: Timestamp,
    /// Requested cores.
    pub cpu: i64,
    /// Requested memory, in bytes.
    pub memory: i64,
    /// Requested ephemeral storage, in bytes.
    pub ephemeral_storage: i64,
    /// Requested GPUs.
    pub gpu: i64,
    /// The annotations, by key.
    pub annotations: BTreeMap<String, String>,
}

/// A job's spec or error to insert, unless the job has one. The job need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordInsert {
    /// The job's id.
    pub job_id: String,
    /// The encoded spec, or the error; never empty.
    pub value: Bytes,
}

/// A run to insert in state RUN_LEASED, unless its id is known.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunInsert {
    /// The run's id.
    pub run_id: String,
    /// The id of the job it belongs to, which need not exist.
    pub job_id: String,
    /// The cluster.
    pub cluster: String,
    /// The node; never empty.
    pub node: Option<String>,
    /// The pool; never empty.
    pub pool: Option<String>,
    /// When it was leased.
    pub leased: Timestamp,
}

/// The net effect of a batch's updates of one job.
///
/// | stored state | effect |
/// |---|---|
/// | active | `if_active` |
/// | SUCCEEDED, FAILED, CANCELLED | state PREEMPTED and the transition time `preempted`, if there is one |
/// | PREEMPTED, REJECTED, unknown job | none |
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobUpdate {
    /// The job's id.
    pub job_id: String,
    /// The changes to an active job.
    pub if_active: JobPatch,
    /// The time of the batch's first preemption of the job.
    pub preempted: Option<Timestamp>,
}

/// The change that a [`JobUpdate`] makes to a job in a given state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEffect<'a> {
    /// The job stays as it is.
    None,
    /// The columns of the patch are set.
    Patch(&'a JobPatch),
    /// The state becomes PREEMPTED at this time; all other columns stay.
    Preempt(Timestamp),
}

/// New values for a job's columns; `None` leaves a column unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobPatch {
    /// The last priority.
    pub priority: Option<i64>,
    /// The last state and the time of its transition.
    pub transition: Option<(JobState, Timestamp)>,
    /// The last latest run.
    pub latest_run_id: Option<String>,
    /// Set if the job passes through CANCELLED, also when a preemption then overrides the state.
    pub cancellation: Option<Cancellation>,
}

/// The columns that a cancellation sets.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cancellation {
    /// The time of cancellation.
    pub time: Timestamp,
    /// The reason; never empty.
    pub reason: Option<String>,
    /// The user; never empty.
    pub user: Option<String>,
}

/// The net effect of a batch's updates of one run: the last value of each field; `None` leaves a
/// column unchanged. Every run query sets a state, so there always is one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunUpdate {
    /// The run's id.
    pub run_id: String,
    /// The last state.
    pub state: RunState,
    /// The last node; never empty.
    pub node: Option<String>,
    /// When the run became pending.
    pub pending: Option<Timestamp>,
    /// When the run started.
    pub started: Option<Timestamp>,
    /// When the run finished.
    pub finished: Option<Timestamp>,
    /// The last exit code.
    pub exit_code: Option<i32>,
    /// The last error; never empty.
    pub error: Option<Bytes>,
    /// The last debug message; never empty.
    pub debug: Option<Bytes>,
}

impl IngestionBatch {
    /// Validates queries and computes their net effect.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for the first query that breaks a limit, naming its position (from 0),
    /// its type, the field and the value.
    pub fn new(queries: impl IntoIterator<Item = IngestionQuery>) -> Result<Self> {
        let mut planner = Planner::default();
        for query in queries {
            validate::check(&query).map_err(|violation| {
                Error::invalid(
                    Operation::ExecuteIngestionQueryBatch,
                    format!("query {} ({}): {violation}", planner.plan.query_count, query.type_name()),
                )
            })?;
            planner.add(query);
            planner.plan.query_count += 1;
        }
        Ok(Self { plan: Arc::new(planner.plan) })
    }

    /// The number of queries in the batch.
    pub fn query_count(&self) -> usize {
        self.plan.query_count
    }

    /// The jobs to insert, no id twice.
    pub fn jobs(&self) -> &[JobInsert] {
        &self.plan.jobs
    }

    /// The specs to insert, no job twice.
    pub fn specs(&self) -> &[RecordInsert] {
        &self.plan.specs
    }

    /// The job errors to insert, no job twice.
    pub fn errors(&self) -> &[RecordInsert] {
        &self.plan.errors
    }

    /// The runs to insert, no id twice.
    pub fn runs(&self) -> &[RunInsert] {
        &self.plan.runs
    }

    /// The updates of jobs, no job twice; to be applied after the inserts.
    pub fn job_updates(&self) -> &[JobUpdate] {
        &self.plan.job_updates
    }

    /// The updates of runs, no run twice; to be applied after the inserts.
    pub fn run_updates(&self) -> &[RunUpdate] {
        &self.plan.run_updates
    }

    /// Whether executing the batch changes nothing on any store.
    pub fn is_empty(&self) -> bool {
        self.plan.jobs.is_empty()
            && self.plan.specs.is_empty()
            && self.plan.errors.is_empty()
            && self.plan.runs.is_empty()
            && self.plan.job_updates.is_empty()
            && self.plan.run_updates.is_empty()
    }
}

impl TryFrom<Vec<IngestionQuery>> for IngestionBatch {
    type Error = Error;

    fn try_from(queries: Vec<IngestionQuery>) -> Result<Self> {
        Self::new(queries)
    }
}

/// A change that one query makes to a job.
enum JobChange {
    Priority(i64),
    Transition { state: JobState, time: Timestamp, latest_run_id: Option<String> },
    Cancel(Cancellation),
}

/// A batch under construction, with an index of the ids in it.
#[derive(Default)]
struct Planner {
    plan: Plan,
    job_ids: IdIndex,
    spec_ids: IdIndex,
    error_ids: IdIndex,
    run_ids: IdIndex,
    updated_jobs: IdIndex,
    updated_runs: IdIndex,
}

impl Planner {
    fn add(&mut self, query: IngestionQuery) {
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
        // A repeated insert of a job still inserts its spec (rule 3).
        if non_empty_bytes(job_spec.clone()).is_some() {
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
    /// The effect of the update on a job in this state. SQL backends decide the same inside the server, from
    /// [`StateSet::ACTIVE`](crate::model::StateSet::ACTIVE) and
    /// [`StateSet::PREEMPTIBLE_ENDS`](crate::model::StateSet::PREEMPTIBLE_ENDS).
    pub fn effect_on(&self, state: JobState) -> JobEffect<'_> {
        match self.preempted {
            _ if state.is_active() => JobEffect::Patch(&self.if_active),
            Some(time) if state.is_preemptible_end() => JobEffect::Preempt(time),
            _ => JobEffect::None,
        }
    }

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
