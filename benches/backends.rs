//! The backends on servers: every operation, on those whose address is set.

mod support;

use std::sync::Arc;

use broadside::{CLICKHOUSE_URL_VARIABLE, Database, DatabaseConfig, POSTGRES_URL_VARIABLE, ScratchStore};
use criterion::{Criterion, criterion_group, criterion_main};
use parking_lot::Mutex;
use support::{clock, load, workload};
use tokio::runtime::Runtime;

/// How many jobs, unless [`JOBS_VARIABLE`] says.
const JOBS: u64 = 100_000;
const JOBS_VARIABLE: &str = "BROADSIDE_BENCH_JOBS";

/// The stores that a benchmark made on a server, which are removed at its end.
struct Stores<'a> {
    runtime: &'a Runtime,
    config: DatabaseConfig,
    made: Mutex<Vec<ScratchStore>>,
}

impl Stores<'_> {
    fn make(&self, workload: &broadside::workload::Workload) -> Arc<dyn Database> {
        let scratch = self.runtime.block_on(self.config.create_scratch(clock(workload)));
        let scratch = scratch.expect("the server can be reached");
        let database = Arc::clone(scratch.database());
        self.made.lock().push(scratch);
        database
    }
}

impl Drop for Stores<'_> {
    fn drop(&mut self) {
        for store in self.made.lock().drain(..) {
            if let Err(error) = self.runtime.block_on(store.remove()) {
                eprintln!("a store was left behind: {error}");
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
            eprintln!("{name}: left out, for {variable} is not set");
            continue;
        }
        let config = name.parse().expect("the variable holds an address");
        let stores = Stores { runtime: &runtime, config, made: Mutex::default() };
        let filled = std::cell::OnceCell::new();
        let fill = || {
            let database = stores.make(&workload);
            runtime.block_on(load(database.as_ref(), &workload));
            database
        };
        let name = format!("{name}/{jobs}");
        support::queries(criterion, &runtime, &name, &workload, || Arc::clone(filled.get_or_init(fill)));
        support::ingestion(criterion, &runtime, &format!("{name}/ingestion"), &workload, || stores.make(&workload));
    }
}

criterion_group!(benches, operations);
criterion_main!(benches);
