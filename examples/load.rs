//! A load test of the embedded engine from a program.
//!
//!     cargo run --release --features load --example load

use std::error::Error;

use broadside::load::{LoadConfig, LoadTest};

const CONFIG: &str = "
testDuration: 5s
databaseConfig: {inMemory: true}
ingestionConfig: {batchSize: 1000, batchTimeout: 50ms, submissionsPerHour: 720000}
queryConfig: {getJobsQueriesPerHour: 72000, getJobGroupsQueriesPerHour: 36000}
queueConfig: [{name: risk, proportion: 1, jobSetConfig: [{name: nightly, proportion: 1}]}]
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = LoadConfig::parse([("load.yaml", CONFIG)], [])?.config;
    let record = LoadTest::new(config).run(broadside::connect("memory").await?).await?;
    println!("{:?}, {} ingestion queries", record.verdict(), record.ingester.queries_executed);
    for query in &record.queries {
        println!("{}: p99 {:?} ns", query.name(), query.latency.quantile(0.99));
    }
    Ok(())
}
