//! One writer and many readers.
//!
//! The writer changes a chunk in place if no snapshot refers to it, and copies it otherwise. With an unused snapshot,
//! every batch would copy the chunks that it writes to, so after a batch the writer publishes a snapshot only if the
//! previous one was read. While there are readers, each of them reads the state after the last complete batch without
//! waiting, even during a batch. The first reader after a pause takes a new snapshot, and waits for the batch in
//! progress.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Mutex as AsyncMutex;

use super::ingest::Store;
use super::storage::Tables;

#[derive(Debug, Default)]
struct PublishedSnapshot {
    snapshot: Option<Arc<Tables>>,
    taken: bool,
}

/// The store, shared by all handles.
#[derive(Debug, Default)]
pub(super) struct Engine {
    /// `None` until the schema is initialised. The lock is never held across an await.
    store: Arc<AsyncMutex<Option<Store>>>,
    published: Mutex<PublishedSnapshot>,
}

impl Engine {
    /// Initialises the store, unless it is initialised.
    pub(super) async fn initialise(&self) {
        self.store.lock().await.get_or_insert_default();
    }

    /// Empties the store. Returns false if it is not initialised.
    pub(super) async fn clear(&self) -> bool {
        let mut store = self.store.lock().await;
        let initialised = store.is_some();
        if initialised {
            *store = Some(Store::default());
            self.put(None);
        }
        initialised
    }

    /// Changes the store. Returns `None` if it is not initialised.
    ///
    /// There is no await between the lock and the end of the change, so a dropped future has made either the complete
    /// change or none.
    pub(super) async fn write<T>(&self, change: impl FnOnce(&mut Store) -> T) -> Option<T> {
        self.change(self.store.lock().await.as_mut()?, change)
    }

    /// Changes the store on a blocking thread. A change that has started completes even if the future is dropped.
    pub(super) async fn write_blocking<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Option<T> {
        // There are no blocking threads outside a tokio runtime.
        if Handle::try_current().is_err() {
            return self.write(change).await;
        }
        let mut store = Arc::clone(&self.store).lock_owned().await;
        let engine = Arc::clone(self);
        let changed = tokio::task::spawn_blocking(move || engine.change(store.as_mut()?, change)).await;
        changed.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime was shut down before the change started.
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

    /// The state after the last complete batch. `None` if the store is not initialised.
    pub(super) async fn read(&self) -> Option<Arc<Tables>> {
        if let Some(snapshot) = self.take() {
            return Some(snapshot);
        }
        let store = self.store.lock().await;
        // Another reader may have published a snapshot before this one acquired the lock.
        if let Some(snapshot) = self.take() {
            return Some(snapshot);
        }
        let snapshot = Arc::new(store.as_ref()?.snapshot());
        *self.published.lock() = PublishedSnapshot { snapshot: Some(Arc::clone(&snapshot)), taken: true };
        Some(snapshot)
    }

    /// Reads the writer's state. `None` if the store is not initialised.
    pub(super) async fn inspect<T>(&self, read: impl FnOnce(&Store) -> T) -> Option<T> {
        self.store.lock().await.as_ref().map(read)
    }

    fn take(&self) -> Option<Arc<Tables>> {
        let mut published = self.published.lock();
        published.taken |= published.snapshot.is_some();
        published.snapshot.clone()
    }

    /// Drops the published snapshot if no reader took it. Returns true if a reader took it.
    fn drop_unread(&self) -> bool {
        let mut published = self.published.lock();
        if published.taken {
            published.taken = false;
            return true;
        }
        let unread = published.snapshot.take();
        drop(published);
        // Deallocation is slow, so it follows the release of the lock.
        drop(unread);
        false
    }

    fn put(&self, snapshot: Option<Arc<Tables>>) {
        let mut published = self.published.lock();
        let old = std::mem::replace(&mut published.snapshot, snapshot);
        drop(published);
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_snapshot_is_published_only_while_there_are_readers() {
        let engine = Engine::default();
        assert!(engine.read().await.is_none());
        engine.initialise().await;
        engine.write(|_| ()).await;
        assert!(engine.published.lock().snapshot.is_none());
        let read = engine.read().await.unwrap();
        engine.write(|_| ()).await;
        let again = engine.read().await.unwrap();
        assert!(!Arc::ptr_eq(&read, &again));
        engine.write(|_| ()).await;
        assert!(engine.published.lock().snapshot.is_some());
        engine.write(|_| ()).await;
        assert!(engine.published.lock().snapshot.is_none());
    }
}
