//! What the benchmarks share: stores full of generated jobs, and the operations of the comparison.

use std::sync::Arc;
use std::time::{Duration, Instant};

use broadside::compare::{Batches, Ingestion};
use broadside::ingest::IngestionBatch;
use broadside::workload::{Query, QueryKind, Workload, WorkloadOptions};
use broadside::{Database, ManualClock, Result};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use tokio::runtime::Runtime;

/// How many queries of a kind take turns.
const QUERIES: u64 = 20;

/// The workload of so many jobs.
pub fn workload(jobs: u64) -> Workload {
    Workload::new(WorkloadOptions { jobs, ..WorkloadOptions::default() })
}

/// The clock that fits a workload.
pub fn clock(workload: &Workload) -> Arc<ManualClock> {
    let clock = ManualClock::default();
    clock.set(workload.now());
    Arc::new(clock)
}

/// Applies batches in turn, and gives the time that the store took; making them is not counted.
pub async fn apply(database: &dyn Database, batches: Batches<'_>) -> Duration {
    let mut time = Duration::ZERO;
    for batch in batches {
        let batch = batch.expect("the workload is valid");
        let started = Instant::now();
        database.execute_ingestion_query_batch(&batch).await.expect("the store takes the batch");
        time += started.elapsed();
    }
    time
}

/// Fills a store with all jobs of a workload.
pub async fn load(database: &dyn Database, workload: &Workload) {
    database.initialise_schema().await.expect("the store can be made");
    apply(database, Ingestion::whole_lives(workload)).await;
}

/// Benchmarks each kind of query on a store that is filled when the first of them is chosen.
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

/// Throughput is what a query looks at or gives: all jobs for groups, rows for all else.
fn query(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    kind: QueryKind,
    queries: &[Query],
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
            runtime.block_on(query.run(database.as_ref())).expect("the store answers")
        });
    });
}

/// Benchmarks each way of ingestion on a new store for every round; the batches of the ways before are
/// applied to it first. Throughput is in queries.
pub fn ingestion(
    criterion: &mut Criterion,
    runtime: &Runtime,
    name: &str,
    workload: &Workload,
    store: impl Fn() -> Arc<dyn Database>,
) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for (position, way) in Ingestion::ALL.into_iter().enumerate() {
        group.throughput(Throughput::Elements(query_count(workload, way)));
        group.bench_function(way.to_string(), |bencher| {
            bencher.iter_custom(|rounds| {
                (0..rounds).map(|_| runtime.block_on(round(store().as_ref(), workload, position))).sum()
            });
        });
    }
    group.finish();
}

/// How many queries an ingestion has.
pub fn query_count(workload: &Workload, way: Ingestion) -> u64 {
    let count = |batch: Result<IngestionBatch>| batch.expect("the workload is valid").query_count() as u64;
    way.batches(workload).map(count).sum()
}

/// The time of one way of ingestion, after those before it.
async fn round(database: &dyn Database, workload: &Workload, position: usize) -> Duration {
    database.initialise_schema().await.expect("the store can be made");
    let mut time = Duration::ZERO;
    for way in Ingestion::ALL.iter().take(position + 1) {
        time = apply(database, way.batches(workload)).await;
    }
    time
}
