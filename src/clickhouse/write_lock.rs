//! The write lock: mutual exclusion of the batches of one process.
//!
//! ClickHouse has no row locks. A batch reads the stored rows and writes their next versions; an update by another
//! batch in between would be lost. Therefore batches on a common job or run hold the lock one after another, in the
//! order of their requests, through any handle of the process to the store. Batches without a common job or run are
//! executed concurrently. Reads take no lock.
//!
//! A chunk of historical jobs and a truncation lock the whole store, because their result depends on all stored rows.
//!
//! The lock does not extend to other processes; see the [module](super) for the consequences.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use smol_str::SmolStr;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, oneshot};

use crate::ingest::IngestionBatch;

/// The write lock of a store.
#[derive(Debug, Default)]
pub(super) struct WriteLock {
    /// Shared for batches, exclusive for the whole store. The lock is fair, so neither starves.
    store: Arc<RwLock<()>>,
    queues: Arc<Mutex<Queues>>,
}

/// A job or run that a batch writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// A job, its spec and its error.
    Job(SmolStr),
    Run(SmolStr),
}

type Ticket = u64;

/// The batches that hold the lock or wait for it: a queue for each key, in the order of requests.
#[derive(Debug, Default)]
struct Queues {
    next: Ticket,
    by_key: HashMap<Key, VecDeque<Ticket>>,
    waiting: HashMap<Ticket, Waiting>,
}

/// A batch that is not at the head of all its queues.
#[derive(Debug)]
struct Waiting {
    /// The number of queues in which other batches precede it.
    behind: usize,
    wake: oneshot::Sender<()>,
}

/// The lock of a batch on its keys, or its place in the queues while it waits. Dropping it releases the lock or the
/// place.
#[derive(Debug)]
pub(super) struct BatchGuard {
    ticket: Ticket,
    keys: Vec<Key>,
    queues: Arc<Mutex<Queues>>,
    _store: OwnedRwLockReadGuard<()>,
}

/// The lock of the whole store.
#[derive(Debug)]
pub(super) struct StoreGuard {
    _store: OwnedRwLockWriteGuard<()>,
}

impl WriteLock {
    /// Locks the jobs and runs of a batch: waits for earlier batches on one of them.
    pub(super) async fn lock(&self, batch: &IngestionBatch) -> BatchGuard {
        self.keys(keys(batch)).await
    }

    async fn keys(&self, keys: Vec<Key>) -> BatchGuard {
        let store = Arc::clone(&self.store).read_owned().await;
        let (ticket, woken) = self.queues.lock().enter(&keys);
        let guard = BatchGuard { ticket, keys, queues: Arc::clone(&self.queues), _store: store };
        if let Some(woken) = woken {
            // The sender is dropped only with the place in the queues, which this future holds.
            let _ = woken.await;
        }
        guard
    }

    /// Locks the whole store: waits for all earlier batches, and blocks later ones.
    pub(super) async fn lock_store(&self) -> StoreGuard {
        StoreGuard { _store: Arc::clone(&self.store).write_owned().await }
    }
}

/// The distinct keys of a batch.
fn keys(batch: &IngestionBatch) -> Vec<Key> {
    let job_ids = batch.jobs().iter().map(|job| &job.job_id);
    let job_ids = job_ids.chain(batch.job_updates().iter().map(|update| &update.job_id));
    let job_ids = job_ids.chain(batch.specs().iter().chain(batch.errors()).map(|record| &record.job_id));
    let run_ids = batch.runs().iter().map(|run| &run.run_id);
    let run_ids = run_ids.chain(batch.run_updates().iter().map(|update| &update.run_id));
    let keys = job_ids.map(|id| Key::Job(id.into())).chain(run_ids.map(|id| Key::Run(id.into())));
    keys.collect::<HashSet<_>>().into_iter().collect()
}

