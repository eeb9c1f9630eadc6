//! The SQL of each kind of query, as snapshots.

use serde_json::{Value, json};

use super::config::Queries;
use super::layout::Layout;
use super::query::{groups, jobs};
use super::statement::Statement;
use crate::query::{GroupQuery, JobQuery};
use crate::scenario::{GetJobGroupsRequest, GetJobsRequest};

fn job_page(request: Value) -> String {
    job_page_as(Queries::Indexed, request)
}

fn job_page_as(queries: Queries, request: Value) -> String {
    let request: GetJobsRequest = serde_json::from_value(request).unwrap();
    with_parameters(&jobs(&JobQuery::try_from(request).unwrap(), Layout::Lookout, queries))
}

fn group_page(request: Value) -> String {
    group_page_as(Queries::Indexed, request)
}

fn group_page_as(queries: Queries, request: Value) -> String {
    let request: GetJobGroupsRequest = serde_json::from_value(request).unwrap();
    with_parameters(&groups(&GroupQuery::try_from(request).unwrap(), Layout::Lookout, queries))
}

fn with_parameters(statement: &Statement) -> String {
    let parameters = statement.values.parameters().into_iter().enumerate();
    let parameters: String = parameters.map(|(at, value)| format!("\n${} = {value:?}", at + 1)).collect();
    format!("{}\n{parameters}", statement.sql)
}

fn filter(field: &str, matcher: &str, value: Value) -> Value {
    json!({ "field": field, "match": matcher, "value": value })
}

fn annotation(key: &str, matcher: &str, value: Value) -> Value {
    json!({ "field": key, "match": matcher, "value": value, "isAnnotation": true })
}

#[test]
fn page_of_all_jobs() {
    insta::assert_snapshot!(job_page(json!({})));
}

#[test]
fn page_in_order() {
    insta::assert_snapshot!(job_page(json!({
        "filters": [filter("queue", "exact", json!("q")), filter("state", "anyOf", json!(["QUEUED", "LEASED"]))],
        "order": { "field": "lastTransitionTime", "direction": "DESC" },
        "skip": 200,
        "take": 100,
    })));
}

#[test]
fn page_of_active_job_sets() {
    insta::assert_snapshot!(job_page(json!({
        "filters": [filter("state", "exact", json!("FAILED"))],
        "activeJobSets": true,
        "order": { "field": "jobId", "direction": "ASC" },
        "take": 10,
    })));
}

#[test]
fn page_by_latest_run() {
    insta::assert_snapshot!(job_page(json!({
        "filters": [
            filter("cluster", "exact", json!("c")),
            filter("node", "startsWith", json!("n")),
            filter("pool", "anyOf", json!(["p", "q"])),
        ],
        "take": 10,
    })));
}

#[test]
fn page_by_each_test_of_texts() {
    insta::assert_snapshot!(job_page(json!({
        "filters": [
            filter("jobId", "exact", json!("id")),
            filter("queue", "anyOf", json!(["a", "b\0"])),
            filter("jobSet", "startsWith", json!("100%_\\")),
            filter("owner", "contains", json!("o'; DROP TABLE job; --")),
            filter("namespace", "contains", json!("\0")),
            filter("priorityClass", "anyOf", json!([])),
        ],
    })));
}

#[test]
fn page_by_numbers_and_times() {
    insta::assert_snapshot!(job_page(json!({
        "filters": [
            filter("cpu", "exact", json!(1)),
            filter("memory", "anyOf", json!([1, 2])),
            filter("ephemeralStorage", "greaterThan", json!(3)),
            filter("gpu", "lessThanOrEqualTo", json!(4)),
            filter("priority", "lessThan", json!(5)),
            filter("submitted", "greaterThanOrEqualTo", json!("2026-01-01T00:00:00.000001Z")),
            filter("lastTransitionTime", "lessThan", json!("9999-12-31T23:59:59Z")),
        ],
    })));
}

