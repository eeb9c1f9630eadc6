//! One writer, many readers: who waits for whom.
//!
//! The writer changes chunks in place and copies only what a snapshot holds. So a snapshot that
//! nobody reads must not lie about, or every batch would copy what it touches for no one. Hence
//! the slot: after a batch the writer leaves a snapshot there only if the one before was taken.
//! Under reads, then, every reader finds the state after the last whole batch and waits for
//! nothing, also while the next batch is being applied. Only the first reader after a time
//! without any finds the slot empty, and waits for the batch in progress, if there is one.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Mutex as AsyncMutex;

use super::ingest::Store;
use super::storage::Tables;

#[derive(Debug, Default)]
struct Slot {
    snapshot: Option<Arc<Tables>>,
    /// Whether anyone took the snapshot since it was put there.
    taken: bool,
}

/// The store of all handles.
#[derive(Debug, Default)]
pub(super) struct Engine {
    /// None until the schema is initialised. Nothing is awaited while it is locked.
    store: Arc<AsyncMutex<Option<Store>>>,
    slot: Mutex<Slot>,
}

impl Engine {
    /// Makes the store usable; keeps what is there.
    pub(super) async fn initialise(&self) {
        self.store.lock().await.get_or_insert_default();
    }

    /// Empties the store. False if it is not initialised.
    pub(super) async fn clear(&self) -> bool {
        let mut store = self.store.lock().await;
        let initialised = store.is_some();
        if initialised {
            *store = Some(Store::default());
            self.put(None);
        }
        initialised
    }

    /// Changes the store. None if it is not initialised.
    ///
    /// The change is made without a pause once the lock is had, so dropping the future leaves
    /// all of it or nothing.
    pub(super) async fn write<T>(&self, change: impl FnOnce(&mut Store) -> T) -> Option<T> {
        self.change(self.store.lock().await.as_mut()?, change)
    }

    /// The same on a thread for blocking work, where the change may take long: the caller's executor
    /// goes on. A change that was begun is made, also when the future is dropped.
    pub(super) async fn write_blocking<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Option<T> {
        // Without tokio's runtime there is no such thread.
        if Handle::try_current().is_err() {
            return self.write(change).await;
        }
        let mut store = Arc::clone(&self.store).lock_owned().await;
        let engine = Arc::clone(self);
        let changed = tokio::task::spawn_blocking(move || engine.change(store.as_mut()?, change)).await;
        changed.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime has shut down before the change was begun.
            Err(_) => None,
        })
    }

    fn change<T>(&self, store: &mut Store, change: impl FnOnce(&mut Store) -> T) -> Option<T> {
        let shared = self.drop_unread();
        let result = change(store);
        if shared {
            self.put(Some(Arc::new(store.snapshot())));
        }
        Some(result)
    }

    /// The state after the last whole batch. None if the store is not initialised.
    pub(super) async fn read(&self) -> Option<Arc<Tables>> {
        if let Some(snapshot) = self.take() {
            return Some(snapshot);
        }
        let store = self.store.lock().await;
        // Another reader may have been here first.
        if let Some(snapshot) = self.take() {
            return Some(snapshot);
        }
        let snapshot = Arc::new(store.as_ref()?.snapshot());
        *self.slot.lock() = Slot { snapshot: Some(Arc::clone(&snapshot)), taken: true };
        Some(snapshot)
    }

    /// Reads what only the writer holds. None if the store is not initialised.
    pub(super) async fn inspect<T>(&self, read: impl FnOnce(&Store) -> T) -> Option<T> {
        self.store.lock().await.as_ref().map(read)
    }

    fn take(&self) -> Option<Arc<Tables>> {
        let mut slot = self.slot.lock();
        slot.taken |= slot.snapshot.is_some();
        slot.snapshot.clone()
    }

    /// Drops a snapshot that nobody took; tells whether there is one still.
    fn drop_unread(&self) -> bool {
        let mut slot = self.slot.lock();
        if slot.taken {
            slot.taken = false;
            return true;
        }
        let unread = slot.snapshot.take();
        drop(slot);
        // Freeing it may take a while, which no reader need wait for.
        drop(unread);
        false
    }

    fn put(&self, snapshot: Option<Arc<Tables>>) {
        let mut slot = self.slot.lock();
        let old = std::mem::replace(&mut slot.snapshot, snapshot);
        drop(slot);
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_snapshot_is_left_only_for_readers() {
        let engine = Engine::default();
        assert!(engine.read().await.is_none());
        engine.initialise().await;
        engine.write(|_| ()).await;
        assert!(engine.slot.lock().snapshot.is_none());
        let read = engine.read().await.unwrap();
        engine.write(|_| ()).await;
        let again = engine.read().await.unwrap();
        assert!(!Arc::ptr_eq(&read, &again));
        engine.write(|_| ()).await;
        assert!(engine.slot.lock().snapshot.is_some());
        engine.write(|_| ()).await;
        assert!(engine.slot.lock().snapshot.is_none());
    }
}
