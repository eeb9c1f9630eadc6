//! Benchmarks of all operations on the server backends whose address is set.

mod support;

use std::sync::Arc;

use broadside::{CLICKHOUSE_URL_VARIABLE, Database, DatabaseConfig, POSTGRES_URL_VARIABLE, ScratchStore};
use criterion::{Criterion, criterion_group, criterion_main};
use parking_lot::Mutex;
use support::{clock, load, workload};
use tokio::runtime::Runtime;

/// The default number of jobs.
const JOBS: u64 = 100_000;
const JOBS_VARIABLE: &str = "BROADSIDE_BENCH_JOBS";

/// The scratch stores of a benchmark, which are removed when this is dropped.
struct Stores<'a> {
    runtime: &'a Runtime,
    config: DatabaseConfig,
    created: Mutex<Vec<ScratchStore>>,
}

impl Stores<'_> {
    fn create(&self, workload: &broadside::workload::Workload) -> Arc<dyn Database> {
        let scratch = self.runtime.block_on(self.config.create_scratch(clock(workload)));
        let scratch = scratch.expect("the server can be reached");
        let database = Arc::clone(scratch.database());
        self.created.lock().push(scratch);
        database
    }
}

impl Drop for Stores<'_> {
    fn drop(&mut self) {
        for store in self.created.lock().drain(..) {
            if let Err(error) = self.runtime.block_on(store.remove()) {
                eprintln!("a scratch store was not removed: {error}");
            }
        }
    }
}

fn operations(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    let jobs = std::env::var(JOBS_VARIABLE).map_or(JOBS, |text| text.parse().expect("a number of jobs"));
    let workload = workload(jobs);
    for (name, variable) in [("postgres", POSTGRES_URL_VARIABLE), ("clickhouse", CLICKHOUSE_URL_VARIABLE)] {
        if std::env::var_os(variable).is_none() {
            eprintln!("{name}: skipped, because {variable} is not set");
            continue;
        }
        let config = name.parse().expect("the variable contains an address");
        let stores = Stores { runtime: &runtime, config, created: Mutex::default() };
        let filled = std::cell::OnceCell::new();
        let fill = || {
            let database = stores.create(&workload);
            runtime.block_on(load(database.as_ref(), &workload));
            database
        };
        let name = format!("{name}/{jobs}");
        support::queries(criterion, &runtime, &name, &workload, || Arc::clone(filled.get_or_init(fill)));
        support::ingestion(criterion, &runtime, &format!("{name}/ingestion"), &workload, || stores.create(&workload));
    }
}

criterion_group!(benches, operations);
criterion_main!(benches);
