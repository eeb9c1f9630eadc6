//! Shared code of the benchmarks: stores with generated jobs, and the operations of the comparison.

use std::sync::Arc;
use std::time::{Duration, Instant};

use broadside::ReadCall;
use broadside::compare::{Batches, Ingestion};
use broadside::ingest::IngestionBatch;
use broadside::workload::{QueryKind, Workload, WorkloadOptions};
use broadside::{Database, ManualClock, Result};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use tokio::runtime::Runtime;

/// The number of distinct queries of a kind, which are executed in turn.
const QUERIES: u64 = 20;

/// The workload with the given number of jobs.
pub fn workload(jobs: u64) -> Workload {
    Workload::new(WorkloadOptions { jobs, ..WorkloadOptions::default() })
}

/// A clock set to the current time of the workload.
pub fn clock(workload: &Workload) -> Arc<ManualClock> {
    let clock = ManualClock::default();
    clock.set(workload.now());
    Arc::new(clock)
}

/// Executes the batches. Returns the time without the creation of the batches.
pub async fn apply(database: &dyn Database, batches: Batches<'_>) -> Duration {
    let mut time = Duration::ZERO;
    for batch in batches {
        let batch = batch.expect("the workload is valid");
        let started = Instant::now();
        database.execute_ingestion_query_batch(&batch).await.expect("the batch can be executed");
        time += started.elapsed();
    }
    time
}

/// Ingests all jobs of a workload.
pub async fn load(database: &dyn Database, workload: &Workload) {
    database.initialise_schema().await.expect("the store can be created");
    apply(database, Ingestion::complete_lifecycles(workload)).await;
}

/// Benchmarks each kind of query. `store` is called only for benchmarks that are selected.
pub fn queries(
    criterion: &mut Criterion,
    runtime: &Runtime,
    name: &str,
    workload: &Workload,
    store: impl Fn() -> Arc<dyn Database>,
) {
    let mut group = criterion.benchmark_group(name);
    for kind in QueryKind::essential() {
        let queries: Vec<_> = (0..QUERIES).map_while(|number| workload.query(kind, number)).collect();
        query(&mut group, runtime, kind, &queries, workload, &store);
    }
    group.finish();
}

/// Benchmarks a kind of query. The throughput is in jobs for groups, and in queries otherwise.
fn query(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    kind: QueryKind,
    queries: &[ReadCall],
    workload: &Workload,
    store: &impl Fn() -> Arc<dyn Database>,
) {
    if queries.is_empty() {
        return;
    }
    group.throughput(match kind {
        QueryKind::Groups { .. } => Throughput::Elements(workload.options().jobs),
        QueryKind::Page(_) | QueryKind::Record(_) => Throughput::Elements(1),
    });
    group.bench_function(kind.to_string(), |bencher| {
        let database = store();
        let mut next = queries.iter().cycle();
        bencher.iter(|| {
            let query = next.next().expect("there is a query");
            runtime.block_on(query.execute(database.as_ref())).expect("the query succeeds")
        });
    });
}

/// Benchmarks each mode of ingestion, with a new store for each iteration, to which the batches of the previous modes
/// are applied first. The throughput is in ingestion queries.
pub fn ingestion(
    criterion: &mut Criterion,
    runtime: &Runtime,
    name: &str,
    workload: &Workload,
    store: impl Fn() -> Arc<dyn Database>,
) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for (position, mode) in Ingestion::ALL.into_iter().enumerate() {
        group.throughput(Throughput::Elements(query_count(workload, mode)));
        group.bench_function(mode.to_string(), |bencher| {
            bencher.iter_custom(|rounds| {
                (0..rounds).map(|_| runtime.block_on(round(store().as_ref(), workload, position))).sum()
            });
        });
    }
    group.finish();
}

/// The number of queries of a mode of ingestion.
pub fn query_count(workload: &Workload, mode: Ingestion) -> u64 {
    let count = |batch: Result<IngestionBatch>| batch.expect("the workload is valid").query_count() as u64;
    mode.batches(workload).map(count).sum()
}

/// The time of a mode of ingestion, after the previous modes.
async fn round(database: &dyn Database, workload: &Workload, position: usize) -> Duration {
    database.initialise_schema().await.expect("the store can be created");
    let mut time = Duration::ZERO;
    for mode in Ingestion::ALL.iter().take(position + 1) {
        time = apply(database, mode.batches(workload)).await;
    }
    time
}
