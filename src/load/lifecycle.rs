//! The lifecycle of a live job: its stages, their due times and their ingestion queries.

use std::collections::VecDeque;
use std::time::Duration;

use super::attributes::Placement;
use super::config::{LoadConfig, QueueConfig, TransitionConfig};
use super::ids::{LiveId, number_in_id};
use super::payloads;
use super::selection::{JobChoice, SelectionKind, Selector};
use crate::ingest::{
    IngestionQuery, InsertJob, InsertJobError, NewJob, RunOfJob, SetJobErrored, SetJobRunFailed, SetJobRunSucceeded,
    SetJobSucceeded,
};
use crate::model::JobState;
use crate::time::Timestamp;

/// The exit code of the runs of failed jobs.
pub(super) const FAILED_EXIT_CODE: i32 = 1;

/// An active job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LiveJob {
    /// The job number, starting at 0.
    pub(super) number: u64,
    /// The submission time, in microseconds from the start of the load.
    pub(super) arrival: u64,
    pub(super) queue: u16,
    pub(super) job_set: u16,
    pub(super) succeeds: bool,
}

/// The key of a live job, which can be derived from a stored job: the arrival, and the job number in the id.
pub(super) type LiveKey = (u64, u64);

impl LiveJob {
    pub(super) fn key(&self) -> LiveKey {
        (self.arrival, number_in_id(self.number))
    }
}

/// The stages of a lifecycle, in order. `Succeeded` and `Failed` are alternatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LifeStage {
    Submitted,
    Leased,
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl LifeStage {
    pub(super) const ALL: [Self; 6] =
        [Self::Submitted, Self::Leased, Self::Pending, Self::Running, Self::Succeeded, Self::Failed];

    /// The state of a job in this stage.
    pub(super) const fn state(self) -> JobState {
        match self {
            Self::Submitted => JobState::Queued,
            Self::Leased => JobState::Leased,
            Self::Pending => JobState::Pending,
            Self::Running => JobState::Running,
            Self::Succeeded => JobState::Succeeded,
            Self::Failed => JobState::Failed,
        }
    }

    /// The number of ingestion queries of the transition into this stage.
    pub(super) const fn query_count(self) -> u64 {
        match self {
            Self::Submitted => 1,
            Self::Leased | Self::Pending | Self::Running | Self::Succeeded => 2,
            Self::Failed => 3,
        }
    }

    /// The previous stage.
    pub(super) const fn before(self) -> Option<Self> {
        Some(match self {
            Self::Submitted => return None,
            Self::Leased => Self::Submitted,
            Self::Pending => Self::Leased,
            Self::Running => Self::Pending,
            Self::Succeeded | Self::Failed => Self::Running,
        })
    }

    /// The next stage of a job that succeeds or fails.
    pub(super) const fn after(self, succeeds: bool) -> Option<Self> {
        Some(match self {
            Self::Submitted => Self::Leased,
            Self::Leased => Self::Pending,
            Self::Pending => Self::Running,
            Self::Running if succeeds => Self::Succeeded,
            Self::Running => Self::Failed,
            Self::Succeeded | Self::Failed => return None,
        })
    }
}

/// The time from a job's arrival to each stage, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delays([u64; LifeStage::ALL.len()]);

impl Delays {
    pub(super) fn new(transitions: &TransitionConfig) -> Self {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let leased = micros(transitions.queueing_duration);
        let pending = leased.saturating_add(micros(transitions.leased_duration));
        let running = pending.saturating_add(micros(transitions.pending_duration));
        let succeeded = running.saturating_add(micros(transitions.running_to_success_duration));
        let failed = running.saturating_add(micros(transitions.running_to_failure_duration));
        Self([0, leased, pending, running, succeeded, failed])
    }

    pub(super) fn due(&self, job: &LiveJob, stage: LifeStage) -> u64 {
        job.arrival.saturating_add(self.0[stage as usize])
    }

    /// The last stage of a job that is due before a time, which is after its arrival.
    pub(super) fn stage_before(&self, job: &LiveJob, time: u64) -> LifeStage {
        let mut reached = LifeStage::Submitted;
        while let Some(stage) = reached.after(job.succeeds).filter(|&stage| self.due(job, stage) < time) {
            reached = stage;
        }
        reached
    }
}