impl Queues {
    /// Enters all queues atomically, so that two batches have the same order in every common queue. Returns a receiver
    /// if the batch must wait.
    fn enter(&mut self, keys: &[Key]) -> (Ticket, Option<oneshot::Receiver<()>>) {
        let ticket = self.next;
        self.next += 1;
        let mut behind = 0;
        for key in keys {
            let queue = self.by_key.entry(key.clone()).or_default();
            behind += usize::from(!queue.is_empty());
            queue.push_back(ticket);
        }
        if behind == 0 {
            return (ticket, None);
        }
        let (wake, woken) = oneshot::channel();
        self.waiting.insert(ticket, Waiting { behind, wake });
        (ticket, Some(woken))
    }

    fn leave(&mut self, ticket: Ticket, keys: &[Key]) {
        self.waiting.remove(&ticket);
        for key in keys {
            let Some(queue) = self.by_key.get_mut(key) else { continue };
            let was_first = queue.front() == Some(&ticket);
            queue.retain(|&other| other != ticket);
            match queue.front() {
                None => drop(self.by_key.remove(key)),
                Some(&first) if was_first => self.advance(first),
                Some(_) => {}
            }
        }
    }

    /// Records that a batch is at the head of one more of its queues.
    fn advance(&mut self, ticket: Ticket) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        waiting.behind -= 1;
        if waiting.behind == 0
            && let Some(Waiting { wake, .. }) = self.waiting.remove(&ticket)
        {
            // A batch that has stopped waiting leaves the queues when its guard is dropped.
            let _ = wake.send(());
        }
    }
}

impl Drop for BatchGuard {
    fn drop(&mut self) {
        self.queues.lock().leave(self.ticket, &self.keys);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::{FutureExt, poll};

    use super::*;

    fn jobs(ids: &[&str]) -> Vec<Key> {
        ids.iter().map(|&id| Key::Job(id.into())).collect()
    }

    #[tokio::test]
    async fn batches_on_the_same_jobs_exclude_each_other() {
        let lock = WriteLock::default();
        let first = lock.keys(jobs(&["a", "b"])).await;
        let mut second = pin!(lock.keys(jobs(&["b", "c"])));
        assert!(poll!(&mut second).is_pending());
        let mut third = pin!(lock.keys(jobs(&["c", "d"])));
        assert!(poll!(&mut third).is_pending(), "the third is behind the second, which waits");
        assert!(lock.keys(jobs(&["d"])).now_or_never().is_none(), "the fourth is behind the third");
        assert!(lock.keys(jobs(&["e"])).now_or_never().is_some());
        assert!(lock.keys(vec![Key::Run("a".into())]).now_or_never().is_some(), "a run is not a job");
        drop(first);
        let second = second.await;
        assert!(poll!(&mut third).is_pending());
        drop(second);
        third.await;
        assert!(lock.queues.lock().by_key.is_empty() && lock.queues.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn a_batch_that_stops_waiting_leaves_the_queues() {
        let lock = WriteLock::default();
        let first = lock.keys(jobs(&["a"])).await;
        let mut third = {
            let mut second = Box::pin(lock.keys(jobs(&["a", "b"])));
            assert!(poll!(&mut second).is_pending());
            let mut third = Box::pin(lock.keys(jobs(&["b"])));
            assert!(poll!(&mut third).is_pending());
            third
        };
        assert!(poll!(&mut third).is_ready(), "only the second, which was dropped, preceded it");
        drop((first, third));
        assert!(lock.queues.lock().by_key.is_empty() && lock.queues.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn a_truncation_locks_the_store() {
        let lock = WriteLock::default();
        let batch = lock.keys(jobs(&["a"])).await;
        let mut store = pin!(lock.lock_store());
        assert!(poll!(&mut store).is_pending());
        assert!(lock.keys(jobs(&["b"])).now_or_never().is_none(), "it requested the lock after the truncation");
        drop(batch);
        let store = store.await;
        assert!(lock.keys(jobs(&["b"])).now_or_never().is_none());
        drop(store);
        assert!(lock.keys(jobs(&["b"])).now_or_never().is_some());
    }
}
