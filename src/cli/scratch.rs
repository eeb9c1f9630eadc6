//! Work on stores of its own, which are removed whatever happens.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::thread;

use broadside::scenario::{Response, Scenario, Step};
use broadside::{BackendKind, Database, DatabaseConfig, ManualClock, ScratchStore};
use futures::FutureExt;
use futures::future::join_all;

use super::interrupt::{self, HeldStore, Hold};
use super::{Failure, report};

/// A scratch store that is removed also when a signal ends the process.
struct HeldScratch {
    store: ScratchStore,
    /// None for a store that ends with the process.
    hold: Option<Hold>,
}

impl HeldScratch {
    /// Creates a store. A signal waits until that is done: a request that was sent may be carried out
    /// after nobody waits for it any more, and what it makes would stay.
    async fn create(config: &DatabaseConfig, clock: &Arc<ManualClock>) -> Result<Self, Failure> {
        let name = DatabaseConfig::scratch_name();
        let hold = match config.backend() {
            BackendKind::Memory => None,
            _ => Some(interrupt::hold_store(HeldStore { name: name.clone(), server: config.clone() })?),
        };
        let store = config.create_scratch_named(&name, clock.clone()).await?;
        if let Some(hold) = &hold {
            hold.created();
        }
        Ok(Self { store, hold })
    }

    /// Removes the store and says so if it cannot.
    async fn remove(self) -> broadside::Result<()> {
        let Self { store, hold } = self;
        if let Some(hold) = &hold {
            hold.removing().await;
        }
        let removed = store.remove().await;
        if let Err(error) = &removed {
            report::error(error);
        }
        removed
    }
}

/// Makes sure that the servers can be reached, which a signal may interrupt: from here on the creation
/// of a store takes little time.
pub async fn reach(configs: &[DatabaseConfig]) -> Result<(), Failure> {
    let servers = configs.iter().filter(|config| config.backend() != BackendKind::Memory);
    interruptible(async {
        for config in servers {
            config.scratch_stores().await?;
        }
        Ok(())
    })
    .await
}

/// Makes an empty store, works on it and removes it: also after an error, a panic or a signal.
pub async fn with_scratch<T>(
    config: &DatabaseConfig,
    clock: &Arc<ManualClock>,
    work: impl AsyncFnOnce(&dyn Database) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let config = std::slice::from_ref(config);
    with_scratches(config, clock, async |databases| work(databases[0].as_ref()).await).await
}

/// The same with a store for each configuration, in their order.
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
    let removed = join_all(stores.into_iter().map(HeldScratch::remove)).await;
    let value = outcome.unwrap_or_else(|panic| resume_unwind(panic))?;
    if removed.iter().all(Result::is_ok) { Ok(value) } else { Err(Failure::Reported) }
}

async fn create_each(
    configs: &[DatabaseConfig],
    clock: &Arc<ManualClock>,
    stores: &mut Vec<HeldScratch>,
) -> Result<(), Failure> {
    for config in configs {
        stores.push(HeldScratch::create(config, clock).await?);
    }
    Ok(())
}

/// Work that ends early, but in order, when it panics or a signal comes.
async fn guarded<T>(work: impl Future<Output = Result<T, Failure>>) -> thread::Result<Result<T, Failure>> {
    AssertUnwindSafe(interruptible(work)).catch_unwind().await
}

/// Work that ends early when a signal comes.
pub async fn interruptible<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        outcome = work => outcome,
        () = interrupt::requested() => Err(Failure::Interrupted),
    }
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
