//! Tests of ingestion and its snapshots.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::*;
use crate::ingest::{IngestionBatch, IngestionQuery};
use crate::memory::query::RowSelection;
use crate::memory::read;
use crate::memory::storage::{IntegerIndex, Tables};
use crate::model::Job;
use crate::query::{IntegerField, JobQuery};
use crate::time::Timestamp;
use crate::workload::{Workload, WorkloadOptions};

const TIME: &str = "2026-01-01T00:00:00Z";

fn ingest(store: &mut Store, queries: impl IntoIterator<Item = Value>) {
    let queries: Vec<IngestionQuery> =
        queries.into_iter().map(|query| serde_json::from_value(query).unwrap()).collect();
    store.apply(&IngestionBatch::new(queries).unwrap()).unwrap();
}

fn job(id: &str) -> Value {
    json!({"type": "insertJob", "job": {"jobId": id, "queue": "q", "jobSet": "s", "owner": "o", "submitted": TIME,
        "priority": 1, "cpu": 1, "memory": 1, "ephemeralStorage": 1, "gpu": 0}})
}

fn leased(job: &str, run: &str) -> Value {
    json!({"type": "setJobLeased", "jobId": job, "time": TIME, "runId": run})
}

fn run(id: &str, job: &str) -> Value {
    json!({"type": "insertJobRun", "jobRunId": id, "jobId": job, "cluster": "c", "node": "n", "pool": "p", "time": TIME})
}

fn jobs(tables: &Tables) -> Vec<Job> {
    let query = JobQuery::new();
    let tables = Arc::new(tables.clone());
    let jobs = read::jobs(&tables, &query, Timestamp::from_micros(0));
    Runtime::new().unwrap().block_on(jobs).unwrap()
}

#[test]
fn unreferenced_dangling_run_ids_are_removed() {
    let mut store = Store::default();
    ingest(&mut store, [job("a"), job("b")]);
    ingest(&mut store, [leased("b", "held")]);
    let mut snapshots = Vec::new();
    for at in 0..1000 {
        ingest(&mut store, [leased("a", &format!("run {at}"))]);
        if at % 100 == 0 {
            snapshots.push((format!("run {at}"), store.snapshot()));
        }
    }
    assert_eq!((store.latest_runs.dangling.len(), store.records.dangling_runs.len()), (2, 3));
    for (id, snapshot) in &snapshots {
        let ids: Vec<_> = jobs(snapshot).into_iter().filter_map(|job| job.last_active_run_id).collect();
        assert_eq!(ids, [id.as_str(), "held"]);
    }
    ingest(&mut store, [run("held", "b"), run("run 999", "a")]);
    assert!(store.latest_runs.dangling.is_empty() && store.latest_runs.followers.is_empty());
    assert_eq!(jobs(&store.snapshot())[0].node.as_deref(), Some("n"));
}

#[test]
fn followers_of_a_run_are_distinct() {
    let mut store = Store::default();
    let ids: Vec<String> = (0..3000).map(|at| format!("job {at}")).collect();
    ingest(&mut store, ids.iter().map(|id| job(id)).chain([run("r", "elsewhere"), run("other", "elsewhere")]));
    for _ in 0..2 {
        ingest(&mut store, ids.iter().map(|id| leased(id, "r")));
    }
    assert_eq!(store.latest_runs.followers[&0].len(), 3000);
    ingest(&mut store, [json!({"type": "setJobRunStarted", "jobRunId": "r", "time": TIME, "node": "moved"})]);
    let moved = store.dictionaries.nodes.code("moved").unwrap();
    assert_eq!(store.indexes.latest_nodes.rows(moved).unwrap().len(), 3000);
    ingest(&mut store, ids.iter().map(|id| leased(id, "other")));
    assert!(!store.latest_runs.followers.contains_key(&0));
}

