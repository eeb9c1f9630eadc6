//! One writer and many readers.
//!
//! The writer changes a chunk in place if no snapshot refers to it, and copies it otherwise. With an unused snapshot,
//! every batch would copy the chunks that it writes to, so after a small batch the writer publishes a snapshot only if
//! the previous one was read. While there are readers, each of them reads the state after the last complete batch
//! without waiting, even during a batch. The first reader after a pause waits for the small batch in progress. It never
//! waits for a large one, before which the writer publishes a snapshot.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::ingest::Store;
use super::limit::MemoryLimit;
use super::storage::Tables;

#[derive(Debug, Default)]
struct PublishedSnapshot {
    snapshot: Option<Arc<Tables>>,
    /// Whether a reader took the snapshot, or waits for one.
    wanted: bool,
}

/// The store, shared by all handles.
#[derive(Debug, Default)]
pub(super) struct Engine {
    /// `None` until the schema is initialised. The lock is never held across an await.
    store: Arc<AsyncMutex<Option<Store>>>,
    published: Mutex<PublishedSnapshot>,
    publication: Notify,
    pub(super) limit: MemoryLimit,
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
            self.limit.set_measured(0);
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

    /// Makes a large change of the store on a blocking thread. A change that has started completes even if the future
    /// is dropped. Readers do not wait for it.
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
        let changed = tokio::task::spawn_blocking(move || {
            let store = store.as_mut()?;
            drop(engine.take_or_publish(store));
            engine.change(store, change)
        });
        let changed = changed.await;
        changed.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime was shut down before the change started.
            Err(_) => None,
        })
    }

    fn change<T>(&self, store: &mut Store, change: impl FnOnce(&mut Store) -> T) -> Option<T> {
        let was_wanted = self.drop_unread();
        let result = change(store);
        if was_wanted || self.published.lock().wanted {
            self.put(Some(Arc::new(store.snapshot())));
        }
        Some(result)
    }

    /// The state after the last complete batch. `None` if the store is not initialised.
    pub(super) async fn read(&self) -> Option<Arc<Tables>> {
        if let Some(snapshot) = self.take() {
            return Some(snapshot);
        }
        loop {
            let publication = self.publication.notified();
            if let Some(snapshot) = self.take() {
                return Some(snapshot);
            }
            tokio::select! {
                store = self.store.lock() => return Some(self.take_or_publish(store.as_ref()?)),
                // Other writers may be in the queue for the lock.
                () = publication => {}
            }
        }
    }

    /// Reads the writer's state, after the batch in progress. `None` if the store is not initialised.
    pub(super) async fn inspect<T>(&self, read: impl FnOnce(&Store) -> T) -> Option<T> {
        self.store.lock().await.as_ref().map(read)
    }

    /// The published snapshot. Without one, the next is published after the batch in progress.
    fn take(&self) -> Option<Arc<Tables>> {
        let mut published = self.published.lock();
        published.wanted = true;
        published.snapshot.clone()
    }

    fn take_or_publish(&self, store: &Store) -> Arc<Tables> {
        self.take().unwrap_or_else(|| {
            let snapshot = Arc::new(store.snapshot());
            self.put(Some(Arc::clone(&snapshot)));
            snapshot
        })
    }

    /// Drops the published snapshot if no reader took it. Returns true if a reader took it or waits for one.
    fn drop_unread(&self) -> bool {
        let mut published = self.published.lock();
        if published.wanted {
            published.wanted = false;
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
        self.publication.notify_waiters();
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_snapshot_is_published_only_while_there_are_readers() {
        let engine = Engine::default();
        assert!(engine.read().await.is_none());
        engine.initialise().await;
        engine.write(|_| ()).await;
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

    /// Starts a change that ends when the sender is dropped.
    async fn change(engine: &Arc<Engine>, is_large: bool) -> mpsc::Sender<()> {
        let (started, has_started) = tokio::sync::oneshot::channel();
        let (end, ended) = mpsc::channel::<()>();
        let engine = Arc::clone(engine);
        tokio::spawn(async move {
            let change = move |_: &mut Store| {
                let _ = started.send(());
                let _ = ended.recv();
            };
            if is_large { engine.write_blocking(change).await } else { engine.write(change).await }
        });
        timeout(LONG, has_started).await.unwrap().unwrap();
        end
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn the_first_reader_after_a_pause_waits_for_no_large_batch() {
        let engine = Arc::new(Engine::default());
        engine.initialise().await;
        for _ in 0..2 {
            let end = change(&engine, true).await;
            let before = timeout(LONG, engine.read()).await.unwrap().unwrap();
            drop(end);
            timeout(LONG, engine.write(|_| ())).await.unwrap();
            assert!(!Arc::ptr_eq(&before, &engine.read().await.unwrap()));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn a_reader_waits_only_for_the_batch_in_progress() {
        let engine = Arc::new(Engine::default());
        engine.initialise().await;
        let end = change(&engine, false).await;
        let (queued, reader) = (Arc::clone(&engine), Arc::clone(&engine));
        let mut queued = tokio::spawn(async move { change(&queued, true).await });
        // The other writer is before the reader in the queue for the lock.
        while timeout(Duration::from_millis(50), &mut queued).await.is_ok() {}
        let mut reader = tokio::spawn(async move { reader.read().await.is_some() });
        while !engine.published.lock().wanted {
            yield_now().await;
        }
        assert!(timeout(Duration::from_millis(50), &mut reader).await.is_err());
        drop(end);
        let end = timeout(LONG, queued).await.unwrap().unwrap();
        assert!(timeout(LONG, reader).await.unwrap().unwrap());
        drop(end);
    }
}
