//! Tests of the ids, selections and requests of load tests against an independent implementation and known values.

use std::collections::BTreeMap;

use broadside::load::{LiveId, LoadConfig, Requests, SelectionKind, Selector, worker};
use broadside::scenario::{GetJobGroupsRequest, GetJobsRequest};
use broadside::{GroupQuery, JobQuery, Timestamp};
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
/// Milliseconds, queue, job set, number, id, and worker of 7 and of 64 workers, computed by another program.
const GOLDEN_IDS: [(i64, usize, usize, u64, &str, usize, usize); 4] = [
    (0, 0, 0, 0, "000000000000000000", 6, 45),
    (1_772_323_200_123, 1, 2, 3, "01KJKB3Q3V01020003", 5, 63),
    (1_772_323_200_000, 31, 33, 1_048_575, "01KJKB3Q000Z11ZZZZ", 5, 10),
    (1_772_323_201_000, 1023, 1023, 1_048_611, "01KJKB3QZ8ZZZZ0013", 0, 16),
];

fn config() -> LoadConfig {
    LoadConfig::parse([("golden.yaml", CONFIG)], []).unwrap().config
}

fn requests() -> Requests {
    Requests::new(&config(), "2026-03-01T00:00:00Z".parse().unwrap())
}

#[test]
fn ids_and_workers_have_known_values() {
    for (millis, queue, job_set, number, id, of_7, of_64) in GOLDEN_IDS {
        let live = LiveId::new(Timestamp::from_micros(millis * 1000 + 999), queue, job_set, number);
        assert_eq!(live.job(), id);
        assert_eq!(live.run(), format!("{id}00"));
        assert_eq!((worker(id, 7), live.worker(7), worker(id, 64), worker(id, 1)), (of_7, of_7, of_64, 0));
    }
}

#[test]
fn a_job_id_is_a_base_32_number() {
    for number in 0..QUERIES {
        let (millis, queue, job_set) = (1_772_323_200_000 + number * 977, number % 1024, number * 7 % 1024);
        let mut bits = (u128::from(millis) << 40) | u128::from(queue << 30 | job_set << 20 | number);
        let mut digits = Vec::new();
        for _ in 0..18 {
            digits.push(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[(bits % 32) as usize]);
            bits /= 32;
        }
        digits.reverse();
        let id = LiveId::new(Timestamp::from_micros(millis as i64 * 1000), queue as usize, job_set as usize, number);
        assert_eq!(id.job().as_bytes(), digits);
    }
}

#[test]
fn the_upstream_selection_compares_the_job_number_with_all_thresholds() {
    let selector = Selector::new(SelectionKind::Upstream, 7, &config());
    let mut job_sets: BTreeMap<_, u64> = BTreeMap::new();
    for n in 0..10_000 {
        let choice = selector.select(n);
        let place = n % 1000;
        // trunc(1000 × 0.5695) is 569.
        let queue = if place < 569 { 0 } else { 1 };
        let job_set = match (queue, place) {
            (0, 0..700) => 0,
            (0, _) => 1,
            (_, 0..200) => 0,
            (_, 200..700) => 1,
            _ => 2,
        };
        assert_eq!((choice.queue, choice.job_set, choice.succeeds), (queue, job_set, place < 950), "{n}");
        *job_sets.entry((choice.queue, choice.job_set)).or_default() += 1;
    }
    // The job set with 30 % of the first queue gets no jobs, as in Armada's Broadside.
    assert_eq!(job_sets, BTreeMap::from([((0, 0), 5690), ((1, 1), 1310), ((1, 2), 3000)]));
}

#[test]
fn the_independent_selection_is_deterministic_and_keeps_the_proportions() {
    let jobs = 100_000;
    let chosen = |seed| {
        let selector = Selector::new(SelectionKind::Independent, seed, &config());
        (0..jobs).map(|n| selector.select(n)).collect::<Vec<_>>()
    };
    let choices = chosen(1);
    assert_eq!(choices, chosen(1));
    assert_ne!(choices, chosen(2));
    let fraction = |holds: &dyn Fn(&broadside::load::Selection) -> bool| {
        choices.iter().filter(|choice| holds(choice)).count() as f64 / jobs as f64
    };
    for (queue, of_queue, job_sets) in [(0, 0.57, &[0.7, 0.3][..]), (1, 0.43, &[0.2, 0.5, 0.3])] {
        for (job_set, of_job_set) in job_sets.iter().enumerate() {
            let expected = of_queue * of_job_set;
            let found = fraction(&|choice| (choice.queue, choice.job_set) == (queue, job_set));
            assert!((found - expected).abs() < 0.005, "{queue} {job_set}: {found}");
            // Failures are distributed over all job sets.
            let failed = fraction(&|choice| (choice.queue, choice.job_set) == (queue, job_set) && !choice.succeeds);
            assert!((failed - expected * 0.05).abs() < 0.003, "{queue} {job_set}: {failed}");
        }
    }
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
