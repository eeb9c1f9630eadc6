//! A smoke test of a store: the calls of a scenario file, and the first response that differs from the expected one.
//!
//!     cargo run --example scenario -- fixtures/lifecycle.jsonl postgres://user:password@localhost/postgres

use std::error::Error;
use std::sync::Arc;

use broadside::scenario::Scenario;
use broadside::{DatabaseConfig, ManualClock};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().unwrap_or_else(|| "fixtures/lifecycle.jsonl".to_owned());
    let config: DatabaseConfig = arguments.next().as_deref().unwrap_or("memory").parse()?;
    let scenario = Scenario::parse(&std::fs::read(file)?)?;
    let clock = Arc::new(ManualClock::default());
    // A schema or database of its own, so that nothing else on the server is changed.
    let store = config.create_scratch(clock.clone()).await?;
    let mut difference = None;
    for step in &scenario.steps {
        let response = step.call.execute(&**store.database(), &clock).await;
        if let Some(found) = step.difference(&response) {
            difference = Some(format!("line {}: {found}", step.line));
            break;
        }
    }
    store.remove().await?;
    difference.map_or(Ok(()), |difference| Err(difference.into()))
}