/// Creates live jobs and the ingestion queries of their lifecycles.
#[derive(Debug, Clone)]
pub(super) struct JobFactory {
    queues: Vec<QueueConfig>,
    selector: Selector,
    delays: Delays,
    /// The wall-clock time of the start of the load.
    start: Timestamp,
}

impl JobFactory {
    pub(super) fn new(config: &LoadConfig, kind: SelectionKind, seed: u64, start: Timestamp) -> Self {
        Self {
            queues: config.queues.clone(),
            selector: Selector::new(kind, seed, config),
            delays: Delays::new(&config.ingestion.transitions),
            start,
        }
    }

    pub(super) fn delays(&self) -> &Delays {
        &self.delays
    }

    /// Creates job `number`. `arrival` is in microseconds from the start of the load.
    pub(super) fn job(&self, number: u64, arrival: u64) -> LiveJob {
        let JobChoice { queue, job_set, succeeds } = self.selector.select(number);
        LiveJob { number, arrival, queue: queue as u16, job_set: job_set as u16, succeeds }
    }

    /// Converts microseconds from the start of the load to wall-clock time.
    pub(super) fn time(&self, micros: u64) -> Timestamp {
        Timestamp::from_micros(self.start.as_micros().saturating_add_unsigned(micros))
    }

    /// Converts wall-clock time to microseconds from the start of the load; 0 before the start.
    pub(super) fn micros(&self, time: Timestamp) -> u64 {
        u64::try_from(time.as_micros() - self.start.as_micros()).unwrap_or(0)
    }

    /// The key of a stored job; `None` for a job of another run.
    pub(super) fn key(&self, submitted: Timestamp, job_id: &str) -> Option<LiveKey> {
        let arrival = u64::try_from(submitted.as_micros() - self.start.as_micros()).ok()?;
        Some((arrival, super::ids::number_of(job_id)?))
    }

    pub(super) fn id(&self, job: &LiveJob) -> LiveId {
        LiveId::new(self.time(job.arrival), job.queue.into(), job.job_set.into(), job.number)
    }

    /// The job as submitted.
    pub(super) fn new_job(&self, job: &LiveJob) -> NewJob {
        let queue = &self.queues[usize::from(job.queue)];
        let job_set = &queue.job_sets[usize::from(job.job_set)];
        let (id, submitted) = (self.id(job), self.time(job.arrival));
        self.selector.source().new_job(job.number, id.job(), &queue.name, &job_set.name, submitted)
    }

    /// The placement of the job's run.
    pub(super) fn placement(&self, job: &LiveJob) -> Placement {
        self.selector.source().placement(job.number)
    }

    /// Appends the ingestion queries of the transition into a stage.
    pub(super) fn push_queries(&self, job: &LiveJob, stage: LifeStage, queries: &mut VecDeque<IngestionQuery>) {
        let id = self.id(job);
        let submitted = self.time(job.arrival);
        let run = RunOfJob { job_id: id.job(), run_id: id.run(), submitted };
        let submitted = Some(submitted);
        let time = self.time(self.delays.due(job, stage));
        let job_id = || id.job().to_owned();
        let run_id = || id.run().to_owned();
        match stage {
            LifeStage::Submitted => {
                let new = self.new_job(job);
                queries.push_back(InsertJob { job: new, job_spec: Some(payloads::SPEC.clone()) }.into());
            }
            LifeStage::Leased => {
                let Placement { cluster, node, pool } = self.placement(job);
                queries.extend(run.leased(time, cluster, node, pool));
            }
            LifeStage::Pending => queries.extend(run.pending(time)),
            LifeStage::Running => queries.extend(run.running(time, self.placement(job).node)),
            LifeStage::Succeeded => {
                queries.push_back(SetJobSucceeded { job_id: job_id(), time, submitted }.into());
                queries.push_back(SetJobRunSucceeded { job_run_id: run_id(), time, exit_code: 0, submitted }.into());
            }
            LifeStage::Failed => {
                let failed = SetJobRunFailed {
                    job_run_id: run_id(),
                    time,
                    error: Some(payloads::ERROR.clone()),
                    debug: Some(payloads::DEBUG.clone()),
                    exit_code: FAILED_EXIT_CODE,
                    submitted,
                };
                queries.push_back(SetJobErrored { job_id: job_id(), time, submitted }.into());
                queries.push_back(failed.into());
                queries.push_back(
                    InsertJobError { job_id: job_id(), error: Some(payloads::ERROR.clone()), submitted }.into(),
                );
            }
        }
    }
}
