//! The ingestion queries of a job's lifecycle in the order of Lookout's ingester, and batches of them.

use std::collections::VecDeque;
use std::ops::Range;
use std::vec;

use bytes::Bytes;
use k8s_pb::api::core::v1::{Container, PodSpec};
use prost::Message;

use super::{GeneratedJob, GeneratedRun, Workload};
use crate::api;
use crate::ingest::*;
use crate::model::JobState;
use crate::time::Timestamp;

/// The queries that the ingester sends for one state transition of a job.
pub type Stage = Vec<IngestionQuery>;

impl Workload {
    /// Batches of complete lifecycles in the order of the ids. This is the fastest way to load the workload.
    pub fn batches(&self, jobs_per_batch: u64) -> impl Iterator<Item = Vec<IngestionQuery>> + '_ {
        self.batches_of(0..self.options.jobs, jobs_per_batch)
    }

    /// The [`batches`](Self::batches) of some of the jobs.
    pub fn batches_of(
        &self,
        numbers: Range<u64>,
        jobs_per_batch: u64,
    ) -> impl Iterator<Item = Vec<IngestionQuery>> + '_ {
        let step = jobs_per_batch.max(1);
        let batches = numbers.end.saturating_sub(numbers.start).div_ceil(step);
        (0..batches).map(move |batch| {
            let first = numbers.start + batch * step;
            let numbers = first..numbers.end.min(first + step);
            numbers.flat_map(|number| self.lifecycle(number).into_iter().flatten()).collect()
        })
    }

    /// The same queries in the batches of an ingester that keeps up: each batch submits `jobs_per_batch` jobs and
    /// contains the next stage of every unfinished job.
    pub fn live_batches(&self, jobs_per_batch: u64) -> impl Iterator<Item = Vec<IngestionQuery>> + '_ {
        self.live_batches_of(0..self.options.jobs, jobs_per_batch)
    }

    /// The [`live_batches`](Self::live_batches) of some of the jobs.
    pub fn live_batches_of(
        &self,
        numbers: Range<u64>,
        jobs_per_batch: u64,
    ) -> impl Iterator<Item = Vec<IngestionQuery>> + '_ {
        let step = jobs_per_batch.max(1);
        let mut next = numbers.start;
        let mut unfinished: VecDeque<vec::IntoIter<Stage>> = VecDeque::new();
        std::iter::from_fn(move || {
            let submitted = next..numbers.end.min(next + step);
            next = submitted.end;
            unfinished.extend(submitted.map(|number| self.lifecycle(number).into_iter()));
            let batch: Vec<_> = unfinished.iter_mut().filter_map(Iterator::next).flatten().collect();
            unfinished.retain(|stages| stages.len() > 0);
            (!batch.is_empty()).then_some(batch)
        })
    }

    /// The stages of the lifecycle of a job.
    pub fn lifecycle(&self, number: u64) -> Vec<Stage> {
        let job = self.job(number);
        let job_spec = job.has_spec(self.options.specs_every).then(|| spec(&job.new));
        let mut stages = vec![vec![InsertJob { job: job.new.clone(), job_spec }.into()]];
        let (latest, earlier) = match job.runs.split_last() {
            Some((latest, earlier)) => (Some(latest), earlier),
            None => (None, [].as_slice()),
        };
        for run in earlier {
            stages.extend(start_of(&job, run));
            stages.extend(run.finished.map(|time| vec![run_failed(&job, run, time)]));
        }
        if let Some(run) = latest {
            stages.extend(start_of(&job, run));
        }
        if job.state.is_terminal() {
            stages.push(end_of(&job, latest));
        }
        stages
    }
}

