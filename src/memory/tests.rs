//! How calls share the executor with other tasks.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use super::*;
use crate::ingest::{IngestionBatch, IngestionQuery};
use crate::query::{Direction, GroupField, GroupQuery, JobOrderKey, JobQuery};
use crate::workload::{Workload, WorkloadOptions};
use crate::{Database, SystemClock};

async fn store() -> MemoryDatabase {
    let database = MemoryDatabase::new(&MemoryConfig::default(), Arc::new(SystemClock));
    database.initialise_schema().await.unwrap();
    database
}

fn batch(jobs: u64) -> IngestionBatch {
    let workload = Workload::new(WorkloadOptions { jobs, ..WorkloadOptions::default() });
    let queries: Vec<IngestionQuery> = workload.batches(jobs).flatten().collect();
    IngestionBatch::new(queries).unwrap()
}

/// How often another task of the same thread gets its turn while a future runs to its end.
async fn turns_beside(future: impl Future<Output = ()>) -> usize {
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
async fn reads_over_many_chunks_give_way_to_other_tasks() {
    let database = store().await;
    database.execute_ingestion_query_batch(&batch(300)).await.unwrap();
    let unlimited = JobQuery::new();
    let ordered = JobQuery::new().order_by(JobOrderKey::JobId, Direction::Ascending);
    let groups = GroupQuery::by(GroupField::Owner).in_active_job_sets();
    // As many chunks as tokio lets a task go through at a time, and more.
    let unlimited = turns_beside(async {
        for _ in 0..300 {
            database.get_jobs(&unlimited).await.unwrap();
        }
    });
    assert!(unlimited.await > 0);
    let ordered = turns_beside(async {
        for _ in 0..300 {
            database.get_jobs(&ordered).await.unwrap();
        }
    });
    assert!(ordered.await > 0);
    let groups = turns_beside(async {
        for _ in 0..300 {
            database.get_job_groups(&groups).await.unwrap();
        }
    });
    assert!(groups.await > 0);
}

#[tokio::test]
async fn a_large_batch_gives_way_to_other_tasks() {
    let database = store().await;
    let batch = batch(1500);
    assert!(batch.query_count() > 4096, "{}", batch.query_count());
    let turns = turns_beside(async { database.execute_ingestion_query_batch(&batch).await.unwrap() }).await;
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
