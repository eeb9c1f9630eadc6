//! Tests of cooperative scheduling and of EXPLAIN.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use datafusion::arrow::array::{BooleanArray, RecordBatch, StringArray};
#[cfg(feature = "sql")]
use datafusion::arrow::{array::AsArray, compute::cast, datatypes::DataType};
use futures::TryStreamExt;

use super::*;
use crate::exchange::{Part, Table};
use crate::ingest::{IngestionBatch, IngestionQuery, SetJobSucceeded};
use crate::model::JobState;
use crate::query::{
    Direction, GroupField, GroupQuery, IntegerField, JobOrderKey, JobQuery, ReadCall, StateField, TextField,
};
use crate::time::Timestamp;
use crate::workload::{Workload, WorkloadOptions};
use crate::{Database, ErrorKind};

async fn store() -> MemoryDatabase {
    let database = MemoryDatabase::new();
    database.initialise_schema().await.unwrap();
    database
}

fn batch(jobs: u64) -> IngestionBatch {
    let workload = Workload::new(WorkloadOptions { jobs, ..WorkloadOptions::default() });
    let queries: Vec<IngestionQuery> = workload.batches(jobs).flatten().collect();
    IngestionBatch::new(queries).unwrap()
}

/// Counts the turns of another task on the same thread until a future completes.
async fn turns_during(future: impl Future<Output = ()>) -> usize {
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&turns);
    let other = tokio::spawn(async move {
        loop {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    future.await;
    other.abort();
    turns.load(Ordering::Relaxed)
}

async fn count(database: &MemoryDatabase) -> usize {
    database.get_jobs(&JobQuery::new()).await.unwrap().len()
}

#[tokio::test]
async fn long_reads_yield_to_other_tasks() {
    let database = store().await;
    database.execute_ingestion_query_batch(&batch(300)).await.unwrap();
    let unlimited = JobQuery::new();
    let ordered = JobQuery::new().order_by(JobOrderKey::JobId, Direction::Ascending);
    let groups = GroupQuery::by(GroupField::Owner).in_active_job_sets();
    // Calls with more chunks in total than the budget of a task.
    let unlimited = turns_during(async {
        for _ in 0..300 {
            database.get_jobs(&unlimited).await.unwrap();
        }
    });
    assert!(unlimited.await > 0);
    let ordered = turns_during(async {
        for _ in 0..300 {
            database.get_jobs(&ordered).await.unwrap();
        }
    });
    assert!(ordered.await > 0);
    let groups = turns_during(async {
        for _ in 0..300 {
            database.get_job_groups(&groups).await.unwrap();
        }
    });
    assert!(groups.await > 0);
}

#[tokio::test]
async fn one_read_of_a_whole_chunk_yields_to_other_tasks() {
    let database = store().await;
    for batch in Workload::new(WorkloadOptions { jobs: 9000, ..WorkloadOptions::default() }).batches(3000) {
        database.execute_ingestion_query_batch(&IngestionBatch::new(batch).unwrap()).await.unwrap();
    }
    assert!(turns_during(async { assert_eq!(count(&database).await, 9000) }).await > 0);
}

#[tokio::test]
async fn stats_and_lookups_of_many_ids_yield_to_other_tasks() {
    let database = store().await;
    database.execute_ingestion_query_batch(&batch(300)).await.unwrap();
    assert!(turns_during(async { drop(database.stats().await.unwrap()) }).await > 0);
    let many = || (0..50_000).map(|id| id.to_string());
    for query in [TextField::JobId.any_of(many()), TextField::Queue.any_of(many())] {
        let query = JobQuery::new().filter(query);
        assert!(turns_during(async { assert!(database.get_jobs(&query).await.unwrap().is_empty()) }).await > 0);
    }
}

#[tokio::test]
async fn a_batch_beyond_the_memory_limit_changes_nothing() {
    const LIMIT: u64 = 16 << 20;
    let database = store().await.with_memory_limit(LIMIT);
    let by_state = GroupQuery::by(GroupField::State);
    let mut ingested = 0;
    let refused = loop {
        let workload = Workload::new(WorkloadOptions { jobs: ingested + 1000, ..WorkloadOptions::default() });
        let queries = workload.batches(1000).nth(ingested as usize / 1000).unwrap();
        let batch = IngestionBatch::new(queries).unwrap();
        let before = database.get_job_groups(&by_state).await.unwrap();
        match database.execute_ingestion_query_batch(&batch).await {
            Ok(()) => ingested += 1000,
            Err(error) => {
                assert_eq!(
                    (error.kind(), error.message()),
                    (ErrorKind::Unavailable, "the store would exceed its memory limit of 16777216 bytes")
                );
                assert_eq!(database.get_job_groups(&by_state).await.unwrap(), before);
                break batch;
            }
        }
    };
    let bytes = database.stats().await.unwrap().total_bytes();
    assert!((LIMIT / 2..=LIMIT).contains(&bytes), "{bytes} bytes");
    // A batch of updates is refused too, once the store is full.
    let full = database.handle().with_memory_limit(bytes / 2);
    let jobs = database.get_jobs(&JobQuery::new().limit(1)).await.unwrap();
    let update =
        SetJobSucceeded { job_id: jobs[0].job_id.to_string(), time: Timestamp::from_seconds(0), submitted: None };
    let update = IngestionBatch::new([update.into()]).unwrap();
    let error = full.execute_ingestion_query_batch(&update).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(database.get_jobs(&JobQuery::new().limit(1)).await.unwrap(), jobs);
    database.handle().with_memory_limit(10 * LIMIT).execute_ingestion_query_batch(&refused).await.unwrap();
    assert!(count(&database).await > ingested as usize);
    database.handle().with_memory_limit(LIMIT).tear_down().await.unwrap();
    database.execute_ingestion_query_batch(&refused).await.unwrap();
}

#[tokio::test]
async fn batches_below_the_limit_consume_the_budget_of_their_task() {
    let database = store().await;
    let batch = batch(500);
    assert!((1500..=4096).contains(&batch.query_count()), "{}", batch.query_count());
    let turns = turns_during(async {
        for _ in 0..3 {
            database.execute_ingestion_query_batch(&batch).await.unwrap();
        }
    });
    assert!(turns.await > 0);
}

#[tokio::test]
async fn explain_shows_plans_with_their_metrics() {
    let database = store().await;
    database.execute_ingestion_query_batch(&batch(300)).await.unwrap();
    let query = JobQuery::new()
        .filter(StateField.equals(JobState::Succeeded))
        .filter(IntegerField::Cpu.greater_than(0))
        .order_by(JobOrderKey::JobId, Direction::Descending)
        .limit(5);
    let jobs = database.get_jobs(&query).await.unwrap();
    assert_eq!(jobs.len(), 5);
    let explanation = database.explain(&ReadCall::Jobs(query)).await.unwrap();
    let [page] = explanation.statements.as_slice() else { panic!("{explanation:?}") };
    assert_eq!(page.statement, "get_jobs");
    for part in [
        "JobScanExec",
        "index=[state",
        "residual=[cpu > 0]",
        "candidates=",
        "order=[job_id DESC",
        "limit=5",
        "output_rows=5",
        "output_batches=1",
    ] {
        assert!(page.plan.contains(part), "{part} in {}", page.plan);
    }
    let query = GroupQuery::by(GroupField::Queue).limit(2);
    for cached in [0, 1] {
        let explanation = database.explain(&ReadCall::Groups(query.clone())).await.unwrap();
        let plan = &explanation.statements[0].plan;
        let scanned = format!("chunks={} of 1", 1 - cached);
        let merged = format!("cached chunks={cached}");
        for part in ["GroupExec: gby=[queue]", "limit=2", &merged, "GroupScan", &scanned, "output_rows=2, elapsed"] {
            assert!(plan.contains(part), "{part} in {plan}");
        }
    }
    let id = jobs[0].job_id.to_string();
    for (call, table) in [
        (ReadCall::JobSpec(id.clone()), "job_spec"),
        (ReadCall::JobError(id), "job_error"),
        (ReadCall::JobRunError("no such run".to_owned()), "job_run"),
    ] {
        let rows = usize::from(call.execute(&database).await.is_ok());
        let explanation = database.explain(&call).await.unwrap();
        let plan = &explanation.statements[0].plan;
        assert!(plan.starts_with(&format!("IdLookup: table={table}, id=")), "{plan}");
        assert!(plan.contains(&format!("output_rows={rows}, elapsed_compute=")), "{plan}");
    }
    let (uninitialised, call) = (MemoryDatabase::new(), ReadCall::JobSpec("j".to_owned()));
    let error = uninitialised.explain(&call);
    assert_eq!(error.await.unwrap_err().kind(), ErrorKind::NotInitialised);
}

#[tokio::test]
async fn a_large_batch_yields_to_other_tasks() {
    let database = store().await;
    let batch = batch(1500);
    assert!(batch.query_count() > 4096, "{}", batch.query_count());
    let turns = turns_during(async { database.execute_ingestion_query_batch(&batch).await.unwrap() }).await;
    assert!(turns > 0);
    assert_eq!(count(&database).await, 1500);
}

#[tokio::test]
async fn a_large_batch_that_is_dropped_is_applied_whole_or_not_at_all() {
    let batch = batch(1500);
    for polls in 0..4 {
        let database = store().await;
        let mut call = database.execute_ingestion_query_batch(&batch);
        for _ in 0..polls {
            let _ = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            tokio::task::yield_now().await;
        }
        drop(call);
        let jobs = count(&database).await;
        assert!(jobs == 0 || jobs == 1500, "{jobs} of 1500 jobs");
    }
}

/// The part of a store with one job in each of some states, of which the first is a duplicate.
async fn part_of(states: &[&str]) -> Part {
    let database = store().await;
    database.execute_ingestion_query_batch(&batch(50)).await.unwrap();
    let exported: Vec<Part> = database.export(None).await.unwrap().try_collect().await.unwrap();
    let jobs = exported[0].batch(Table::Job).slice(0, states.len());
    let mut columns = jobs.columns().to_vec();
    columns[jobs.schema().index_of("state").unwrap()] = Arc::new(StringArray::from(states.to_vec()));
    let duplicate: BooleanArray = (0..states.len()).map(|at| Some(at == 0)).collect();
    columns[jobs.schema().index_of("duplicate").unwrap()] = Arc::new(duplicate);
    let mut batches = Table::ALL.map(|table| exported[0].batch(table).clone());
    batches[0] = RecordBatch::try_new(jobs.schema(), columns).unwrap();
    Part::new(batches, "").unwrap()
}

#[cfg(feature = "sql")]
#[tokio::test]
async fn sql_shows_duplicates_and_states_that_the_engine_does_not_know() {
    let database = store().await;
    database.import(&part_of(&["QUEUED", "UNKNOWN_13", "FAILED", "UNKNOWN_255"]).await).await.unwrap();
    let known = JobState::ALL.map(|state| format!("'{state}'")).join(", ");
    for (clause, expected) in [
        ("ORDER BY state", vec!["FAILED", "QUEUED", "UNKNOWN_13", "UNKNOWN_255"]),
        ("ORDER BY state DESC LIMIT 2", vec!["UNKNOWN_255", "UNKNOWN_13"]),
        ("WHERE duplicate", vec!["QUEUED"]),
        ("WHERE state = 'UNKNOWN_13'", vec!["UNKNOWN_13"]),
        (&format!("WHERE state IN ({known}) ORDER BY state"), vec!["FAILED", "QUEUED"]),
        (&format!("WHERE state NOT IN ({known}) ORDER BY state"), vec!["UNKNOWN_13", "UNKNOWN_255"]),
        ("WHERE state <> 'FAILED' GROUP BY state ORDER BY state", vec!["QUEUED", "UNKNOWN_13", "UNKNOWN_255"]),
    ] {
        let session = database.sql_session().await.unwrap();
        let answer = session.query(&format!("SELECT CAST(state AS TEXT) FROM job {clause}")).await.unwrap();
        let mut states = Vec::new();
        for batch in answer.collect().await.unwrap() {
            let texts = cast(batch.column(0), &DataType::Utf8).unwrap();
            states.extend(texts.as_string::<i32>().iter().flatten().map(str::to_owned));
        }
        assert_eq!(states, expected, "{clause}");
    }
    let jobs = database.get_jobs(&JobQuery::new()).await.unwrap();
    let duplicates = jobs.iter().filter(|job| job.duplicate).map(|job| job.state);
    assert_eq!(duplicates.collect::<Vec<_>>(), [JobState::Queued]);
}

#[tokio::test]
async fn a_part_that_cannot_be_stored_changes_nothing() {
    let database = store().await;
    for state in ["UNKNOWN_256", "UNKNOWN_0", "UNKNOWN_-1"] {
        let error = database.import(&part_of(&["QUEUED", state]).await).await.unwrap_err();
        assert_eq!((error.kind(), count(&database).await), (ErrorKind::InvalidArgument, 0), "{error}");
    }
    let full = database.handle().with_memory_limit(1 << 10);
    let error = full.import(&part_of(&["QUEUED"]).await).await.unwrap_err();
    assert_eq!((error.kind(), count(&database).await), (ErrorKind::Unavailable, 0), "{error}");
}

#[tokio::test]
async fn an_export_reads_one_snapshot_and_yields_to_other_tasks() {
    let database = store().await;
    let workload = Workload::new(WorkloadOptions { jobs: 20_000, ..WorkloadOptions::default() });
    for queries in workload.batches(5000) {
        database.execute_ingestion_query_batch(&IngestionBatch::new(queries).unwrap()).await.unwrap();
    }
    let parts = database.export(None).await.unwrap();
    database.tear_down().await.unwrap();
    let mut jobs = 0;
    let turns = turns_during(async {
        let parts: Vec<Part> = parts.try_collect().await.unwrap();
        jobs = parts.iter().map(|part| part.batch(Table::Job).num_rows()).sum();
    });
    assert!(turns.await > 0);
    assert_eq!(jobs, 20_000);
}
