//! A comparison of two stores from a program: equal results, and the ratios of the median times.
//!
//!     cargo run --release --features compare --example compare -- postgres://user:password@localhost/postgres

use std::error::Error;
use std::sync::Arc;

use broadside::compare::{Backend, Comparison, ComparisonOutcome, Target};
use broadside::workload::{QueryKind, Workload, WorkloadOptions};
use broadside::{DatabaseConfig, ManualClock};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let other = std::env::args().nth(1).unwrap_or_else(|| "memory".to_owned());
    let workload = Workload::new(WorkloadOptions { jobs: 10_000, ..WorkloadOptions::default() });
    let clock = ManualClock::default();
    clock.set(workload.now());
    let clock = Arc::new(clock);
    let (mut stores, mut targets): (Vec<_>, Vec<Box<dyn Target>>) = Default::default();
    for (name, address) in [("first", "memory"), ("other", other.as_str())] {
        let store = address.parse::<DatabaseConfig>()?.create_scratch(clock.clone()).await?;
        store.database().initialise_schema().await?;
        targets.push(Box::new(Backend::new(name, store.database().clone())));
        stores.push(store);
    }
    let comparison = Comparison { workload: &workload, kinds: QueryKind::essential(), samples: 50 };
    let compared = comparison.run(&targets, &|_, _, _| {}).await;
    for store in stores {
        store.remove().await?;
    }
    match compared? {
        ComparisonOutcome::Differed(differences) => Err(format!("the results differ: {differences:?}").into()),
        ComparisonOutcome::Agreed(results) => {
            for operation in &results.operations {
                let ratio = operation.measurements[1].as_ref().and_then(|measured| measured.ratio);
                ratio.iter().for_each(|ratio| println!("{}: {ratio}", operation.name));
            }
            Ok(())
        }
    }
}
