//! The SQL of each kind of query, as snapshots.

use serde_json::json;

use super::config::Queries;
use super::layout::{Layout, Relations};
use super::query::{groups, jobs};
use super::statement::Statement;
use crate::scenario::samples::{group_queries, group_query, job_queries, job_query};

fn with_parameters(statement: &Statement) -> String {
    let parameters = statement.values.parameters().into_iter().enumerate();
    let parameters: String = parameters.map(|(at, value)| format!("\n${} = {value:?}", at + 1)).collect();
    format!("{}\n{parameters}", statement.sql)
}

#[test]
fn pages_of_jobs() {
    for (name, query) in job_queries() {
        insta::assert_snapshot!(name, with_parameters(&jobs(&query, &Layout::Lookout.into(), Queries::Indexed)));
    }
}

#[test]
fn pages_of_groups() {
    for (name, query) in group_queries() {
        insta::assert_snapshot!(name, with_parameters(&groups(&query, &Layout::Lookout.into(), Queries::Indexed)));
    }
}

#[test]
fn pages_of_lookouts_queries() {
    let ordered = job_query(json!({
        "filters": [{"field": "a", "match": "startsWith", "value": "v", "isAnnotation": true}],
        "activeJobSets": true,
        "order": {"field": "lastTransitionTime", "direction": "DESC"},
        "take": 10,
    }));
    let grouped = group_query(json!({
        "activeJobSets": true,
        "groupedField": {"field": "key", "isAnnotation": true},
        "order": {"field": "key", "direction": "ASC"},
    }));
    let (relations, queries) = (&Relations::from(Layout::Lookout), Queries::Lookout);
    let pages = [jobs(&ordered, relations, queries), groups(&grouped, relations, queries)];
    insta::assert_snapshot!(pages.map(|page| with_parameters(&page)).join("\n\n"));
}

/// The orders that differ from those of one queue.
#[test]
fn orders_of_pages_of_all_queues() {
    let page = |(field, direction): (&str, &str)| {
        let query = job_query(json!({"order": {"field": field, "direction": direction}, "take": 10}));
        let sql = jobs(&query, &Layout::Lookout.into(), Queries::Indexed).sql;
        sql.lines().filter(|line| line.starts_with("ORDER BY")).map(|line| format!("{line}\n")).collect::<String>()
    };
    let orders =
        [("lastTransitionTime", "ASC"), ("jobSet", "ASC"), ("jobSet", "DESC"), ("queue", "DESC"), ("state", "ASC")];
    insta::assert_snapshot!(orders.map(page).concat());
}
