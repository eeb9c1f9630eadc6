//! Builds the queries of each kind.

use super::{Aggregate, Grouping, PageKind, QueryKind, Record};
use crate::model::JobState;
use crate::query::{
    Annotation, Comparison, Direction, GroupOrderKey, GroupQuery, IntegerField, JobOrderKey, JobQuery, ReadCall,
    StateField, TextField, TimeAggregate, TimeField,
};
use crate::workload::random::Random;
use crate::workload::{ANNOTATION_KEYS, GeneratedJob, Workload};

/// Rows per page, as in Lookout's user interface.
const PAGE: u64 = 100;
/// The width of a submission window.
const WINDOW_SECONDS: i64 = 6 * 3600;
/// The number of jobs sampled for one that has the values of a query.
const DRAWS: u64 = 1000;
/// Separates the random streams of queries from those of jobs.
const QUERY_STREAMS: u64 = 1 << 63;
/// The states of jobs that wait to run.
const WAITING: [JobState; 3] = [JobState::Queued, JobState::Leased, JobState::Pending];

impl Workload {
    /// The query of a kind and a number, which selects its values. `None` if no job of the
    /// workload has the values that the kind needs.
    pub fn query(&self, kind: QueryKind, number: u64) -> Option<ReadCall> {
        let jobs = self.options.jobs;
        let mut random = Random::new(self.options.seed, QUERY_STREAMS | number);
        // Random jobs, then all jobs if the workload is so small that the random ones may miss the only match.
        let anywhere = (0..DRAWS.min(jobs)).map(|_| random.below(jobs));
        anywhere.chain(0..DRAWS.min(jobs)).find_map(|number| self.query_like(kind, &self.job(number)))
    }

    /// The query of a kind with the values of a job; `None` if the job lacks a value that the kind requires.
    fn query_like(&self, kind: QueryKind, job: &GeneratedJob) -> Option<ReadCall> {
        Some(match kind {
            QueryKind::Page(kind) => ReadCall::Jobs(page(kind, job, self.options.jobs)?.limit(PAGE)),
            QueryKind::Groups { by, aggregates } => ReadCall::Groups(groups(by, aggregates)),
            QueryKind::Record(record) => {
                let id = record_id(record, job, self.options.specs_every)?;
                match record {
                    Record::Spec => ReadCall::JobSpec(id),
                    Record::Error => ReadCall::JobError(id),
                    Record::RunError => ReadCall::JobRunError(id),
                    Record::RunDebugMessage => ReadCall::JobRunDebugMessage(id),
                }
            }
        })
    }
}

fn page(kind: PageKind, job: &GeneratedJob, jobs: u64) -> Option<JobQuery> {
    let query = JobQuery::new();
    let newest = JobQuery::new().order_by(JobOrderKey::JobId, Direction::Descending);
    let queue = TextField::Queue.equals(&job.new.queue);
    Some(match kind {
        PageKind::Ordered { key, direction } => query.order_by(key, direction),
        PageKind::Annotations(count) => {
            let keys = ANNOTATION_KEYS.into_iter().take(count);
            newest.filters(keys.map(|key| Annotation(key).equals(&job.new.annotations[key])))
        }
        PageKind::QueueRunning if job.state == JobState::Running => {
            newest.filter(queue).filter(StateField.equals(JobState::Running))
        }
        PageKind::JobSetWaiting if WAITING.contains(&job.state) => query
            .filter(queue)
            .filter(TextField::JobSet.equals(&job.new.job_set))
            .filter(StateField.any_of(WAITING))
            .order_by(JobOrderKey::Submitted, Direction::Ascending),
        PageKind::Priority(comparison) => {
            let bound = match comparison {
                Comparison::Greater => job.new.priority - 1,
                Comparison::Less => job.new.priority + 1,
                Comparison::Equal | Comparison::GreaterOrEqual | Comparison::LessOrEqual => job.new.priority,
            };
            newest.filter(queue).filter(IntegerField::Priority.compare(comparison, bound))
        }
        PageKind::FailedWindow if job.state == JobState::Failed => query
            .filter(StateField.equals(JobState::Failed))
            .filter(TimeField::Submitted.at_least(job.new.submitted))
            .filter(TimeField::Submitted.less_than(job.new.submitted.plus_seconds(WINDOW_SECONDS)))
            .order_by(JobOrderKey::LastTransitionTime, Direction::Descending),
        PageKind::Node => {
            let run = job.runs.last()?;
            newest.filter(TextField::Cluster.equals(&run.cluster)).filter(TextField::Node.equals(&run.node))
        }
        PageKind::ActiveJobSets => {
            query.in_active_job_sets().order_by(JobOrderKey::LastTransitionTime, Direction::Descending)
        }
        PageKind::Contains => {
            // The job sets with the same purpose, in all queues, whose numbers differ only in the last digit.
            let text = job.new.job_set.strip_prefix(&job.new.queue)?;
            newest.filter(TextField::JobSet.contains(&text[..text.len().saturating_sub(1)]))
        }
        PageKind::StartsWith => {
            let text = &job.new.job_set[..job.new.job_set.len().saturating_sub(2)];
            newest.filter(TextField::JobSet.starts_with(text))
        }
        PageKind::DeepOffset => query.order_by(JobOrderKey::JobId, Direction::Ascending).offset(jobs / 2),
        PageKind::QueueRunning | PageKind::JobSetWaiting | PageKind::FailedWindow => return None,
    })
}

fn groups(by: Grouping, aggregates: &[Aggregate]) -> GroupQuery {
    let query = match by {
        Grouping::Field(field) => GroupQuery::by(field),
        Grouping::Annotation(key) => GroupQuery::by_annotation(key),
    };
    let query = aggregates.iter().fold(query, |query, aggregate| match aggregate {
        Aggregate::States => query.count_states(),
        Aggregate::Submitted => query.submitted(),
        Aggregate::LastTransitionTime => query.last_transition_time(TimeAggregate::Average),
    });
    query.order_by(GroupOrderKey::Count, Direction::Descending).limit(PAGE)
}

/// The id by which the record of a job is read, if the job has such a record.
fn record_id(record: Record, job: &GeneratedJob, specs_every: u64) -> Option<String> {
    let exists = match record {
        Record::Spec => job.has_spec(specs_every),
        Record::Error => matches!(job.state, JobState::Failed | JobState::Rejected),
        Record::RunError | Record::RunDebugMessage => job.state == JobState::Failed,
    };
    if !exists {
        return None;
    }
    match record {
        Record::Spec | Record::Error => Some(job.new.job_id.clone()),
        Record::RunError | Record::RunDebugMessage => job.runs.last().map(|run| run.run_id.clone()),
    }
}
