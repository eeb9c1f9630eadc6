//! Work on a store of its own, which is removed whatever happens.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::thread;

use broadside::scenario::{Response, Scenario, Step};
use broadside::{BackendKind, Database, DatabaseConfig, ManualClock};
use futures::FutureExt;

use super::{Failure, report};

/// Makes an empty store, works on it and removes it: also after an error, a panic or an
/// interruption by the user.
pub async fn with_scratch<T>(
    config: &DatabaseConfig,
    clock: &Arc<ManualClock>,
    work: impl AsyncFnOnce(&dyn Database) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let store = config.create_scratch(clock.clone()).await?;
    let outcome = guarded(is_server(config), work(store.database().as_ref())).await;
    let removed = store.remove().await;
    conclude(outcome, removed)
}

/// The same with a store for each configuration, in their order.
pub async fn with_scratches<T>(
    configs: &[DatabaseConfig],
    clock: &Arc<ManualClock>,
    work: impl AsyncFnOnce(&[Arc<dyn Database>]) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut stores = Vec::new();
    let create_and_work = async {
        for config in configs {
            stores.push(config.create_scratch(clock.clone()).await?);
        }
        let databases: Vec<_> = stores.iter().map(|store| Arc::clone(store.database())).collect();
        work(&databases).await
    };
    let outcome = guarded(configs.iter().any(is_server), create_and_work).await;
    let mut removed = Ok(());
    for store in stores {
        removed = removed.and(store.remove().await);
    }
    conclude(outcome, removed)
}

fn is_server(config: &DatabaseConfig) -> bool {
    config.backend() != BackendKind::Memory
}

/// Work that ends early, but in order, when it panics or the user interrupts it.
async fn guarded<T>(
    on_server: bool,
    work: impl Future<Output = Result<T, Failure>>,
) -> thread::Result<Result<T, Failure>> {
    let work = AssertUnwindSafe(work).catch_unwind();
    if !on_server {
        // The store goes with the process, and its work is too busy to listen: the signal may kill.
        return work.await;
    }
    tokio::select! {
        outcome = work => outcome,
        () = interruption() => Ok(Err(Failure::Interrupted)),
    }
}

/// What work came to, after its store was removed or could not be.
fn conclude<T>(outcome: thread::Result<Result<T, Failure>>, removed: broadside::Result<()>) -> Result<T, Failure> {
    let outcome = outcome.unwrap_or_else(|panic| resume_unwind(panic));
    match (&outcome, removed) {
        (Err(_), Err(error)) => report::error(&error),
        (Ok(_), Err(error)) => return Err(error.into()),
        (_, Ok(())) => {}
    }
    outcome
}

/// Makes the calls of a scenario, in order, on an empty store of its own; `observe` hears of
/// every response.
pub async fn run_scenario(
    config: &DatabaseConfig,
    scenario: &Scenario,
    mut observe: impl FnMut(&Step, &Response) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let clock = Arc::new(ManualClock::default());
    with_scratch(config, &clock, async |database| {
        for step in &scenario.steps {
            let response = step.call.execute(database, &clock).await;
            observe(step, &response)?;
        }
        Ok(())
    })
    .await
}

/// Returns when the user interrupts the process, or someone asks it to end.
async fn interruption() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => return,
                Ok(()) = tokio::signal::ctrl_c() => return,
                else => {}
            }
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler the signal ends the process by itself.
        std::future::pending::<()>().await;
    }
}
