//! Conversion of validated queries to requests, so that the model has only one implementation of reads.

use broadside::query::{
    AnnotationTest, Comparison, Direction, GroupBy, GroupOrderKey, IntegerField, IntegerTest, JobOrderKey, Page,
    Predicate, Selection, TextField, TextTest, TimeAggregate, TimeField,
};
use broadside::scenario::{Filter, GetJobGroupsRequest, GetJobsRequest, GroupedField, Match, Order};
use broadside::{GroupQuery, JobQuery, Timestamp};
use serde_json::{Value, json};

/// 0000-01-01T00:00:00Z
const FIRST_WRITABLE: Timestamp = Timestamp::from_seconds(-62_167_219_200);
/// 9999-12-31T23:59:59Z
const LAST_WRITABLE: Timestamp = Timestamp::from_seconds(253_402_300_799);

/// A request whose validated form is `query`.
pub fn jobs_request(query: &JobQuery) -> GetJobsRequest {
    let (filters, active_job_sets) = selection(query.selection());
    let (skip, take) = page(query.page());
    let order = query.order().map(|order| ordered(job_order_field(order.key), order.direction)).unwrap_or_default();
    GetJobsRequest { filters, active_job_sets, order, skip, take }
}

/// A request whose validated form is `query`.
pub fn groups_request(query: &GroupQuery) -> GetJobGroupsRequest {
    let (filters, active_job_sets) = selection(query.selection());
    let (skip, take) = page(query.page());
    let mut grouped_field = match query.group_by() {
        GroupBy::Text(field) => GroupedField::field(text_field(*field)),
        GroupBy::State => GroupedField::field("state"),
        GroupBy::Annotation(key) => GroupedField::annotation(key),
    };
    let mut aggregates = Vec::new();
    if query.aggregates().states().is_some() {
        aggregates.push("state".to_owned());
    }
    if query.aggregates().submitted() {
        aggregates.push("submitted".to_owned());
    }
    if let Some(aggregate) = query.aggregates().last_transition_time() {
        aggregates.push("lastTransitionTime".to_owned());
        grouped_field.last_transition_time_aggregate = match aggregate {
            TimeAggregate::Average => "average",
            TimeAggregate::Earliest => "earliest",
            TimeAggregate::Latest => "latest",
        }
        .to_owned();
    }
    let order_field = |key| match key {
        GroupOrderKey::Count => "count".to_owned(),
        GroupOrderKey::Name => grouped_field.field.clone(),
        GroupOrderKey::Submitted => "submitted".to_owned(),
        GroupOrderKey::LastTransitionTime => "lastTransitionTime".to_owned(),
    };
    let order = query.order().map(|order| ordered(order_field(order.key), order.direction)).unwrap_or_default();
    GetJobGroupsRequest { filters, active_job_sets, grouped_field, aggregates, order, skip, take }
}

fn selection(selection: &Selection) -> (Vec<Filter>, bool) {
    (selection.predicates().iter().map(filter).collect(), selection.active_job_sets())
}

fn page(page: Page) -> (i64, i64) {
    (page.offset().try_into().unwrap(), page.limit().unwrap_or(0).try_into().unwrap())
}

fn ordered(field: impl Into<String>, direction: Direction) -> Order {
    match direction {
        Direction::Ascending => Order::ascending(field),
        Direction::Descending => Order::descending(field),
    }
}

fn filter(predicate: &Predicate) -> Filter {
    match predicate {
        Predicate::Text(field, test) => {
            let (matcher, value) = text_test(test);
            Filter::new(text_field(*field), matcher, value)
        }
        Predicate::State(states) => {
            let names: Vec<_> = states.iter().map(|state| state.name()).collect();
            Filter::new("state", Match::AnyOf, json!(names))
        }
        Predicate::Integer(field, IntegerTest::AnyOf(values)) => {
            Filter::new(integer_field(*field), Match::AnyOf, json!(values))
        }
        Predicate::Integer(field, IntegerTest::Compare(comparison, value)) => {
            Filter::new(integer_field(*field), matcher(*comparison), *value)
        }
        Predicate::Time(field, comparison, value) => {
            // An offset can lead to a year that cannot be formatted. Stored times are far from both ends.
            let value = value.clamp(&FIRST_WRITABLE, &LAST_WRITABLE);
            Filter::new(time_field(*field), matcher(*comparison), *value)
        }
        Predicate::Annotation(key, AnnotationTest::Exists) => Filter::annotation(key, Match::Exists, Value::Null),
        Predicate::Annotation(key, AnnotationTest::Value(test)) => {
            let (matcher, value) = text_test(test);
            Filter::annotation(key, matcher, value)
        }
        later => panic!("the model has no predicate {later:?}"),
    }
}

fn text_test(test: &TextTest) -> (Match, Value) {
    match test {
        TextTest::Exact(text) => (Match::Exact, json!(text)),
        TextTest::AnyOf(texts) => (Match::AnyOf, json!(texts)),
        TextTest::StartsWith(text) => (Match::StartsWith, json!(text)),
        TextTest::Contains(text) => (Match::Contains, json!(text)),
    }
}

fn matcher(comparison: Comparison) -> Match {
    match comparison {
        Comparison::Equal => Match::Exact,
        Comparison::Greater => Match::GreaterThan,
        Comparison::Less => Match::LessThan,
        Comparison::GreaterOrEqual => Match::GreaterThanOrEqualTo,
        Comparison::LessOrEqual => Match::LessThanOrEqualTo,
    }
}

fn text_field(field: TextField) -> &'static str {
    match field {
        TextField::JobId => "jobId",
        TextField::Queue => "queue",
        TextField::JobSet => "jobSet",
        TextField::Owner => "owner",
        TextField::Namespace => "namespace",
        TextField::PriorityClass => "priorityClass",
        TextField::Cluster => "cluster",
        TextField::Node => "node",
        TextField::Pool => "pool",
        later => panic!("the model has no field {later}"),
    }
}

fn integer_field(field: IntegerField) -> &'static str {
    match field {
        IntegerField::Cpu => "cpu",
        IntegerField::Memory => "memory",
        IntegerField::EphemeralStorage => "ephemeralStorage",
        IntegerField::Gpu => "gpu",
        IntegerField::Priority => "priority",
        later => panic!("the model has no field {later}"),
    }
}

fn time_field(field: TimeField) -> &'static str {
    match field {
        TimeField::Submitted => "submitted",
        TimeField::LastTransitionTime => "lastTransitionTime",
    }
}

fn job_order_field(key: JobOrderKey) -> &'static str {
    match key {
        JobOrderKey::JobId => "jobId",
        JobOrderKey::Queue => "queue",
        JobOrderKey::JobSet => "jobSet",
        JobOrderKey::State => "state",
        JobOrderKey::Submitted => "submitted",
        JobOrderKey::LastTransitionTime => "lastTransitionTime",
    }
}
