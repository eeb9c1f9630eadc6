//! The requests that a load test makes, by the number of the query.

use crate::historical::{
    ANNOTATIONS, CLUSTERS, NODES, POOLS, PRIORITIES, annotation_value, cluster, node_of_cluster, pick,
};
use crate::query::{Filter, GetJobGroupsRequest, GetJobsRequest, GroupedField, Match, Order};
use crate::time::Timestamp;

use super::config::LoadConfig;

/// The number of filter combinations.
const COMBOS: u64 = 7;
/// The fields that pages are ordered by, each ascending and then descending.
const PAGE_ORDERS: [&str; 6] = ["jobId", "jobSet", "submitted", "lastTransitionTime", "queue", "state"];
/// The fields that groups are made by, before the annotations.
const GROUPED_FIELDS: [&str; 6] = ["queue", "namespace", "jobSet", "state", "cluster", "node"];
const GROUPINGS: u64 = (GROUPED_FIELDS.len() + ANNOTATIONS.len()) as u64;
/// The aggregates, each with its bit in the number of a set of them.
const AGGREGATES: [(&str, u64); 3] = [("submitted", 1), ("lastTransitionTime", 2), ("state", 4)];
const AGGREGATE_SETS: u64 = 8;
const TRANSITION_AGGREGATES: [&str; 3] = ["latest", "earliest", "average"];
const PRIORITY_MATCHES: [Match; 5] =
    [Match::Exact, Match::GreaterThan, Match::LessThan, Match::GreaterThanOrEqualTo, Match::LessThanOrEqualTo];

/// A request and the name of its filter combination.
pub type Named<T> = (&'static str, T);

/// The name of a queue, and those of its job sets.
#[derive(Debug, Clone)]
struct QueueNames {
    name: String,
    job_sets: Vec<String>,
}

/// Makes the requests of a load test.
#[derive(Debug, Clone)]
pub struct Requests {
    queues: Vec<QueueNames>,
    page_size: i64,
    groups_size: i64,
    deep_offset: i64,
    /// The submission times that the errored jobs of a query are from: the first 5 % of the test.
    first_of_test: [Timestamp; 2],
}

/// The pages that Lookout's users ask for and upstream's driver does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookoutPage {
    /// Jobs of active job sets.
    ActiveJobSets,
    /// Jobs whose job set contains a text.
    Contains,
    /// A page far from the first.
    DeepOffset,
    /// The jobs of an owner.
    Owner,
    /// The jobs of a pool.
    Pool,
}

impl LookoutPage {
    /// The name of its filter combination.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActiveJobSets => "active_job_sets",
            Self::Contains => "contains",
            Self::DeepOffset => "deep_offset",
            Self::Owner => "owner",
            Self::Pool => "pool",
        }
    }
}

impl Requests {
    /// The requests of a test that begins at a time.
    pub fn new(config: &LoadConfig, test_start: Timestamp) -> Self {
        let queue = |queue: &super::config::QueueConfig| QueueNames {
            name: queue.name.clone(),
            job_sets: queue.job_sets.iter().map(|set| set.name.clone()).collect(),
        };
        let five_percent = config.test_duration.as_micros() as i64 / 20;
        Self {
            queues: config.queues.iter().map(queue).collect(),
            page_size: config.queries.get_jobs_page_size as i64,
            groups_size: config.queries.get_job_groups_page_size as i64,
            deep_offset: config.lookout_queries.deep_offset as i64,
            first_of_test: [test_start, Timestamp::from_micros(test_start.as_micros() + five_percent)],
        }
    }

    /// Page `q`.
    pub fn page(&self, q: u64) -> Named<GetJobsRequest> {
        let (combo, filters) = self.filters(q);
        let request =
            GetJobsRequest { filters, order: page_order(q), take: self.page_size, ..GetJobsRequest::default() };
        (combo, request)
    }

    /// Groups `q`.
    pub fn groups(&self, q: u64) -> Named<GetJobGroupsRequest> {
        let (combo, filters) = self.filters(q);
        let mut grouped_field = grouped_field(q);
        let set = q / GROUPINGS % AGGREGATE_SETS;
        let aggregates: Vec<_> =
            AGGREGATES.iter().filter(|(_, bit)| set & bit != 0).map(|(name, _)| (*name).to_owned()).collect();
        if set & 2 != 0 {
            pick(&TRANSITION_AGGREGATES, q / (GROUPINGS * AGGREGATE_SETS))
                .clone_into(&mut grouped_field.last_transition_time_aggregate);
        }
        let order = group_order(q, &grouped_field, &aggregates);
        let request = GetJobGroupsRequest {
            filters,
            grouped_field,
            aggregates,
            order,
            take: self.groups_size,
            ..GetJobGroupsRequest::default()
        };
        (combo, request)
    }

