//! What the indexes answer, by snapshots of small stores.

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::*;
use crate::ingest::{IngestionBatch, IngestionQuery};
use crate::memory::ingest::Store;
use crate::memory::storage::Tables;
use crate::query::{Filter, GetJobsRequest, JobQuery, Match};

fn store(queries: Value) -> Store {
    let mut store = Store::default();
    ingest(&mut store, queries);
    store
}

fn ingest(store: &mut Store, queries: Value) {
    let queries: Vec<IngestionQuery> = serde_json::from_value(queries).unwrap();
    store.apply(&IngestionBatch::new(queries).unwrap()).unwrap();
}

fn job(id: &str, priority: i64) -> Value {
    let time = "2026-01-01T00:00:00Z";
    let resources = json!({"cpu": 1, "memory": 1, "ephemeralStorage": 1, "gpu": 0, "priority": priority});
    let mut job = json!({"jobId": id, "queue": "q", "jobSet": "s", "owner": "o", "submitted": time});
    job.as_object_mut().unwrap().extend(resources.as_object().unwrap().clone());
    json!({"type": "insertJob", "job": job})
}

fn selected(tables: &Tables, filters: Vec<Filter>) -> Selected {
    let query = JobQuery::try_from(GetJobsRequest { filters, ..GetJobsRequest::default() }).unwrap();
    Selected::new(tables, query.selection()).unwrap()
}

/// The ids of the jobs that a priority filter finds, and how it finds them.
fn by_priority(tables: &Tables, matching: Match, value: impl Into<Value>) -> (Vec<String>, String) {
    let selected = selected(tables, vec![Filter::new("priority", matching, value.into())]);
    let rows = ordered_rows(tables, &selected, None, Part::default());
    let rows = Runtime::new().unwrap().block_on(rows).unwrap();
    (rows.into_iter().map(|row| tables.jobs.id(row).as_str().to_owned()).collect(), selected.to_string())
}

#[test]
fn a_job_is_found_by_the_priority_that_it_has_in_the_snapshot() {
    let mut store = store(json!([job("a", 5), job("b", 5), job("c", 7)]));
    let before = store.snapshot();
    ingest(
        &mut store,
        json!([
            {"type": "updateJobPriority", "jobId": "a", "priority": 7},
            {"type": "setJobCancelled", "jobId": "b", "time": "2026-01-01T00:00:00Z"},
            {"type": "updateJobPriority", "jobId": "b", "priority": 7},
            {"type": "updateJobPriority", "jobId": "c", "priority": 5},
            job("d", 7),
        ]),
    );
    let after = store.snapshot();
    ingest(&mut store, json!([{"type": "updateJobPriority", "jobId": "a", "priority": 5}]));
    for (tables, fives, sevens) in
        [(&before, "ab", "c"), (&after, "bc", "ad"), (&store.snapshot(), "abc", "d"), (&before, "ab", "c")]
    {
        for (matching, value, expected) in [
            (Match::Exact, json!(5), fives),
            (Match::LessThan, json!(6), fives),
            (Match::LessThanOrEqualTo, json!(5), fives),
            (Match::Exact, json!(7), sevens),
            (Match::GreaterThan, json!(5), sevens),
            (Match::GreaterThanOrEqualTo, json!(7), sevens),
            (Match::AnyOf, json!([7, 9, 7]), sevens),
            (Match::Exact, json!(6), ""),
        ] {
            let (ids, explained) = by_priority(tables, matching, value);
            assert_eq!(ids.concat(), expected, "{explained}");
            assert!(explained.starts_with("index=[priority ") && !explained.contains("residual"), "{explained}");
        }
    }
}

#[test]
fn priorities_of_too_many_jobs_are_compared_one_by_one() {
    let tables = store((0..26_000).map(|at| job(&format!("{at:05}"), at % 2)).collect()).snapshot();
    let (ids, explained) = by_priority(&tables, Match::GreaterThan, -1);
    assert_eq!((ids.len(), explained.as_str()), (26_000, "index=[all rows], residual=[priority > -1]"));
    let (ids, explained) = by_priority(&tables, Match::GreaterThan, 0);
    assert_eq!((ids.len(), explained.as_str()), (13_000, "index=[priority > 0]"));
}

#[test]
fn priorities_are_found_on_both_sides_of_the_end_of_what_is_listed() {
    let jobs = |numbers: std::ops::Range<i64>| numbers.map(|at| job(&format!("{at:05}"), at % 10)).collect::<Value>();
    let mut store = store(jobs(0..8000));
    let before = store.snapshot();
    let changes =
        [10, 8150, 8200].map(|at| json!({"type": "updateJobPriority", "jobId": format!("{at:05}"), "priority": 5}));
    ingest(&mut store, jobs(8000..8300));
    let between = store.snapshot();
    ingest(&mut store, changes.into_iter().collect());
    let after = store.snapshot();
    ingest(&mut store, jobs(8300..17_000));
    for (tables, zeros, fives) in
        [(&before, 800, 800), (&between, 830, 830), (&after, 827, 833), (&store.snapshot(), 1697, 1703)]
    {
        assert_eq!(by_priority(tables, Match::Exact, 0).0.len(), zeros);
        assert_eq!(by_priority(tables, Match::Exact, 5).0.len(), fives);
        assert_eq!(by_priority(tables, Match::AnyOf, vec![0, 5]).0.len(), zeros + fives);
    }
}
