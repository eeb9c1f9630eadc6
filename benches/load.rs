//! Benchmark of the load generator without a store.
//!
//!     cargo bench --bench load
//!
//! A single thread advances simulated time, and creates and validates the batches that are ready, as in a run. The
//! throughput is in ingestion queries per second. Before the measurement the benchmark prints the memory usage of
//! active jobs.

use std::time::{Duration, Instant};

use broadside::Timestamp;
use broadside::ingest::IngestionBatch;
use broadside::load::{Generator, GeneratorOptions, LoadConfig};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// The allocator of the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 100,000 submissions per second of jobs with a duration of 10 seconds: a million active jobs.
const CONFIG: &str = "
testDuration: 1h
databaseConfig: {inMemory: true}
queueConfig:
  - {name: research, proportion: 0.7, jobSetConfig: [{name: nightly, proportion: 0.6}, {name: adhoc, proportion: 0.4}]}
  - {name: platform, proportion: 0.3, jobSetConfig: [{name: builds, proportion: 1}]}
ingestionConfig:
  batchSize: 10000
  numWorkers: 4
  submissionsPerHour: 360000000
  jobStateTransitionConfig:
    queueingDuration: 2s
    leasedDuration: 1s
    pendingDuration: 2s
    proportionSucceed: 0.9
    runningToSuccessDuration: 5s
    proportionFail: 0.1
    runningToFailureDuration: 5s
";
const STEP_MICROS: u64 = 1000;
const QUERIES: u64 = 1_000_000;

criterion_group!(benches, generator);
criterion_main!(benches);

/// A load in simulated time.
struct Load {
    generator: Generator,
    micros: u64,
}

impl Load {
    fn new() -> Self {
        let config = LoadConfig::parse([("bench.yaml", CONFIG)], []).expect("the configuration is valid").config;
        let start = Timestamp::from_seconds(1_772_323_200);
        Self { generator: Generator::new(&config, GeneratorOptions::default(), start), micros: 0 }
    }

    /// Generates at least the given number of queries, and passes the batches to `consume`. Returns the number of
    /// generated queries.
    fn generate(&mut self, queries: u64, mut consume: impl FnMut(IngestionBatch)) -> u64 {
        let mut generated = 0;
        while generated < queries {
            self.generator.advance(self.micros);
            while let Some(planned) = self.generator.next_batch(self.micros, false) {
                let batch = IngestionBatch::new(self.generator.queries(&planned)).expect("every query is valid");
                generated += batch.query_count() as u64;
                consume(batch);
                self.generator.complete(planned.worker, self.micros);
            }
            self.micros += STEP_MICROS;
        }
        generated
    }
}

fn generator(criterion: &mut Criterion) {
    let mut load = Load::new();
    memory(&mut load);
    let mut group = criterion.benchmark_group("generator");
    group.throughput(Throughput::Elements(QUERIES)).sample_size(10).measurement_time(Duration::from_secs(20));
    group.bench_function("ingestion queries on one core", |bencher| {
        bencher.iter_custom(|iterations| {
            let started = Instant::now();
            let wanted = QUERIES * iterations;
            let generated = load.generate(wanted, drop);
            // The last batch may exceed the requested number.
            started.elapsed().mul_f64(wanted as f64 / generated as f64)
        });
    });
    group.finish();
}

/// Prints the memory usage of active jobs.
fn memory(load: &mut Load) {
    load.generate(100_000, drop);
    let (jobs, bytes) = (load.generator.active_jobs(), resident_bytes());
    while load.generator.active_jobs() < 950_000 {
        load.generate(100_000, drop);
    }
    // The allocator returns the previous buffers of queues that have grown only after further allocations.
    load.generate(5_000_000, drop);
    let (more_jobs, more_bytes) = (load.generator.active_jobs() - jobs, resident_bytes().saturating_sub(bytes));
    println!("{more_jobs} active jobs use {more_bytes} bytes: {} bytes per job", more_bytes / more_jobs as u64);
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kibibytes.map_or(0, |kibibytes: u64| kibibytes * 1024)
}
