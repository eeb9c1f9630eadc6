//! The lifecycle of a live job: its stages, their due times and their ingestion queries.

use std::collections::VecDeque;
use std::time::Duration;

use super::attributes::Attributes;
use super::config::{LoadConfig, TransitionConfig};
use super::ids::{LiveId, number_in_id};
use super::payloads;
use super::selection::{Selection, SelectionKind, Selector};
use crate::ingest::{
    IngestionQuery, InsertJob, InsertJobError, InsertJobRun, SetJobErrored, SetJobLeased, SetJobPending,
    SetJobRunFailed, SetJobRunPending, SetJobRunStarted, SetJobRunSucceeded, SetJobRunning, SetJobSucceeded,
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
    names: Vec<(String, Vec<String>)>,
    selector: Selector,
    attributes: Attributes,
    delays: Delays,
    /// The wall-clock time of the start of the load.
    start: Timestamp,
}

impl JobFactory {
    pub(super) fn new(config: &LoadConfig, kind: SelectionKind, seed: u64, start: Timestamp) -> Self {
        let selector = Selector::new(kind, seed, config);
        let names = config
            .queues
            .iter()
            .map(|queue| (queue.name.clone(), queue.job_sets.iter().map(|set| set.name.clone()).collect()));
        Self {
            names: names.collect(),
            attributes: Attributes::new(selector.source()),
            selector,
            delays: Delays::new(&config.ingestion.transitions),
            start,
        }
    }

    pub(super) fn delays(&self) -> &Delays {
        &self.delays
    }

    /// Creates job `number`. `arrival` is in microseconds from the start of the load.
    pub(super) fn job(&self, number: u64, arrival: u64) -> LiveJob {
        let Selection { queue, job_set, succeeds } = self.selector.select(number);
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

    pub(super) fn names(&self, job: &LiveJob) -> (&str, &str) {
        let (queue, job_sets) = &self.names[usize::from(job.queue)];
        (queue, &job_sets[usize::from(job.job_set)])
    }

    pub(super) fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// Appends the ingestion queries of the transition into a stage.
    pub(super) fn push_queries(&self, job: &LiveJob, stage: LifeStage, queries: &mut VecDeque<IngestionQuery>) {
        let id = self.id(job);
        let submitted = Some(self.time(job.arrival));
        let time = self.time(self.delays.due(job, stage));
        let job_id = || id.job().to_owned();
        let run_id = || id.run().to_owned();
        match stage {
            LifeStage::Submitted => {
                let (queue, job_set) = self.names(job);
                let new = self.attributes.job(job.number, id.job(), queue, job_set, time);
                queries.push_back(InsertJob { job: new, job_spec: Some(payloads::spec()) }.into());
            }
            LifeStage::Leased => {
                let placement = self.attributes.placement(job.number);
                queries.push_back(SetJobLeased { job_id: job_id(), time, run_id: run_id(), submitted }.into());
                let run = InsertJobRun {
                    job_run_id: run_id(),
                    job_id: job_id(),
                    cluster: placement.cluster,
                    node: Some(placement.node),
                    pool: Some(placement.pool.to_owned()),
                    time,
                    submitted,
                };
                queries.push_back(run.into());
            }
            LifeStage::Pending => {
                queries.push_back(SetJobPending { job_id: job_id(), time, run_id: run_id(), submitted }.into());
                queries.push_back(SetJobRunPending { job_run_id: run_id(), time, submitted }.into());
            }
            LifeStage::Running => {
                let node = Some(self.attributes.placement(job.number).node);
                queries.push_back(SetJobRunning { job_id: job_id(), time, latest_run_id: run_id(), submitted }.into());
                queries.push_back(SetJobRunStarted { job_run_id: run_id(), time, node, submitted }.into());
            }
            LifeStage::Succeeded => {
                queries.push_back(SetJobSucceeded { job_id: job_id(), time, submitted }.into());
                queries.push_back(SetJobRunSucceeded { job_run_id: run_id(), time, exit_code: 0, submitted }.into());
            }
            LifeStage::Failed => {
                let failed = SetJobRunFailed {
                    job_run_id: run_id(),
                    time,
                    error: Some(payloads::error()),
                    debug: Some(payloads::debug()),
                    exit_code: FAILED_EXIT_CODE,
                    submitted,
                };
                queries.push_back(SetJobErrored { job_id: job_id(), time, submitted }.into());
                queries.push_back(failed.into());
                queries
                    .push_back(InsertJobError { job_id: job_id(), error: Some(payloads::error()), submitted }.into());
            }
        }
    }
}
