//! The queries of a load test, derived from the number of the query.

use crate::historical::{ANNOTATIONS, POOLS, PRIORITIES, annotation_value, cluster, node_of_cluster, pick};
use crate::model::JobState;
use crate::query::{
    Annotation, Comparison, Direction, GroupField, GroupOrderKey, GroupQuery, IntegerField, JobOrderKey, JobQuery,
    Predicate, StateField, TextField, TimeAggregate, TimeField,
};
use crate::time::Timestamp;

use super::config::{LoadConfig, QueueConfig};

/// The filter combinations, which the queries cycle through.
const COMBOS: [&str; 7] =
    ["none", "annotations", "running_queue", "queued_jobset", "priority", "errored_time", "cluster_node"];
/// The sort keys of pages, each used in ascending and then in descending order.
const PAGE_ORDERS: [JobOrderKey; 6] = [
    JobOrderKey::JobId,
    JobOrderKey::JobSet,
    JobOrderKey::Submitted,
    JobOrderKey::LastTransitionTime,
    JobOrderKey::Queue,
    JobOrderKey::State,
];
/// The grouped fields. The annotations follow them.
const GROUPED_FIELDS: [GroupField; 6] = [
    GroupField::Queue,
    GroupField::Namespace,
    GroupField::JobSet,
    GroupField::State,
    GroupField::Cluster,
    GroupField::Node,
];
const GROUPINGS: u64 = (GROUPED_FIELDS.len() + ANNOTATIONS.len()) as u64;
/// The number of aggregate sets. Each aggregate has a bit in the number of the set.
const AGGREGATE_SETS: u64 = 8;
const SUBMITTED_BIT: u64 = 1;
const TRANSITION_BIT: u64 = 2;
const STATE_BIT: u64 = 4;
const TRANSITION_AGGREGATES: [TimeAggregate; 3] =
    [TimeAggregate::Latest, TimeAggregate::Earliest, TimeAggregate::Average];