#[test]
fn an_overwritten_message_is_removed() {
    let mut store = Store::default();
    ingest(&mut store, [run("r", "j")]);
    for text in ["YQ==", "Yg=="] {
        let failed = json!({"type": "setJobRunFailed", "jobRunId": "r", "time": TIME, "error": text, "debug": "eA==",
            "exitCode": 1});
        ingest(&mut store, [failed]);
    }
    let messages: Vec<&[u8]> = store.records.run_messages.iter().map(AsRef::as_ref).collect();
    assert_eq!(messages, [b"b", b"x"]);
}

#[test]
fn the_priority_index_is_rebuilt_after_many_updates() {
    let mut store = Store::default();
    ingest(&mut store, (0..8192).map(|at| job(&format!("{at:04}"))));
    let before = store.indexes.priorities.clone();
    for priority in 2..11 {
        let update = |at| json!({"type": "updateJobPriority", "jobId": format!("{at:04}"), "priority": priority});
        ingest(&mut store, (0..8192).map(update));
    }
    let rows = |index: &IntegerIndex, priority| index.rows_of(&[priority]).lists.iter().map(|list| list.len()).sum();
    let counts: [u64; 3] = [rows(&before, 1), rows(&store.indexes.priorities, 1), rows(&store.indexes.priorities, 10)];
    assert_eq!(counts, [8192, 0, 8192]);
}

#[test]
fn a_rebuild_of_the_priority_index_proceeds_by_chunks_and_misses_no_update() {
    let mut store = Store::default();
    let jobs = 3 * 8192 + 5;
    ingest(&mut store, (0..jobs).map(|at| job(&format!("{at:05}"))));
    let update = |at: i64, priority: i64| json!({"type": "updateJobPriority", "jobId": format!("{at:05}"), "priority": priority});
    let mut expected = vec![1; jobs as usize];
    let (mut rebuilds, mut interrupted) = (0, 0);
    for round in 0..160 {
        let changed: Vec<i64> = (0..512).map(|at| (round * 512 + at) * 7919 % jobs).collect();
        let before = store.indexes.priorities.updates();
        ingest(&mut store, changed.iter().map(|&at| update(at, 2 + round % 50)));
        changed.iter().for_each(|&at| expected[at as usize] = 2 + round % 50);
        rebuilds += u64::from(store.indexes.priorities.updates() < before);
        interrupted += u64::from(store.rebuilt_priorities.is_some());
        let tables = store.snapshot();
        for priority in [1, 2 + round % 50, 2 + (round + 1) % 50] {
            let query = JobQuery::new().filter(IntegerField::Priority.equals(priority));
            let jobs = Runtime::new().unwrap().block_on(async {
                let selected = RowSelection::new(&tables, query.selection()).await.unwrap();
                selected.candidates(&tables).unwrap()
            });
            assert_eq!(jobs, expected.iter().filter(|&&of| of == priority).count(), "{priority} in {round}");
        }
    }
    assert!(rebuilds > 0 && interrupted > 1, "{rebuilds} rebuilds, {interrupted} batches during one");
}

#[test]
fn snapshots_do_not_change_under_thousands_of_batches() {
    let mut store = Store::default();
    // The batches fill a chunk.
    let before = Workload::new(WorkloadOptions { jobs: 7000, seed: 1, ..WorkloadOptions::default() });
    for batch in before.batches(1000) {
        store.apply(&IngestionBatch::new(batch).unwrap()).unwrap();
    }
    let mut snapshots = Vec::new();
    let workload = Workload::new(WorkloadOptions { jobs: 2500, seed: 2, ..WorkloadOptions::default() });
    for (at, batch) in workload.batches(1).enumerate() {
        store.apply(&IngestionBatch::new(batch).unwrap()).unwrap();
        if at % 500 == 0 {
            let snapshot = store.snapshot();
            snapshots.push((jobs(&snapshot), snapshot));
        }
    }
    assert!(store.jobs.table().chunks().len() > 1);
    for (jobs_then, snapshot) in snapshots {
        assert_eq!(jobs(&snapshot), jobs_then);
    }
}
