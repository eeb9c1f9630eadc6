//! A soak of the memory engine under a limit: ingestion, pages, groups by an annotation that is almost unique, and SQL
//! statements that are cancelled. The argument is the number of minutes.
//!
//! Each minute it prints the resident memory of the process, the size of the store and the number of calls. Once the
//! store is full, the resident memory stays the same and all batches are refused.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use broadside::ingest::IngestionBatch;
use broadside::memory::MemoryDatabase;
use broadside::query::{Annotation, Direction, JobOrderKey, StateField, TimeAggregate};
use broadside::workload::{ANNOTATION_KEYS, Workload, WorkloadOptions};
use broadside::{Database, ErrorKind, GroupQuery, JobQuery, JobState};
use tokio::time::{sleep, timeout};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LIMIT: u64 = 2 << 30;
const JOBS: u64 = 100_000_000;
const JOBS_PER_BATCH: u64 = 1000;
/// A statement takes hours unless it is cancelled.
const STATEMENT: &str = "SELECT count(*) FROM job AS a JOIN job AS b ON a.cpu < b.memory";

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

#[derive(Default)]
struct Calls {
    batches: AtomicU64,
    refused: AtomicU64,
    reads: AtomicU64,
    cancelled: AtomicU64,
}

async fn ingest(database: Arc<MemoryDatabase>, calls: Arc<Calls>) -> Outcome {
    for batch in Workload::new(WorkloadOptions { jobs: JOBS, ..WorkloadOptions::default() }).batches(JOBS_PER_BATCH) {
        let batch = IngestionBatch::new(batch)?;
        while let Err(error) = database.execute_ingestion_query_batch(&batch).await {
            if error.kind() != ErrorKind::Unavailable {
                return Err(error.into());
            }
            calls.refused.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(100)).await;
        }
        calls.batches.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn read(database: Arc<MemoryDatabase>, calls: Arc<Calls>) -> Outcome {
    let running = JobQuery::new().filter(StateField.equals(JobState::Running));
    let page = running.order_by(JobOrderKey::LastTransitionTime, Direction::Descending).limit(100);
    let unique = ANNOTATION_KEYS.last().copied().unwrap_or_default();
    let containing = JobQuery::new().filter(Annotation(unique).contains("99")).limit(100);
    let groups = GroupQuery::by_annotation(unique).count_states().last_transition_time(TimeAggregate::Average);
    loop {
        database.get_jobs(&page).await?;
        database.get_jobs(&containing).await?;
        database.get_job_groups(&groups.clone().limit(100)).await?;
        calls.reads.fetch_add(3, Ordering::Relaxed);
        sleep(Duration::from_millis(10)).await;
    }
}

async fn cancel(database: Arc<MemoryDatabase>, calls: Arc<Calls>) -> Outcome {
    loop {
        let session = database.sql_session().await?;
        let answer = async { session.query(STATEMENT).await?.collect().await };
        if let Ok(answer) = timeout(Duration::from_millis(200), answer).await {
            answer?;
        }
        calls.cancelled.fetch_add(1, Ordering::Relaxed);
    }
}

async fn report(database: Arc<MemoryDatabase>, calls: Arc<Calls>, minutes: u64) -> Outcome {
    let started = Instant::now();
    for minute in 1..=minutes {
        sleep(Duration::from_secs(60 * minute).saturating_sub(started.elapsed())).await;
        let status = std::fs::read_to_string("/proc/self/status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default().trim();
        let stats = database.stats().await?;
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        println!(
            "minute {minute}: {resident} resident, {} kB counted, {} jobs, {} batches, {} refused, {} reads, {} cancelled",
            stats.total_bytes() / 1024,
            stats.jobs,
            count(&calls.batches),
            count(&calls.refused),
            count(&calls.reads),
            count(&calls.cancelled)
        );
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    let minutes = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(60);
    let database = Arc::new(MemoryDatabase::new().with_memory_limit(LIMIT));
    database.initialise_schema().await?;
    let calls = Arc::new(Calls::default());
    let with = || (Arc::clone(&database), Arc::clone(&calls));
    let ((a, b), (c, d), (e, f), (g, h)) = (with(), with(), with(), with());
    tokio::select! {
        end = report(a, b, minutes) => end,
        end = tokio::spawn(ingest(c, d)) => end?,
        end = tokio::spawn(read(e, f)) => end?,
        end = tokio::spawn(cancel(g, h)) => end?,
    }
}
