//! Tests of the requests of load tests against an independent implementation.

use broadside::load::{LoadConfig, Requests};
use broadside::scenario::{GetJobGroupsRequest, GetJobsRequest};
use broadside::{GroupQuery, JobQuery};
use serde_json::{Value, json};

const CONFIG: &str = "
testDuration: 1h
databaseConfig: {inMemory: true}
ingestionConfig:
  batchSize: 100
  jobStateTransitionConfig: {proportionSucceed: 0.95, proportionFail: 0.05}
queryConfig: {getJobsPageSize: 50, getJobGroupsPageSize: 20}
queueConfig:
  - name: queue-a
    proportion: 0.5695
    jobSetConfig: [{name: a-1, proportion: 0.7}, {name: a-2, proportion: 0.3}]
  - name: queue-b
    proportion: 0.4305
    jobSetConfig: [{name: b-1, proportion: 0.2}, {name: b-2, proportion: 0.5}, {name: b-3, proportion: 0.3}]
";
const QUEUES: [(&str, &[&str]); 2] = [("queue-a", &["a-1", "a-2"]), ("queue-b", &["b-1", "b-2", "b-3"])];
const ANNOTATIONS: [(&str, u64); 5] = [
    ("example.com/broadside-alpha", 10),
    ("example.com/broadside-beta", 100),
    ("example.com/broadside-charlie", 1000),
    ("example.com/broadside-delta", 10_000),
    ("example.com/broadside-echo", 100_000),
];
const QUERIES: u64 = 1000;
fn config() -> LoadConfig {
    LoadConfig::parse([("golden.yaml", CONFIG)], []).unwrap().config
}

fn requests() -> Requests {
    Requests::new(&config(), "2026-03-01T00:00:00Z".parse().unwrap())
}

#[test]
fn page_requests_match_the_reference() {
    const ORDERS: [&str; 6] = ["jobId", "jobSet", "submitted", "lastTransitionTime", "queue", "state"];

    let requests = requests();
    for q in 0..QUERIES {
        let (combo, filters) = filters(q);
        let mut orders = Vec::new();
        for field in ORDERS {
            orders.push(json!({ "field": field, "direction": "ASC" }));
            orders.push(json!({ "field": field, "direction": "DESC" }));
        }
        let expected = json!({
            "filters": filters, "activeJobSets": false, "order": orders[(q % 12) as usize], "skip": 0, "take": 50,
        });
        let expected: GetJobsRequest = serde_json::from_value(expected).unwrap();
        assert_eq!(requests.page(q), (combo, JobQuery::try_from(expected).unwrap()), "{q}");
    }
}

#[test]
fn group_requests_match_the_reference() {
    let requests = requests();
    for q in 0..QUERIES {
        let (combo, filters) = filters(q);
        let field = ["queue", "namespace", "jobSet", "state", "cluster", "node"].get((q % 11) as usize).copied();
        let annotation = (q % 11).checked_sub(6).map(|index| ANNOTATIONS[index as usize].0);
        let set = q / 11 % 8;
        let mut aggregates = Vec::new();
        let mut orders = vec!["count"];
        if set % 2 == 1 {
            aggregates.push("submitted");
            orders.push("submitted");
        }
        if set / 2 % 2 == 1 {
            aggregates.push("lastTransitionTime");
            orders.push("lastTransitionTime");
        }
        if set / 4 == 1 {
            aggregates.push("state");
        }
        orders.extend(field);
        let of_transition =
            if set / 2 % 2 == 1 { ["latest", "earliest", "average"][(q / 88 % 3) as usize] } else { "" };
        let place = (q % (2 * orders.len() as u64)) as usize;
        let direction = if place.is_multiple_of(2) { "ASC" } else { "DESC" };
        let expected = json!({
            "filters": filters,
            "activeJobSets": false,
            "groupedField": {
                "field": field.or(annotation),
                "isAnnotation": field.is_none(),
                "lastTransitionTimeAggregate": of_transition,
            },
            "aggregates": aggregates,
            "order": { "field": orders[place / 2], "direction": direction },
            "skip": 0,
            "take": 20,
        });
        let expected: GetJobGroupsRequest = serde_json::from_value(expected).unwrap();
        assert_eq!(requests.groups(q), (combo, GroupQuery::try_from(expected).unwrap()), "{q}");
    }
}

/// The filters of a request and the name of their combination.
fn filters(q: u64) -> (&'static str, Vec<Value>) {
    let (queue, job_sets) = QUEUES[(q % 2) as usize];
    let filter = |field: &str, matcher: &str, value: Value| json!({ "field": field, "match": matcher, "value": value, "isAnnotation": false });
    let of_queue = || filter("queue", "anyOf", json!([queue]));
    match q % 7 {
        0 => ("none", vec![]),
        1 => {
            let annotation = |(key, values): &(&str, u64)| json!({ "field": key, "match": "exact", "value": format!("value-{}", q % values), "isAnnotation": true });
            ("annotations", ANNOTATIONS.iter().take((q % 5) as usize + 1).map(annotation).collect())
        }
        2 => ("running_queue", vec![of_queue(), filter("state", "anyOf", json!(["RUNNING"]))]),
        3 => {
            let job_set = job_sets[(q % job_sets.len() as u64) as usize];
            let states = json!(["QUEUED", "LEASED", "PENDING"]);
            let filters = vec![of_queue(), filter("jobSet", "exact", json!(job_set)), filter("state", "anyOf", states)];
            ("queued_jobset", filters)
        }
        4 => {
            let matches = ["exact", "greaterThan", "lessThan", "greaterThanOrEqualTo", "lessThanOrEqualTo"];
            ("priority", vec![of_queue(), filter("priority", matches[(q % 5) as usize], json!(q % 2000 + 1))])
        }
        5 => {
            let failed = filter("state", "anyOf", json!(["FAILED"]));
            let from = filter("submitted", "greaterThanOrEqualTo", json!("2026-03-01T00:00:00Z"));
            // 5 % of an hour is three minutes.
            (
                "errored_time",
                vec![failed, from, filter("submitted", "lessThanOrEqualTo", json!("2026-03-01T00:03:00Z"))],
            )
        }
        _ => {
            let cluster = format!("broadside-cluster-{}", q % 40 + 1);
            let node = format!("{cluster}-node-{}", q % 80 + 1);
            ("cluster_node", vec![filter("cluster", "exact", json!(cluster)), filter("node", "exact", json!(node))])
        }
    }
}
