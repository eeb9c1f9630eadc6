//! Benchmarks of the memory engine: all operations with three numbers of jobs, planning, snapshots, and concurrent
//! readers.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use broadside::compare::Ingestion;
use broadside::ingest::{IngestionBatch, UpdateJobPriority};
use broadside::memory::MemoryDatabase;
use broadside::query::{Direction, GroupField, JobOrderKey, StateField, TextField, TimeAggregate};
use broadside::workload::{PageKind, QueryKind, Workload};
use broadside::{Database, GroupQuery, JobQuery, JobState};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use support::{apply, clock, load, query_count, workload};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The default numbers of jobs.
const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];
/// The variable with the numbers of jobs, separated by commas.
const SIZES_VARIABLE: &str = "BROADSIDE_BENCH_JOBS";
/// The numbers of concurrent readers.
const READERS: [usize; 3] = [0, 1, 4];

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts")
}

fn sizes() -> Vec<u64> {
    let Ok(text) = std::env::var(SIZES_VARIABLE) else { return SIZES.to_vec() };
    text.split(',').map(|size| size.trim().parse().expect("a number of jobs")).collect()
}

fn store(workload: &Workload) -> Arc<MemoryDatabase> {
    Arc::new(MemoryDatabase::new().with_clock(clock(workload)))
}

/// A store that is filled on first use.
#[derive(Default)]
struct LazyStore(OnceLock<Arc<MemoryDatabase>>);

impl LazyStore {
    fn get(&self, runtime: &Runtime, workload: &Workload) -> Arc<MemoryDatabase> {
        let fill = || {
            let database = store(workload);
            runtime.block_on(load(database.as_ref(), workload));
            database
        };
        Arc::clone(self.0.get_or_init(fill))
    }
}

fn operations(criterion: &mut Criterion) {
    let runtime = runtime();
    for jobs in sizes() {
        let (workload, filled) = (workload(jobs), LazyStore::default());
        let name = format!("memory/{jobs}");
        support::queries(criterion, &runtime, &name, &workload, || filled.get(&runtime, &workload));
        planning(criterion, &runtime, &format!("{name}/planning"), || filled.get(&runtime, &workload));
        written(criterion, &runtime, &format!("{name}/groups after writes"), || filled.get(&runtime, &workload));
        snapshots(criterion, &runtime, &format!("{name}/snapshot"), &workload);
        support::ingestion(criterion, &runtime, &format!("{name}/ingestion"), &workload, || store(&workload));
        readers(criterion, &runtime, &format!("{name}/readers"), &workload);
    }
}

/// Measures planning by queries of a queue that does not exist, and planning of the same page from SQL.
fn planning(criterion: &mut Criterion, runtime: &Runtime, name: &str, filled: impl Fn() -> Arc<MemoryDatabase>) {
    let no_such_queue = TextField::Queue.equals("no such queue");
    let page =
        JobQuery::new().filter(no_such_queue.clone()).order_by(JobOrderKey::JobId, Direction::Descending).limit(100);
    let groups = GroupQuery::by(GroupField::Owner).filter(no_such_queue);
    let sql = "SELECT job_id FROM job WHERE queue = 'no such queue' ORDER BY job_id DESC LIMIT 100";

    let mut group = criterion.benchmark_group(name);
    group.bench_function("page", |bencher| {
        let database = filled();
        bencher.iter(|| runtime.block_on(database.get_jobs(&page)).expect("the query succeeds"));
    });
    group.bench_function("groups", |bencher| {
        let database = filled();
        bencher.iter(|| runtime.block_on(database.get_job_groups(&groups)).expect("the query succeeds"));
    });
    group.bench_function("page from SQL", |bencher| {
        let database = filled();
        bencher.iter(|| {
            runtime.block_on(async {
                let session = database.session_context().await.expect("the store is open");
                let frame = session.sql(sql).await.expect("the query is valid");
                frame.create_physical_plan().await.expect("the query can be planned")
            })
        });
    });
    group.finish();
}

