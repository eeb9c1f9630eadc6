//! Growth: the times of the queries of the memory engine with 100 thousand jobs and with 10 million.
//!
//!     cargo bench --bench growth
//!
//! Two processes that run one after the other cannot show it on a machine whose speed changes between them. Here, both
//! stores are in one process and take turns of ten queries. The ratio of an operation is the median of the ratios of
//! its rounds, each of which compares the medians of two turns that follow each other.

// The other benchmarks use the rest of it.
#[allow(dead_code)]
mod support;

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use broadside::compare::Ingestion;
use broadside::measure::LatencyHistogram;
use broadside::memory::MemoryDatabase;
use broadside::workload::{QueryKind, Workload};
use broadside::{Database, ReadCall};
use support::{apply, clock, workload};

/// The allocator of the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The default numbers of jobs.
const SIZES: [u64; 2] = [100_000, 10_000_000];
/// The variable with the numbers of jobs, separated by a comma.
const SIZES_VARIABLE: &str = "BROADSIDE_BENCH_JOBS";
/// The number of distinct queries of a kind.
const QUERIES: u64 = 50;
/// The number of consecutive queries of a kind on a store.
const QUERIES_PER_TURN: usize = 10;
/// The number of turns of each store.
const ROUNDS: usize = 40;

fn main() {
    // With `--test`, one round checks that the benchmark works.
    let rounds = if std::env::args().any(|argument| argument == "--test") { 1 } else { ROUNDS };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    let [small, large] = sizes();
    runtime.block_on(async {
        let (small, large) = (Store::filled(small).await, Store::filled(large).await);
        println!("| operation | {} jobs | {} jobs | ratio |\n|---|---:|---:|---:|", small.jobs(), large.jobs());
        for kind in QueryKind::essential() {
            if let Some(growth) = Growth::measured(kind, &small, &large, rounds).await {
                println!("{growth}");
            }
        }
    });
}

fn sizes() -> [u64; 2] {
    let Ok(text) = std::env::var(SIZES_VARIABLE) else { return SIZES };
    let sizes: Vec<u64> = text.split(',').map(|size| size.trim().parse().expect("a number of jobs")).collect();
    sizes.try_into().expect("two numbers of jobs")
}

/// A store with the jobs of a workload.
struct Store {
    workload: Workload,
    database: MemoryDatabase,
}

impl Store {
    async fn filled(jobs: u64) -> Self {
        let workload = workload(jobs);
        let database = MemoryDatabase::new().with_clock(clock(&workload));
        database.initialise_schema().await.expect("the store can be created");
        for ingestion in Ingestion::ALL {
            apply(&database, ingestion.batches(&workload)).await;
        }
        Self { workload, database }
    }

    fn jobs(&self) -> u64 {
        self.workload.options().jobs
    }

    fn queries(&self, kind: QueryKind) -> Vec<ReadCall> {
        (0..QUERIES).map_while(|number| self.workload.query(kind, number)).collect()
    }

    /// Executes a query. Returns the time and the number of rows.
    async fn run(&self, query: &ReadCall) -> (Duration, usize) {
        let started = Instant::now();
        let answer = query.execute(&self.database).await.expect("the query succeeds");
        (started.elapsed(), answer.rows())
    }
}

/// The executions of a kind of query on a store.
#[derive(Default)]
struct Executions {
    latencies: LatencyHistogram,
    min_rows: Option<usize>,
}

impl Executions {
    /// Executes the queries. Returns the median time in nanoseconds.
    async fn turn(&mut self, store: &Store, queries: &[&ReadCall]) -> u64 {
        let mut turn = LatencyHistogram::default();
        for query in queries {
            let (time, rows) = store.run(query).await;
            turn.record(time);
            self.min_rows = Some(self.min_rows.map_or(rows, |least| least.min(rows)));
        }
        self.latencies.merge(&turn);
        median(&turn)
    }
}

/// The median in nanoseconds; 0 without executions.
fn median(latencies: &LatencyHistogram) -> u64 {
    latencies.quantile(0.5).unwrap_or_default()
}

/// The growth of a kind of query, a row of the table.
struct Growth {
    kind: QueryKind,
    executions: [Executions; 2],
    /// The ratio of each round.
    ratios: Vec<f64>,
}

impl Growth {
    /// Executes the queries of a kind; `None` if the kind has none.
    async fn measured(kind: QueryKind, small: &Store, large: &Store, rounds: usize) -> Option<Self> {
        let (small_queries, large_queries) = (small.queries(kind), large.queries(kind));
        if small_queries.is_empty() || large_queries.is_empty() {
            return None;
        }
        let (mut of_small, mut of_large) = (small_queries.iter().cycle(), large_queries.iter().cycle());
        let mut executions = <[Executions; 2]>::default();
        let mut ratios = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let queries: Vec<_> = of_small.by_ref().take(QUERIES_PER_TURN).collect();
            let before = executions[0].turn(small, &queries).await;
            let queries: Vec<_> = of_large.by_ref().take(QUERIES_PER_TURN).collect();
            let after = executions[1].turn(large, &queries).await;
            ratios.push(after as f64 / before.max(1) as f64);
        }
        ratios.sort_unstable_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
        Some(Self { kind, executions, ratios })
    }
}

impl std::fmt::Display for Growth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "| {}", self.kind)?;
        for Executions { latencies, min_rows } in &self.executions {
            let micros = median(latencies) as f64 / 1000.0;
            write!(f, " | {micros:.2} µs, {} rows", min_rows.unwrap_or_default())?;
        }
        write!(f, " | {:.2} |", self.ratios[self.ratios.len() / 2])
    }
}