/// A query, preceded by the name of its filter combination.
pub type NamedQuery<T> = (&'static str, T);

/// Generates the queries of a load test.
#[derive(Debug, Clone)]
pub struct Requests {
    queues: Vec<QueueConfig>,
    page_size: u64,
    groups_size: u64,
    deep_offset: u64,
    /// The range of the submission times of failed jobs in filters: the first 5 % of the test.
    first_of_test: [Timestamp; 2],
}

/// The kinds of pages that Armada's Broadside does not support.
#[derive(Debug, Clone, Copy)]
pub(super) enum LookoutPage {
    ActiveJobSets,
    /// The jobs whose job set contains a string.
    Contains,
    DeepOffset,
    Owner,
    Pool,
}

impl LookoutPage {
    /// The name of the filter combination.
    pub(super) const fn name(self) -> &'static str {
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
    /// Creates the queries of a test that starts at the given time.
    pub fn new(config: &LoadConfig, test_start: Timestamp) -> Self {
        let five_percent = config.test_duration.as_micros() as i64 / 20;
        Self {
            queues: config.queues.clone(),
            page_size: config.queries.get_jobs_page_size,
            groups_size: config.queries.get_job_groups_page_size,
            deep_offset: config.lookout_queries.deep_offset,
            first_of_test: [test_start, Timestamp::from_micros(test_start.as_micros() + five_percent)],
        }
    }

    /// The query of page `q`.
    pub fn page(&self, q: u64) -> NamedQuery<JobQuery> {
        let (combo, predicates) = self.predicates(q);
        (combo, self.ordered_page(q).filters(predicates))
    }

    /// Group query `q`.
    pub fn groups(&self, q: u64) -> NamedQuery<GroupQuery> {
        let (combo, predicates) = self.predicates(q);
        let (mut query, has_field_order) = grouped_by(q);
        let mut keys = vec![GroupOrderKey::Count];
        let set = q / GROUPINGS % AGGREGATE_SETS;
        if set & SUBMITTED_BIT != 0 {
            query = query.submitted();
            keys.push(GroupOrderKey::Submitted);
        }
        if set & TRANSITION_BIT != 0 {
            query = query.last_transition_time(pick(&TRANSITION_AGGREGATES, q / (GROUPINGS * AGGREGATE_SETS)));
            keys.push(GroupOrderKey::LastTransitionTime);
        }
        if set & STATE_BIT != 0 {
            query = query.count_states();
        }
        if has_field_order {
            keys.push(GroupOrderKey::Name);
        }
        let (key, direction) = nth_order(&keys, q);
        (combo, query.filters(predicates).order_by(key, direction).limit(self.groups_size))
    }

    /// The query of page `q` of a kind that Armada's Broadside does not support.
    pub(super) fn lookout_page(&self, page: LookoutPage, q: u64) -> JobQuery {
        let queue = self.queue(q);
        let query = self.ordered_page(q);
        match page {
            LookoutPage::ActiveJobSets => query.in_active_job_sets(),
            LookoutPage::Contains => query.filter(TextField::JobSet.contains(middle(nth_job_set(queue, q)))),
            LookoutPage::DeepOffset => query.offset(self.deep_offset),
            LookoutPage::Owner => query.filter(TextField::Owner.equals(&queue.name)),
            LookoutPage::Pool => query.filter(TextField::Pool.equals(pick(&POOLS, q))),
        }
    }

    fn ordered_page(&self, q: u64) -> JobQuery {
        let (key, direction) = nth_order(&PAGE_ORDERS, q);
        JobQuery::new().order_by(key, direction).limit(self.page_size)
    }

    fn predicates(&self, q: u64) -> NamedQuery<Vec<Predicate>> {
        let combo = pick(&COMBOS, q);
        let predicates = match combo {
            "annotations" => annotation_predicates(q),
            "running_queue" => vec![self.in_queue(q), StateField.any_of([JobState::Running])],
            "queued_jobset" => self.queued_in_job_set(q),
            "priority" => vec![self.in_queue(q), priority_predicate(q)],
            "errored_time" => self.failed_at_first(),
            "cluster_node" => on_node(q),
            _ => Vec::new(),
        };
        (combo, predicates)
    }

    fn queue(&self, q: u64) -> &QueueConfig {
        &self.queues[(q % self.queues.len() as u64) as usize]
    }

    fn in_queue(&self, q: u64) -> Predicate {
        TextField::Queue.any_of([&self.queue(q).name])
    }

    fn queued_in_job_set(&self, q: u64) -> Vec<Predicate> {
        vec![
            self.in_queue(q),
            TextField::JobSet.equals(nth_job_set(self.queue(q), q)),
            StateField.any_of([JobState::Queued, JobState::Leased, JobState::Pending]),
        ]
    }

    fn failed_at_first(&self) -> Vec<Predicate> {
        let [start, end] = self.first_of_test;
        vec![
            StateField.any_of([JobState::Failed]),
            TimeField::Submitted.at_least(start),
            TimeField::Submitted.at_most(end),
        ]
    }
}

/// The name of a job set of a queue.
fn nth_job_set(queue: &QueueConfig, q: u64) -> &str {
    &queue.job_sets[(q % queue.job_sets.len() as u64) as usize].name
}

/// The fraction of pages and group queries that have the filter combination.
pub(super) fn fraction_with(combo: &str) -> f64 {
    f64::from(COMBOS.contains(&combo)) / COMBOS.len() as f64
}

fn annotation_predicates(q: u64) -> Vec<Predicate> {
    let count = (q % ANNOTATIONS.len() as u64) as usize + 1;
    let predicate = |&(key, modulus): &(&str, u64)| Annotation(key).equals(annotation_value(q, modulus));
    ANNOTATIONS[..count].iter().map(predicate).collect()
}

fn priority_predicate(q: u64) -> Predicate {
    IntegerField::Priority.compare(pick(&Comparison::ALL, q), (q % PRIORITIES) as i64 + 1)
}

fn on_node(q: u64) -> Vec<Predicate> {
    vec![TextField::Cluster.equals(cluster(q)), TextField::Node.equals(node_of_cluster(q, q))]
}

/// The sort order of query `q`, which cycles through the keys in ascending and descending order.
fn nth_order<K: Copy>(keys: &[K], q: u64) -> (K, Direction) {
    let slot = q % (2 * keys.len() as u64);
    let direction = if slot.is_multiple_of(2) { Direction::Ascending } else { Direction::Descending };
    (keys[(slot / 2) as usize], direction)
}

/// The group query without filters, and whether the name is one of its sort keys, which it is not for annotations.
fn grouped_by(q: u64) -> (GroupQuery, bool) {
    let index = (q % GROUPINGS) as usize;
    match GROUPED_FIELDS.get(index) {
        Some(&field) => (GroupQuery::by(field), true),
        None => (GroupQuery::by_annotation(ANNOTATIONS[index - GROUPED_FIELDS.len()].0), false),
    }
}

/// The middle half of a name, which other names may also contain.
fn middle(name: &str) -> &str {
    let characters = name.chars().count();
    let skipped = characters / 4;
    let bounds: Vec<_> = name.char_indices().map(|(at, _)| at).chain([name.len()]).collect();
    &name[bounds[skipped]..bounds[characters - skipped]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_is_its_middle_half() {
        for (name, part) in [("abcdefgh", "cdef"), ("abcdefghij", "cdefgh"), ("abc", "abc"), ("", ""), ("äöüß", "öü")]
        {
            assert_eq!(middle(name), part, "{name}");
        }
    }

    #[test]
    fn the_fractions_of_the_filters_are_those_of_the_queries() {
        assert_eq!(fraction_with("priority"), 1.0 / 7.0);
        assert_eq!(fraction_with("owner"), 0.0);
        let config = crate::load::fixtures::config("");
        let requests = Requests::new(&config, Timestamp::from_seconds(0));
        let combos: Vec<_> = (0..14).map(|q| requests.page(q).0).collect();
        assert_eq!([&combos[..7], &combos[7..]], [COMBOS, COMBOS]);
    }
}
