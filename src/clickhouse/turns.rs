//! Whose turn it is: what keeps the batches of one process apart.
//!
//! ClickHouse has no row locks. A batch reads the stored rows, decides, and writes their next versions; if
//! another batch on the same rows wrote in between, its update would be lost. So among all handles of the
//! process that lead to the same store, batches that name a common job or run take turns, in the order in which
//! they came. Batches that name none in common run side by side. Reads take no turn.
//!
//! A chunk of historical jobs and a truncation have the store to themselves: what they write follows from all
//! that is stored.
//!
//! Between processes nothing is kept apart; see the [module](super) for what holds there.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use smol_str::SmolStr;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, oneshot};

use crate::ingest::IngestionBatch;

/// The turns of one store.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Held by a batch for reading, by what needs the whole store for writing. It is fair, so neither starves.
    store: Arc<RwLock<()>>,
    queues: Arc<Mutex<Queues>>,
}

/// What a batch writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// A job, its spec and its error.
    Job(SmolStr),
    Run(SmolStr),
}

type Ticket = u64;

/// The batches that wait or are at work, in the order in which they came: a queue for each key.
#[derive(Debug, Default)]
struct Queues {
    next: Ticket,
    by_key: HashMap<Key, VecDeque<Ticket>>,
    waiting: HashMap<Ticket, Waiting>,
}

/// A batch that is not yet at the head of all its queues.
#[derive(Debug)]
struct Waiting {
    /// In how many queues others are before it.
    behind: usize,
    wake: oneshot::Sender<()>,
}

/// A turn of a batch, or a place in the queues while it waits. Dropping it gives both up.
#[derive(Debug)]
pub(super) struct BatchTurn {
    ticket: Ticket,
    keys: Vec<Key>,
    queues: Arc<Mutex<Queues>>,
    _store: OwnedRwLockReadGuard<()>,
}

/// The turn of what has the store to itself.
#[derive(Debug)]
pub(super) struct StoreTurn {
    _store: OwnedRwLockWriteGuard<()>,
}

impl Turns {
    /// Waits until no earlier batch names a job or run that this one names.
    pub(super) async fn batch(&self, batch: &IngestionBatch) -> BatchTurn {
        self.keys(keys(batch)).await
    }

    async fn keys(&self, keys: Vec<Key>) -> BatchTurn {
        let store = Arc::clone(&self.store).read_owned().await;
        let (ticket, woken) = self.queues.lock().enter(&keys);
        let turn = BatchTurn { ticket, keys, queues: Arc::clone(&self.queues), _store: store };
        if let Some(woken) = woken {
            // The sender is dropped only with the place in the queues, which this future holds.
            let _ = woken.await;
        }
        turn
    }

    /// Waits until no batch is at work, and keeps others from starting.
    pub(super) async fn store(&self) -> StoreTurn {
        StoreTurn { _store: Arc::clone(&self.store).write_owned().await }
    }
}

/// Every key of a batch, each once.
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
    /// Enters all queues at once, so that two batches have the same order in every queue that they share. The
    /// receiver is of a batch that has to wait.
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

    /// A batch has come to the head of one more queue.
    fn advance(&mut self, ticket: Ticket) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        waiting.behind -= 1;
        if waiting.behind == 0
            && let Some(Waiting { wake, .. }) = self.waiting.remove(&ticket)
        {
            // A batch that no longer waits leaves the queues by itself.
            let _ = wake.send(());
        }
    }
}

impl Drop for BatchTurn {
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
    async fn batches_on_the_same_jobs_take_turns() {
        let turns = Turns::default();
        let first = turns.keys(jobs(&["a", "b"])).await;
        let mut second = pin!(turns.keys(jobs(&["b", "c"])));
        assert!(poll!(&mut second).is_pending());
        let mut third = pin!(turns.keys(jobs(&["c", "d"])));
        assert!(poll!(&mut third).is_pending(), "the third is behind the second, which waits");
        assert!(turns.keys(jobs(&["d"])).now_or_never().is_none(), "the fourth is behind the third");
        assert!(turns.keys(jobs(&["e"])).now_or_never().is_some());
        assert!(turns.keys(vec![Key::Run("a".into())]).now_or_never().is_some(), "a run is no job");
        drop(first);
        let second = second.await;
        assert!(poll!(&mut third).is_pending());
        drop(second);
        third.await;
        assert!(turns.queues.lock().by_key.is_empty() && turns.queues.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn a_batch_that_waits_no_longer_is_passed_over() {
        let turns = Turns::default();
        let first = turns.keys(jobs(&["a"])).await;
        let mut third = {
            let mut second = Box::pin(turns.keys(jobs(&["a", "b"])));
            assert!(poll!(&mut second).is_pending());
            let mut third = Box::pin(turns.keys(jobs(&["b"])));
            assert!(poll!(&mut third).is_pending());
            third
        };
        assert!(poll!(&mut third).is_ready(), "only the second, which was dropped, was before it");
        drop((first, third));
        assert!(turns.queues.lock().by_key.is_empty() && turns.queues.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn a_truncation_has_the_store_to_itself() {
        let turns = Turns::default();
        let batch = turns.keys(jobs(&["a"])).await;
        let mut store = pin!(turns.store());
        assert!(poll!(&mut store).is_pending());
        assert!(turns.keys(jobs(&["b"])).now_or_never().is_none(), "it came after the truncation");
        drop(batch);
        let store = store.await;
        assert!(turns.keys(jobs(&["b"])).now_or_never().is_none());
        drop(store);
        assert!(turns.keys(jobs(&["b"])).now_or_never().is_some());
    }
}