/// The spec of a job with one container.
fn spec(job: &NewJob) -> Bytes {
    let container = Container {
        name: Some("main".to_owned()),
        image: Some(format!("registry.example.com/{}:latest", job.queue)),
        args: vec!["--job-set".to_owned(), job.job_set.clone()],
        ..Container::default()
    };
    let pod = PodSpec {
        containers: vec![container],
        restart_policy: Some("Never".to_owned()),
        priority_class_name: job.priority_class.clone(),
        ..PodSpec::default()
    };
    let created = prost_types::Timestamp {
        seconds: job.submitted.floor_seconds(),
        nanos: (job.submitted.as_micros().rem_euclid(1_000_000) * 1000) as i32,
    };
    let message = api::Job {
        id: job.job_id.clone(),
        job_set_id: job.job_set.clone(),
        queue: job.queue.clone(),
        priority: job.priority as f64,
        created: Some(created),
        namespace: job.namespace.clone().unwrap_or_default(),
        owner: job.owner.clone(),
        annotations: job.annotations.clone(),
        pod_specs: vec![pod],
        ..api::Job::default()
    };
    message.encode_to_vec().into()
}

/// The stages of a run until RUNNING, or until the last state that it reached before.
fn start_of(job: &GeneratedJob, run: &GeneratedRun) -> impl Iterator<Item = Stage> {
    let ids = RunOfJob { job_id: &job.new.job_id, run_id: &run.run_id, submitted: job.new.submitted };
    let leased = ids.leased(run.leased, run.cluster.clone(), run.node.clone(), run.pool);
    let pending = run.pending.map(|time| ids.pending(time));
    let started = run.started.map(|time| ids.running(time, run.node.clone()));
    std::iter::once(leased).chain(pending).chain(started).map(Stage::from)
}

/// The last stage of a terminal job: the end of the latest run, if there is one, and of the job.
fn end_of(job: &GeneratedJob, latest: Option<&GeneratedRun>) -> Stage {
    let time = job.last_transition_time;
    let job_id = job.new.job_id.clone();
    let submitted = Some(job.new.submitted);
    let mut stage = Stage::new();
    stage.extend(latest.map(|run| end_of_run(job, run, time)));
    match job.state {
        JobState::Succeeded => stage.push(SetJobSucceeded { job_id, time, submitted }.into()),
        JobState::Failed => {
            stage.push(InsertJobError { job_id: job_id.clone(), error: Some(error_of(job)), submitted: None }.into());
            stage.push(SetJobErrored { job_id, time, submitted }.into());
        }
        JobState::Rejected => {
            let NewJob { cpu, gpu, .. } = job.new;
            let error = format!("job {job_id} fits on no node: {cpu}m CPU and {gpu} GPUs requested");
            stage.push(InsertJobError { job_id: job_id.clone(), error: Some(error.into()), submitted: None }.into());
            stage.push(SetJobRejected { job_id, time, submitted }.into());
        }
        JobState::Cancelled => stage.push(
            SetJobCancelled {
                job_id,
                time,
                cancel_reason: job.cancel_reason.map(str::to_owned),
                cancel_user: Some(job.new.owner.clone()),
                submitted,
            }
            .into(),
        ),
        JobState::Preempted => stage.push(SetJobPreempted { job_id, time, submitted }.into()),
        _ => {}
    }
    stage
}

fn end_of_run(job: &GeneratedJob, run: &GeneratedRun, time: Timestamp) -> IngestionQuery {
    let job_run_id = run.run_id.clone();
    let submitted = Some(job.new.submitted);
    match job.state {
        JobState::Failed => run_failed(job, run, time),
        JobState::Cancelled => SetJobRunCancelled { job_run_id, time, submitted }.into(),
        JobState::Preempted => {
            let error = format!("preempted on {} by a job of a higher priority class", run.node);
            SetJobRunPreempted { job_run_id, time, error: Some(error.into()), submitted }.into()
        }
        _ => SetJobRunSucceeded { job_run_id, time, exit_code: 0, submitted }.into(),
    }
}

fn run_failed(job: &GeneratedJob, run: &GeneratedRun, time: Timestamp) -> IngestionQuery {
    let (failure, exit_code) = job.failure;
    let debug = format!("node {} in pool {}: last state of container main: {failure}", run.node, run.pool);
    SetJobRunFailed {
        job_run_id: run.run_id.clone(),
        time,
        error: Some(error_of(job)),
        debug: Some(debug.into()),
        exit_code,
        submitted: Some(job.new.submitted),
    }
    .into()
}

fn error_of(job: &GeneratedJob) -> Bytes {
    format!("job {}: {}", job.new.job_id, job.failure.0).into()
}
