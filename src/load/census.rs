//! The census: a comparison of the store with the ingested jobs.

use super::actions::{CANCEL_REASON, CANCEL_USER, NEW_PRIORITY};
use super::expectation::ExpectedCounts;
use super::generator::Generator;
use super::lifecycle::{FAILED_EXIT_CODE, LifeStage, LiveJob};
use super::record::CensusRecord;
use crate::database::Database;
use crate::error::Result;
use crate::model::{Job, JobState, Run, RunState};
use crate::query::{GroupField, GroupQuery, JobQuery, TextField};
use crate::time::Timestamp;

/// The number of sampled jobs per read.
const CHUNK_SIZE: usize = 64;
/// The maximum number of differences in the record.
const MAX_DIFFERENCES: usize = 20;

/// Counts the jobs of a store by state, and those with a run.
pub(super) async fn counts(database: &dyn Database) -> Result<ExpectedCounts> {
    let states = database.get_job_groups(&GroupQuery::by(GroupField::State)).await?;
    let clusters = database.get_job_groups(&GroupQuery::by(GroupField::Cluster)).await?;
    let states: Vec<_> =
        states.iter().filter_map(|group| Some((group.name.parse::<JobState>().ok()?, group.count))).collect();
    // The group with the empty name has the jobs without a run.
    let with_run = clusters.iter().filter(|group| !group.name.is_empty()).map(|group| group.count).sum();
    Ok(ExpectedCounts::of_store(&states, with_run))
}

/// Compares the counts of the store with the expected ones, if any, and all fields of a sample of jobs.
pub(super) async fn take(
    database: &dyn Database,
    generator: &Generator,
    expected: Option<&ExpectedCounts>,
) -> Result<CensusRecord> {
    let mut differences = match expected {
        Some(expected) => expected.differences(&counts(database).await?),
        None => Vec::new(),
    };
    let sample = generator.sample();
    for jobs in sample.chunks(CHUNK_SIZE) {
        let ids = jobs.iter().map(|job| generator.factory().id(job).job().to_owned());
        let stored = database.get_jobs(&JobQuery::new().filter(TextField::JobId.any_of(ids))).await?;
        differences.extend(jobs.iter().filter_map(|job| difference(generator, job, &stored)));
    }
    let more = differences.len().saturating_sub(MAX_DIFFERENCES);
    differences.truncate(MAX_DIFFERENCES);
    if more > 0 {
        differences.push(format!("and {more} more"));
    }
    let jobs = expected.map_or(0, ExpectedCounts::jobs);
    Ok(CensusRecord { jobs, sampled: sample.len() as u64, differences })
}

/// The difference between a sampled job and the stored one; `None` if they are equal.
fn difference(generator: &Generator, job: &LiveJob, stored: &[Job]) -> Option<String> {
    let id = generator.factory().id(job);
    let Some(found) = stored.iter().find(|found| found.job_id == id.job()) else {
        return Some(format!("job {} is not stored", id.job()));
    };
    let mut expected = expected_job(generator, job);
    if expected.runs.last().is_none_or(|run| run.finished.is_none()) {
        // The value depends on the time of the read.
        expected.runtime_seconds = found.runtime_seconds;
    }
    if *found == expected {
        return None;
    }
    let [expected, found] = [&expected, found].map(|job| serde_json::to_value(job).unwrap_or_default());
    let fields = expected.as_object().into_iter().flatten().filter(|(field, value)| found.get(field) != Some(value));
    let fields: Vec<_> = fields
        .map(|(field, value)| format!("{field} is {}, expected {value}", found.get(field).cloned().unwrap_or_default()))
        .collect();
    Some(format!("job {}: {}", id.job(), fields.join("; ")))
}

/// The expected state of a job, derived from the stages that were due and the updates by actions.
fn expected_job(generator: &Generator, job: &LiveJob) -> Job {
    let factory = generator.factory();
    let cancelled = generator.owner(job).cancelled_at(job.key());
    // A stage due at the time of the cancellation precedes it.
    let until = cancelled.map_or(generator.horizon(), |time| factory.micros(time) + 1);
    let reached = factory.delays().stage_before(job, until.min(generator.horizon()));
    let id = factory.id(job);
    let new = factory.new_job(job);
    let submitted = new.submitted;
    let reprioritised = generator.owner(job).is_reprioritised(job.key());
    let mut expected = Job {
        job_id: new.job_id.into(),
        queue: new.queue.into(),
        owner: new.owner.into(),
        namespace: new.namespace.map(Into::into),
        job_set: new.job_set.into(),
        cpu: new.cpu,
        memory: new.memory,
        ephemeral_storage: new.ephemeral_storage,
        gpu: new.gpu,
        priority: if reprioritised { NEW_PRIORITY } else { new.priority },
        priority_class: new.priority_class.map(Into::into),
        submitted,
        cancelled,
        state: if cancelled.is_some() { JobState::Cancelled } else { reached.state() },
        last_transition_time: cancelled.unwrap_or_else(|| factory.time(factory.delays().due(job, reached))),
        last_active_run_id: (reached >= LifeStage::Leased).then(|| id.run().into()),
        duplicate: false,
        annotations: new.annotations.into_iter().collect(),
        runs: Vec::new(),
        cancel_reason: cancelled.map(|_| CANCEL_REASON.into()),
        cancel_user: cancelled.map(|_| CANCEL_USER.into()),
        node: None,
        cluster: Default::default(),
        pool: None,
        exit_code: None,
        runtime_seconds: 0,
    };
    if reached >= LifeStage::Leased {
        expected.attach_runs(vec![expected_run(generator, job, reached)], submitted);
    }
    expected
}

fn expected_run(generator: &Generator, job: &LiveJob, reached: LifeStage) -> Run {
    let factory = generator.factory();
    let placement = factory.placement(job);
    let at = |stage: LifeStage| -> Option<Timestamp> {
        (reached >= stage).then(|| factory.time(factory.delays().due(job, stage)))
    };
    let (job_run_state, exit_code) = match reached {
        LifeStage::Submitted | LifeStage::Leased => (RunState::Leased, None),
        LifeStage::Pending => (RunState::Pending, None),
        LifeStage::Running => (RunState::Running, None),
        LifeStage::Succeeded => (RunState::Succeeded, Some(0)),
        LifeStage::Failed => (RunState::Failed, Some(FAILED_EXIT_CODE)),
    };
    let end = if job.succeeds { LifeStage::Succeeded } else { LifeStage::Failed };
    Run {
        run_id: factory.id(job).run().into(),
        cluster: placement.cluster.into(),
        node: Some(placement.node.into()),
        pool: Some(placement.pool.into()),
        leased: at(LifeStage::Leased),
        pending: at(LifeStage::Pending),
        started: at(LifeStage::Running),
        finished: at(end),
        job_run_state,
        exit_code,
    }
}
