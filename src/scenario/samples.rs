//! Queries of every kind, for the snapshots of the SQL of the servers.

use serde_json::{Value, json};

use super::{GetJobGroupsRequest, GetJobsRequest};
use crate::query::{GroupQuery, JobQuery};

/// Parses the request of a page of jobs.
pub(crate) fn job_query(request: Value) -> JobQuery {
    serde_json::from_value::<GetJobsRequest>(request).unwrap().try_into().unwrap()
}

/// Parses the request of a page of groups.
pub(crate) fn group_query(request: Value) -> GroupQuery {
    serde_json::from_value::<GetJobGroupsRequest>(request).unwrap().try_into().unwrap()
}

fn filter(field: &str, matcher: &str, value: impl Into<Value>) -> Value {
    json!({"field": field, "match": matcher, "value": value.into()})
}

fn annotation(key: &str, matcher: &str, value: impl Into<Value>) -> Value {
    json!({"field": key, "match": matcher, "value": value.into(), "isAnnotation": true})
}

/// Pages of jobs, each with the name of its snapshot.
pub(crate) fn job_queries() -> [(&'static str, JobQuery); 8] {
    [
        ("page_of_all_jobs", json!({})),
        (
            "page_in_order",
            json!({
                "filters": [filter("queue", "exact", "q"), filter("state", "anyOf", ["QUEUED", "LEASED"])],
                "order": {"field": "lastTransitionTime", "direction": "DESC"}, "skip": 200, "take": 100,
            }),
        ),
        (
            "page_of_active_job_sets",
            json!({
                "filters": [filter("state", "exact", "FAILED")], "activeJobSets": true,
                "order": {"field": "jobId", "direction": "ASC"}, "take": 10,
            }),
        ),
        (
            "page_by_latest_run",
            json!({
                "filters": [
                    filter("cluster", "exact", "c"),
                    filter("node", "startsWith", "n"),
                    filter("pool", "anyOf", ["p", "q"]),
                ],
                "take": 10,
            }),
        ),
        (
            "page_by_each_test_of_texts",
            json!({"filters": [
                filter("jobId", "exact", "id"),
                filter("queue", "anyOf", ["a", "b\0"]),
                filter("jobSet", "startsWith", "100%_\\"),
                filter("owner", "contains", "o'; DROP TABLE job; --"),
                filter("namespace", "contains", "\0"),
                filter("priorityClass", "anyOf", [""; 0]),
            ]}),
        ),
        (
            "page_by_empty_texts",
            json!({"filters": [
                filter("jobId", "anyOf", ["a", ""]),
                filter("namespace", "startsWith", ""),
                filter("priorityClass", "exact", ""),
            ]}),
        ),
        (
            "page_by_numbers_and_times",
            json!({"filters": [
                filter("cpu", "exact", 1),
                filter("memory", "anyOf", [1, 2]),
                filter("ephemeralStorage", "greaterThan", 3),
                filter("gpu", "lessThanOrEqualTo", 4),
                filter("priority", "lessThan", 5),
                filter("submitted", "greaterThanOrEqualTo", "2026-01-01T00:00:00.000001Z"),
                filter("lastTransitionTime", "lessThan", "9999-12-31T23:59:59Z"),
            ]}),
        ),
        (
            "page_by_annotations",
            json!({"filters": [
                annotation("a", "exact", "v"),
                annotation("b", "exists", Value::Null),
                annotation("c", "anyOf", ["v", "w"]),
                annotation("d", "startsWith", "v_"),
                annotation("e", "contains", "%"),
                annotation("f\0", "exists", Value::Null),
                annotation("g", "exact", "v\0"),
            ]}),
        ),
    ]
    .map(|(name, request)| (name, job_query(request)))
}

/// Pages of groups, each with the name of its snapshot.
pub(crate) fn group_queries() -> [(&'static str, GroupQuery); 6] {
    [
        (
            "groups_by_a_column",
            json!({
                "filters": [filter("owner", "exact", "o")], "groupedField": {"field": "queue"},
                "order": {"field": "count", "direction": "DESC"}, "skip": 20, "take": 10,
            }),
        ),
        (
            "groups_with_every_aggregate",
            json!({
                "filters": [filter("state", "anyOf", ["RUNNING", "FAILED"])],
                "groupedField": {"field": "jobSet", "lastTransitionTimeAggregate": "average"},
                "aggregates": ["state", "submitted", "lastTransitionTime"],
                "order": {"field": "lastTransitionTime", "direction": "ASC"},
            }),
        ),
        (
            "groups_by_state_of_active_job_sets",
            json!({
                "activeJobSets": true,
                "groupedField": {"field": "state", "lastTransitionTimeAggregate": "latest"},
                "aggregates": ["lastTransitionTime"], "order": {"field": "state", "direction": "ASC"},
            }),
        ),
        (
            "groups_by_latest_run",
            json!({"groupedField": {"field": "node"}, "order": {"field": "node", "direction": "DESC"}}),
        ),
        (
            "groups_by_an_annotation",
            json!({
                "filters": [filter("queue", "exact", "q")],
                "groupedField": {"field": "key", "isAnnotation": true, "lastTransitionTimeAggregate": "earliest"},
                "aggregates": ["submitted", "lastTransitionTime"],
                "order": {"field": "submitted", "direction": "ASC"}, "take": 5,
            }),
        ),
        (
            "groups_by_an_annotation_that_cannot_be",
            json!({
                "groupedField": {"field": "\0", "isAnnotation": true}, "order": {"field": "\0", "direction": "ASC"},
            }),
        ),
    ]
    .map(|(name, request)| (name, group_query(request)))
}
