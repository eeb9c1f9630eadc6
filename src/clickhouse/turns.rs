//! Whose turn it is: what keeps batches and reads of one process apart.
//!
//! ClickHouse has no transaction across tables and no row locks. Two things therefore have to be
//! seen to here, among all handles of the process that lead to the same database:
//!
//! - **Batches take turns.** A batch reads the stored rows, decides, and writes their next
//!   versions. If another batch wrote in between, its update would be lost.
//! - **Reads wait for the inserts of a batch.** They are some milliseconds in which some tables
//!   have the batch and others do not. Reads run side by side, also while a batch reads and
//!   decides.
//!
//! Between processes nothing is kept apart. Batches of two processes must concern different
//! jobs, as those of Lookout's ingesters do, each of which has job sets of its own; a read of
//! another process may see, for these milliseconds, a batch's specs, errors and runs before its
//! jobs, but never a part of a table's share.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, OwnedRwLockWriteGuard, RwLock, RwLockReadGuard};

/// The turns of one database.
#[derive(Debug, Default)]
pub(super) struct Turns {
    batch: Arc<AsyncMutex<()>>,
    tables: Arc<RwLock<()>>,
}

/// The turn of a batch. It is given up when dropped, and can be taken along into a task.
#[derive(Debug)]
pub(super) struct BatchTurn {
    _batch: OwnedMutexGuard<()>,
    tables: Arc<RwLock<()>>,
}

static TURNS: LazyLock<Mutex<HashMap<String, Weak<Turns>>>> = LazyLock::new(Mutex::default);

impl Turns {
    /// The turns that all handles to a database share. `address` tells databases apart.
    pub(super) fn of(address: &str) -> Arc<Self> {
        let mut all = TURNS.lock();
        if let Some(turns) = all.get(address).and_then(Weak::upgrade) {
            return turns;
        }
        all.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Self::default());
        all.insert(address.to_owned(), Arc::downgrade(&turns));
        turns
    }

    /// Waits until no other batch is at work.
    pub(super) async fn batch(&self) -> BatchTurn {
        BatchTurn { _batch: Arc::clone(&self.batch).lock_owned().await, tables: Arc::clone(&self.tables) }
    }

    /// Waits until no batch is being inserted, and keeps the next one from it.
    pub(super) async fn read(&self) -> RwLockReadGuard<'_, ()> {
        self.tables.read().await
    }
}

impl BatchTurn {
    /// Waits until no read is under way, and keeps reads from starting.
    pub(super) async fn write(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.tables).write_owned().await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn handles_to_one_database_take_turns() {
        let (first, second) = (Turns::of("a"), Turns::of("a"));
        let turn = first.batch().await;
        assert!(second.batch().now_or_never().is_none());
        assert!(Turns::of("b").batch().now_or_never().is_some());
        drop(turn);
        assert!(second.batch().now_or_never().is_some());
    }

    #[tokio::test]
    async fn reads_wait_for_inserts_alone() {
        let turns = Turns::of("c");
        let turn = turns.batch().await;
        assert!(turns.read().now_or_never().is_some());
        let inserting = turn.write().await;
        assert!(turns.read().now_or_never().is_none());
        drop(inserting);
        let reading = turns.read().await;
        assert!(turn.write().now_or_never().is_none());
        drop(reading);
    }
}