/// Measures groups with all aggregates after a batch that writes to one in a hundred chunks.
fn written(criterion: &mut Criterion, runtime: &Runtime, name: &str, filled: impl Fn() -> Arc<MemoryDatabase>) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20).sampling_mode(SamplingMode::Flat);
    for field in [GroupField::State, GroupField::Queue, GroupField::Owner, GroupField::Node, GroupField::JobSet] {
        let name = format!("{field:?}");
        let groups = GroupQuery::by(field).count_states().submitted().last_transition_time(TimeAggregate::Average);
        group.bench_function(name, |bencher| {
            let database = filled();
            let ids = spread_jobs(runtime, database.as_ref());
            let mut priority = 0;
            bencher.iter_custom(|rounds| {
                let round = |_| {
                    priority += 1;
                    let update = |id: &String| UpdateJobPriority { job_id: id.clone(), submitted: None, priority };
                    let batch =
                        IngestionBatch::new(ids.iter().map(|id| update(id).into())).expect("the batch is valid");
                    runtime.block_on(async {
                        database.execute_ingestion_query_batch(&batch).await.expect("the batch can be executed");
                        let started = Instant::now();
                        database.get_job_groups(&groups).await.expect("the query succeeds");
                        started.elapsed()
                    })
                };
                (0..rounds).map(round).sum()
            });
        });
    }
    group.finish();
}

/// One active job of about every hundredth chunk: ids ascend in the order of the load.
fn spread_jobs(runtime: &Runtime, database: &MemoryDatabase) -> Vec<String> {
    const JOBS_PER_CHUNK: usize = 8192;
    let active = [JobState::Queued, JobState::Leased, JobState::Pending, JobState::Running];
    let query = JobQuery::new().filter(StateField.any_of(active)).order_by(JobOrderKey::JobId, Direction::Ascending);
    let jobs = runtime.block_on(database.get_jobs(&query)).expect("the query succeeds");
    let stored = runtime.block_on(database.stats()).expect("the store is open").jobs as usize;
    let count = (stored / JOBS_PER_CHUNK / 100).max(1);
    jobs.iter().step_by((jobs.len() / count).max(1)).take(count).map(|job| job.job_id.to_string()).collect()
}

/// Measures a batch of updates, and a batch of updates after a read. The difference is the cost of the snapshot, and of
/// the copy on write of the data that the batch changes.
fn snapshots(criterion: &mut Criterion, runtime: &Runtime, name: &str, workload: &Workload) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1000));
    for read in [false, true] {
        group.bench_function(if read { "update after a read" } else { "update" }, |bencher| {
            let database = store(workload);
            runtime.block_on(async {
                database.initialise_schema().await.expect("the store can be created");
                apply(database.as_ref(), Ingestion::Load.batches(workload)).await;
                apply(database.as_ref(), Ingestion::Inserts.batches(workload)).await;
            });
            let updates: Vec<_> = Ingestion::Updates.batches(workload).filter_map(Result::ok).collect();
            let mut next = updates.iter().cycle();
            bencher.iter(|| {
                let batch = next.next().expect("there is a batch");
                runtime.block_on(async {
                    if read {
                        let answer = database.get_job_error("no such job").await;
                        assert!(answer.is_err(), "the workload's jobs have other ids");
                    }
                    database.execute_ingestion_query_batch(batch).await.expect("the batch can be executed");
                });
            });
        });
    }
    group.finish();
}

/// Measures the ingestion of the workload with concurrent readers.
fn readers(criterion: &mut Criterion, runtime: &Runtime, name: &str, workload: &Workload) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(query_count(workload, Ingestion::Load)));
    for readers in READERS {
        group.bench_function(format!("{readers} readers"), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| ingest_with_readers(runtime, workload, readers)).sum());
        });
    }
    group.finish();
}

fn ingest_with_readers(runtime: &Runtime, workload: &Workload, readers: usize) -> Duration {
    let database = store(workload);
    let done = Arc::new(AtomicBool::new(false));
    let kinds = [PageKind::QueueRunning, PageKind::JobSetWaiting, PageKind::ActiveJobSets, PageKind::Contains];
    let queries: Arc<Vec<_>> =
        Arc::new(kinds.into_iter().filter_map(|kind| workload.query(QueryKind::Page(kind), 0)).collect());
    runtime.block_on(async {
        database.initialise_schema().await.expect("the store can be created");
        let readers: Vec<_> = (0..readers)
            .map(|_| {
                let (database, done, queries) = (Arc::clone(&database), Arc::clone(&done), Arc::clone(&queries));
                tokio::spawn(async move {
                    for query in queries.iter().cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                        query.execute(database.as_ref()).await.expect("the query succeeds");
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        let time = apply(database.as_ref(), Ingestion::Load.batches(workload)).await;
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.expect("the reader ends");
        }
        time
    })
}

criterion_group!(benches, operations);
criterion_main!(benches);