#[test]
fn page_by_annotations() {
    insta::assert_snapshot!(job_page(json!({
        "filters": [
            annotation("a", "exact", json!("v")),
            annotation("b", "exists", json!(null)),
            annotation("c", "anyOf", json!(["v", "w"])),
            annotation("d", "startsWith", json!("v_")),
            annotation("e", "contains", json!("%")),
            annotation("f\0", "exists", json!(null)),
            annotation("g", "exact", json!("v\0")),
        ],
    })));
}

#[test]
fn groups_by_a_column() {
    insta::assert_snapshot!(group_page(json!({
        "filters": [filter("owner", "exact", json!("o"))],
        "groupedField": { "field": "queue" },
        "order": { "field": "count", "direction": "DESC" },
        "skip": 20,
        "take": 10,
    })));
}

#[test]
fn groups_with_every_aggregate() {
    insta::assert_snapshot!(group_page(json!({
        "filters": [filter("state", "anyOf", json!(["RUNNING", "FAILED"]))],
        "groupedField": { "field": "jobSet", "lastTransitionTimeAggregate": "average" },
        "aggregates": ["state", "submitted", "lastTransitionTime"],
        "order": { "field": "lastTransitionTime", "direction": "ASC" },
    })));
}

#[test]
fn groups_by_state_of_active_job_sets() {
    insta::assert_snapshot!(group_page(json!({
        "activeJobSets": true,
        "groupedField": { "field": "state", "lastTransitionTimeAggregate": "latest" },
        "aggregates": ["lastTransitionTime"],
        "order": { "field": "state", "direction": "ASC" },
    })));
}

#[test]
fn groups_by_latest_run() {
    insta::assert_snapshot!(group_page(json!({
        "groupedField": { "field": "node" },
        "order": { "field": "node", "direction": "DESC" },
    })));
}

#[test]
fn groups_by_an_annotation() {
    insta::assert_snapshot!(group_page(json!({
        "filters": [filter("queue", "exact", json!("q"))],
        "groupedField": { "field": "key", "isAnnotation": true, "lastTransitionTimeAggregate": "earliest" },
        "aggregates": ["submitted", "lastTransitionTime"],
        "order": { "field": "submitted", "direction": "ASC" },
        "take": 5,
    })));
}

#[test]
fn groups_by_an_annotation_that_cannot_be() {
    insta::assert_snapshot!(group_page(json!({
        "groupedField": { "field": "\0", "isAnnotation": true },
        "order": { "field": "\0", "direction": "ASC" },
    })));
}

#[test]
fn pages_of_lookouts_queries() {
    let [ordered, grouped] = [
        json!({
            "filters": [annotation("a", "startsWith", json!("v"))],
            "activeJobSets": true,
            "order": { "field": "lastTransitionTime", "direction": "DESC" },
            "take": 10,
        }),
        json!({
            "activeJobSets": true,
            "groupedField": { "field": "key", "isAnnotation": true },
            "order": { "field": "key", "direction": "ASC" },
        }),
    ];
    let pages = [job_page_as(Queries::Lookout, ordered), group_page_as(Queries::Lookout, grouped)];
    insta::assert_snapshot!(pages.join("\n\n"));
}

/// The orders that differ from those of one queue.
#[test]
fn orders_of_pages_of_all_queues() {
    let page = |field: &str, direction: &str| {
        let page = job_page(json!({ "order": { "field": field, "direction": direction }, "take": 10 }));
        page.lines().filter(|line| line.starts_with("ORDER BY")).map(|line| format!("{line}\n")).collect::<String>()
    };
    let orders =
        [("lastTransitionTime", "ASC"), ("jobSet", "ASC"), ("jobSet", "DESC"), ("queue", "DESC"), ("state", "ASC")];
    insta::assert_snapshot!(orders.map(|(field, direction)| page(field, direction)).concat());
}