    /// Page `q` of a kind that upstream's driver does not make.
    pub fn lookout_page(&self, page: LookoutPage, q: u64) -> GetJobsRequest {
        let queue = &self.queues[(q % self.queues.len() as u64) as usize];
        let mut request = GetJobsRequest { order: page_order(q), take: self.page_size, ..GetJobsRequest::default() };
        match page {
            LookoutPage::ActiveJobSets => request.active_job_sets = true,
            LookoutPage::Contains => {
                let text = contained(&queue.job_sets[(q % queue.job_sets.len() as u64) as usize]);
                request.filters.push(Filter::new("jobSet", Match::Contains, text));
            }
            LookoutPage::DeepOffset => request.skip = self.deep_offset,
            LookoutPage::Owner => request.filters.push(Filter::new("owner", Match::Exact, queue.name.as_str())),
            LookoutPage::Pool => request.filters.push(Filter::new("pool", Match::Exact, pick(&POOLS, q))),
        }
        request
    }

    fn filters(&self, q: u64) -> Named<Vec<Filter>> {
        match q % COMBOS {
            0 => ("none", Vec::new()),
            1 => ("annotations", annotation_filters(q)),
            2 => ("running_queue", vec![self.queue_filter(q), Filter::new("state", Match::AnyOf, vec!["RUNNING"])]),
            3 => ("queued_jobset", self.queued_job_set_filters(q)),
            4 => ("priority", vec![self.queue_filter(q), priority_filter(q)]),
            5 => ("errored_time", self.errored_time_filters()),
            _ => ("cluster_node", cluster_node_filters(q)),
        }
    }

    fn queue(&self, q: u64) -> &QueueNames {
        &self.queues[(q % self.queues.len() as u64) as usize]
    }

    fn queue_filter(&self, q: u64) -> Filter {
        Filter::new("queue", Match::AnyOf, vec![self.queue(q).name.as_str()])
    }

    fn queued_job_set_filters(&self, q: u64) -> Vec<Filter> {
        let job_sets = &self.queue(q).job_sets;
        let job_set = job_sets[(q % job_sets.len() as u64) as usize].as_str();
        vec![
            self.queue_filter(q),
            Filter::new("jobSet", Match::Exact, job_set),
            Filter::new("state", Match::AnyOf, vec!["QUEUED", "LEASED", "PENDING"]),
        ]
    }

    fn errored_time_filters(&self) -> Vec<Filter> {
        let [start, end] = self.first_of_test;
        vec![
            Filter::new("state", Match::AnyOf, vec!["FAILED"]),
            Filter::new("submitted", Match::GreaterThanOrEqualTo, start),
            Filter::new("submitted", Match::LessThanOrEqualTo, end),
        ]
    }
}

fn annotation_filters(q: u64) -> Vec<Filter> {
    let count = (q % ANNOTATIONS.len() as u64) as usize + 1;
    let filter = |&(key, modulus): &(&str, u64)| Filter::annotation(key, Match::Exact, annotation_value(q, modulus));
    ANNOTATIONS[..count].iter().map(filter).collect()
}

fn priority_filter(q: u64) -> Filter {
    Filter::new("priority", pick(&PRIORITY_MATCHES, q), q % PRIORITIES + 1)
}

fn cluster_node_filters(q: u64) -> Vec<Filter> {
    let (of_cluster, of_node) = (q % CLUSTERS, q % NODES);
    vec![
        Filter::new("cluster", Match::Exact, cluster(of_cluster)),
        Filter::new("node", Match::Exact, node_of_cluster(of_cluster, of_node)),
    ]
}

fn page_order(q: u64) -> Order {
    nth_order(&PAGE_ORDERS, q)
}

/// Of fields that each come ascending and then descending, the one at a place.
fn nth_order(fields: &[&str], q: u64) -> Order {
    let place = q % (2 * fields.len() as u64);
    let field = fields[(place / 2) as usize];
    if place.is_multiple_of(2) { Order::ascending(field) } else { Order::descending(field) }
}

fn grouped_field(q: u64) -> GroupedField {
    let index = (q % GROUPINGS) as usize;
    match GROUPED_FIELDS.get(index) {
        Some(&field) => GroupedField::field(field),
        None => GroupedField::annotation(ANNOTATIONS[index - GROUPED_FIELDS.len()].0),
    }
}

/// Groups are ordered by the count, the aggregates asked for that have one value, and the field itself.
fn group_order(q: u64, field: &GroupedField, aggregates: &[String]) -> Order {
    let mut fields = vec!["count"];
    fields.extend(aggregates.iter().map(String::as_str).filter(|name| *name != "state"));
    if !field.is_annotation {
        fields.push(&field.field);
    }
    nth_order(&fields, q)
}

/// A part of a name from its middle, which other names may contain too.
fn contained(name: &str) -> &str {
    let characters = name.chars().count();
    let skipped = characters / 4;
    let bounds: Vec<_> = name.char_indices().map(|(at, _)| at).chain([name.len()]).collect();
    &name[bounds[skipped]..bounds[characters - skipped]]
}
