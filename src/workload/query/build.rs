//! Builds the queries of each kind.

use super::{Grouping, PageKind, Query, QueryKind, Record};
use crate::error::Result;
use crate::model::JobState;
use crate::query::{Filter, GetJobGroupsRequest, GetJobsRequest, GroupedField, Match, Order};
use crate::workload::random::Random;
use crate::workload::{ANNOTATION_KEYS, GeneratedJob, Workload};

/// Rows per page, as in Lookout's user interface.
const PAGE: i64 = 100;
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
    pub fn query(&self, kind: QueryKind, number: u64) -> Option<Query> {
        let jobs = self.options.jobs;
        let mut random = Random::new(self.options.seed, QUERY_STREAMS | number);
        // Jobs anywhere, and where there are so few that these may miss one, all.
        let anywhere = (0..DRAWS.min(jobs)).map(|_| random.below(jobs));
        let query = anywhere.chain(0..DRAWS.min(jobs)).find_map(|number| self.query_like(kind, &self.job(number)))?;
        Some(query.expect("the requests name fields, matches and orders that exist"))
    }

    /// The query of a kind with the values of a job, if the job has those that it needs.
    fn query_like(&self, kind: QueryKind, job: &GeneratedJob) -> Option<Result<Query>> {
        match kind {
            QueryKind::Page(kind) => {
                let request = page(kind, job, self.options.jobs)?;
                Some(request.try_into().map(Query::Jobs))
            }
            QueryKind::Groups { by, aggregates } => Some(groups(by, aggregates).try_into().map(Query::Groups)),
            QueryKind::Record(record) => {
                let id = record_id(record, job, self.options.specs_every)?;
                Some(Ok(Query::Record(record, id)))
            }
        }
    }
}

fn page(kind: PageKind, job: &GeneratedJob, jobs: u64) -> Option<GetJobsRequest> {
    let page = |filters, order| Some(GetJobsRequest { filters, order, take: PAGE, ..GetJobsRequest::default() });
    let newest = Order::descending("jobId");
    let queue = Filter::new("queue", Match::Exact, job.queue);
    let state = |state: JobState| Filter::new("state", Match::Exact, state.name());
    match kind {
        PageKind::Ordered { field, descending: false } => page(vec![], Order::ascending(field)),
        PageKind::Ordered { field, descending: true } => page(vec![], Order::descending(field)),
        PageKind::Annotations(count) => {
            let annotations = ANNOTATION_KEYS.into_iter().zip(&job.annotations).take(count);
            let filter = |(key, value): (&str, &String)| Filter::annotation(key, Match::Exact, value.as_str());
            page(annotations.map(filter).collect(), newest)
        }
        PageKind::QueueRunning if job.state == JobState::Running => page(vec![queue, state(JobState::Running)], newest),
        PageKind::JobSetWaiting if WAITING.contains(&job.state) => {
            let job_set = Filter::new("jobSet", Match::Exact, job.job_set.as_str());
            let waiting = Filter::new("state", Match::AnyOf, WAITING.map(JobState::name).to_vec());
            page(vec![queue, job_set, waiting], Order::ascending("submitted"))
        }
        PageKind::Priority(comparison) => {
            let bound = match comparison {
                Match::GreaterThan => job.priority - 1,
                Match::LessThan => job.priority + 1,
                _ => job.priority,
            };
            page(vec![queue, Filter::new("priority", comparison, bound)], newest)
        }
        PageKind::FailedWindow if job.state == JobState::Failed => {
            let from = Filter::new("submitted", Match::GreaterThanOrEqualTo, job.submitted);
            let to = Filter::new("submitted", Match::LessThan, job.submitted.plus_seconds(WINDOW_SECONDS));
            page(vec![state(JobState::Failed), from, to], Order::descending("lastTransitionTime"))
        }
        PageKind::Node => {
            let run = job.runs.last()?;
            let cluster = Filter::new("cluster", Match::Exact, run.cluster.as_str());
            page(vec![cluster, Filter::new("node", Match::Exact, run.node.as_str())], newest)
        }
        PageKind::ActiveJobSets => {
            let order = Order::descending("lastTransitionTime");
            page(vec![], order).map(|request| GetJobsRequest { active_job_sets: true, ..request })
        }
        PageKind::Contains => {
            // The job sets of one purpose, in all queues, whose numbers differ in the last digit.
            let text = job.job_set.strip_prefix(job.queue)?;
            let text = &text[..text.len().saturating_sub(1)];
            page(vec![Filter::new("jobSet", Match::Contains, text)], newest)
        }
        PageKind::StartsWith => {
            let text = &job.job_set[..job.job_set.len().saturating_sub(2)];
            page(vec![Filter::new("jobSet", Match::StartsWith, text)], newest)
        }
        PageKind::DeepSkip => {
            let skip = (jobs / 2) as i64;
            page(vec![], Order::ascending("jobId")).map(|request| GetJobsRequest { skip, ..request })
        }
        PageKind::QueueRunning | PageKind::JobSetWaiting | PageKind::FailedWindow => None,
    }
}

fn groups(by: Grouping, aggregates: &[&str]) -> GetJobGroupsRequest {
    GetJobGroupsRequest {
        grouped_field: match by {
            Grouping::Field(field) => GroupedField::field(field),
            Grouping::Annotation(key) => GroupedField::annotation(key),
        },
        aggregates: aggregates.iter().map(|&name| name.to_owned()).collect(),
        order: Order::descending("count"),
        take: PAGE,
        ..GetJobGroupsRequest::default()
    }
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
        Record::Spec | Record::Error => Some(job.job_id.clone()),
        Record::RunError | Record::RunDebugMessage => job.runs.last().map(|run| run.run_id.clone()),
    }
}
