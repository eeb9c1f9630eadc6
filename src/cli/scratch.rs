//! Operations on scratch stores, which are removed at the end in every case.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::thread;

use broadside::scenario::{Response, Scenario, Step};
use broadside::{BackendKind, Database, DatabaseConfig, ManualClock, ScratchStore};
use futures::FutureExt;
use futures::future::join_all;

use super::interrupt::{self, Guard};
use super::{Failure, messages};

/// A scratch store, whose removal precedes the end of the process after a signal.
struct GuardedScratch {
    store: ScratchStore,
    /// `None` for a memory store, which ends with the process.
    _guard: Option<Guard>,
}

impl GuardedScratch {
    /// Creates a store. The end of the process after a signal waits for this: the server may execute a request
    /// after its client has gone, and the store would remain.
    async fn create(config: &DatabaseConfig, clock: &Arc<ManualClock>) -> Result<Self, Failure> {
        let name = DatabaseConfig::scratch_name();
        let guard = match config.backend() {
            BackendKind::Memory => None,
            backend => Some(Guard::of_store(&name, backend)?),
        };
        let store = config.create_scratch_named(&name, clock.clone()).await?;
        Ok(Self { store, _guard: guard })
    }

    /// Removes the store. Reports the error if that fails.
    async fn remove(self) -> broadside::Result<()> {
        let removed = self.store.remove().await;
        if let Err(error) = &removed {
            messages::error(error);
        }
        removed
    }
}

/// Checks that the servers can be reached. Unlike the creation of a store, a signal interrupts this.
pub async fn check_reachable(configs: &[DatabaseConfig]) -> Result<(), Failure> {
    let servers = configs.iter().filter(|config| config.backend() != BackendKind::Memory);
    interruptible(async {
        for config in servers {
            config.scratch_stores().await?;
        }
        Ok(())
    })
    .await
}

/// Creates an empty store, runs an operation on it and removes it, also after an error, a panic or a signal.
pub async fn with_scratch<T>(
    config: &DatabaseConfig,
    clock: &Arc<ManualClock>,
    work: impl AsyncFnOnce(&dyn Database) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let config = std::slice::from_ref(config);
    with_scratches(config, clock, async |databases| work(databases[0].as_ref()).await).await
}

/// Like [`with_scratch`], with a store for each configuration, in the same order.
pub async fn with_scratches<T>(
    configs: &[DatabaseConfig],
    clock: &Arc<ManualClock>,
    work: impl AsyncFnOnce(&[Arc<dyn Database>]) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut stores = Vec::new();
    let created = create_each(configs, clock, &mut stores).await;
    let databases: Vec<_> = stores.iter().map(|scratch| Arc::clone(scratch.store.database())).collect();
    let outcome = match created {
        Ok(()) => guarded(work(&databases)).await,
        Err(failure) => Ok(Err(failure)),
    };
    drop(databases);
    let removed = join_all(stores.into_iter().map(GuardedScratch::remove)).await;
    let value = outcome.unwrap_or_else(|panic| resume_unwind(panic))?;
    if removed.iter().all(Result::is_ok) { Ok(value) } else { Err(Failure::Reported) }
}

async fn create_each(
    configs: &[DatabaseConfig],
    clock: &Arc<ManualClock>,
    stores: &mut Vec<GuardedScratch>,
) -> Result<(), Failure> {
    for config in configs {
        stores.push(GuardedScratch::create(config, clock).await?);
    }
    Ok(())
}

/// Runs an operation that a signal interrupts, and catches its panics.
async fn guarded<T>(work: impl Future<Output = Result<T, Failure>>) -> thread::Result<Result<T, Failure>> {
    AssertUnwindSafe(interruptible(work)).catch_unwind().await
}

/// Runs an operation that a signal interrupts.
pub async fn interruptible<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        outcome = work => outcome,
        () = interrupt::requested() => Err(Failure::Interrupted),
    }
}

/// Executes the calls of a scenario in order on an empty scratch store, and passes each response to `observe`.
pub async fn run_scenario(
    config: &DatabaseConfig,
    scenario: &Scenario,
    mut observe: impl AsyncFnMut(&Step, &Response) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let clock = Arc::new(ManualClock::default());
    with_scratch(config, &clock, async |database| {
        for step in &scenario.steps {
            let response = step.call.execute(database, &clock).await;
            observe(step, &response).await?;
        }
        Ok(())
    })
    .await
}
