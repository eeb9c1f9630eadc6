//! Inserts into replicated tables, one at a time for each table.
//!
//! A server refuses an insert (286) while another one into the table waits for its quorum. So the batches of a process
//! take turns, and one insert writes the rows of all batches that wait: a group commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::connection::INSERT_BYTES;
use super::row::{JobRow, RecordRow, StoredRun};
use crate::error::Result;

/// The inserts into each table.
#[derive(Debug, Default)]
pub(super) struct Turns {
    pub(super) specs: InsertTurns<RecordRow>,
    pub(super) errors: InsertTurns<RecordRow>,
    pub(super) runs: InsertTurns<StoredRun>,
    pub(super) jobs: InsertTurns<JobRow>,
}

/// The inserts into a table.
#[derive(Debug)]
pub(super) struct InsertTurns<T> {
    /// The lock of the insert in progress. It is fair.
    turn: tokio::sync::Mutex<()>,
    waiting: Mutex<Vec<Arc<Request<T>>>>,
}

#[derive(Debug)]
struct Request<T> {
    rows: Vec<T>,
    /// The size of the values of unlimited length.
    bytes: usize,
    /// Whether the insert of another request has written the rows.
    inserted: AtomicBool,
}

impl<T> Default for InsertTurns<T> {
    fn default() -> Self {
        Self { turn: tokio::sync::Mutex::default(), waiting: Mutex::default() }
    }
}

impl<T> InsertTurns<T> {
    /// Writes the rows, which have `bytes` of values of unlimited length, by `write` or by the insert of an earlier
    /// request.
    ///
    /// `write` receives the rows of this request, then those of waiting ones, up to [`INSERT_BYTES`]. If it fails, each
    /// of the others writes its own rows in its turn, so a request returns only its own error. Therefore `write` must
    /// be idempotent. The rows of a dropped call may still be written.
    pub(super) async fn insert<F>(&self, rows: Vec<T>, bytes: usize, write: impl FnOnce(Vec<T>) -> F) -> Result<()>
    where
        T: Clone,
        F: Future<Output = Result<()>>,
    {
        let own = Arc::new(Request { rows, bytes, inserted: AtomicBool::new(false) });
        self.waiting.lock().push(Arc::clone(&own));
        let _turn = self.turn.lock().await;
        if own.inserted.load(Ordering::Acquire) {
            return Ok(());
        }
        let requests = self.join(own);
        write(requests.iter().flat_map(|request| request.rows.iter().cloned()).collect()).await?;
        for request in requests {
            request.inserted.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Removes a request, and those that fit into its insert, from the waiting ones.
    fn join(&self, own: Arc<Request<T>>) -> Vec<Arc<Request<T>>> {
        let mut bytes = own.bytes;
        let mut waiting = self.waiting.lock();
        waiting.retain(|request| !Arc::ptr_eq(request, &own));
        let joined = waiting.extract_if(.., |request| {
            let fits = bytes + request.bytes <= INSERT_BYTES;
            bytes += if fits { request.bytes } else { 0 };
            fits
        });
        let mut requests = vec![own];
        requests.extend(joined);
        requests
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::error::{Error, Operation};

    /// A table whose inserts wait for a permit, and fail if one of their rows is 0.
    struct Table {
        turns: InsertTurns<u8>,
        permits: Semaphore,
        inserts: Mutex<Vec<Vec<u8>>>,
    }

    impl Table {
        fn new() -> Self {
            Self { turns: InsertTurns::default(), permits: Semaphore::new(0), inserts: Mutex::default() }
        }

        async fn insert(&self, row: u8, bytes: usize) -> Result<()> {
            let write = async |rows: Vec<u8>| {
                self.permits.acquire().await.unwrap().forget();
                let refused = rows.contains(&0);
                self.inserts.lock().push(rows);
                if refused { Err(Error::not_initialised(Operation::ExecuteIngestionQueryBatch)) } else { Ok(()) }
            };
            self.turns.insert(vec![row], bytes, write).await
        }
    }

    #[tokio::test]
    async fn one_insert_writes_the_rows_of_all_waiting_batches() {
        let table = Table::new();
        let (mut first, mut second) = (pin!(table.insert(1, 1)), pin!(table.insert(2, 1)));
        let (mut third, mut large) = (pin!(table.insert(3, 1)), pin!(table.insert(4, INSERT_BYTES)));
        for _ in 0..2 {
            assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
            assert!(poll!(&mut large).is_pending() && poll!(&mut third).is_pending());
        }
        table.permits.add_permits(4);
        let results = futures::join!(first, second, third, large);
        assert!(results.0.is_ok() && results.1.is_ok() && results.2.is_ok() && results.3.is_ok());
        assert_eq!(*table.inserts.lock(), [vec![1], vec![2, 3], vec![4]]);
        assert!(table.turns.waiting.lock().is_empty());
    }

    #[tokio::test]
    async fn a_batch_returns_only_its_own_error() {
        let table = Table::new();
        let (mut first, mut refused) = (pin!(table.insert(1, 1)), pin!(table.insert(0, 1)));
        let mut third = pin!(table.insert(3, 1));
        assert!(poll!(&mut first).is_pending() && poll!(&mut refused).is_pending() && poll!(&mut third).is_pending());
        table.permits.add_permits(4);
        let (first, refused, third) = futures::join!(first, refused, third);
        assert!(first.is_ok() && refused.is_err() && third.is_ok());
        assert_eq!(*table.inserts.lock(), [vec![1], vec![0, 3], vec![3]]);
    }
}
