//! Connections: the pool, what happens to a connection whose call was dropped, and what is tried
//! again after which failure.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use deadpool_postgres::{ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, Runtime, Timeouts};
use futures::future::try_join;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use super::config::{PostgresConfig, invalid};
use super::error::{Attempt, Failure, Remedy};
use super::{staging, tls};
use crate::error::{Operation, Result};

/// How often a call is tried again because of a conflict or a lost connection.
const MOST_REPEATS: usize = 10;
const FIRST_DELAY: Duration = Duration::from_millis(10);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// The connections of a handle.
pub(super) struct Connections {
    pool: Pool,
    /// One permit a connection. The pool's own queue would do, were it not that time in it could
    /// not be told from time spent on connecting, which has a limit of its own.
    permits: Arc<Semaphore>,
    connect_timeout: Duration,
    acquire_timeout: Duration,
    statement_cache: usize,
}

/// The pool's own `Debug` shows what the address says, which may hold a password.
impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("status", &self.pool.status()).finish_non_exhaustive()
    }
}

/// A connection in use. It goes back to the pool only when it is released: a call that was
/// dropped half-way leaves a transaction or a statement on its connection, which is then closed.
#[derive(Debug)]
pub(super) struct Lease {
    object: Option<Object>,
    _permit: OwnedSemaphorePermit,
}

/// What work is done on.
pub(super) type Client = Arc<Lease>;

impl Lease {
    fn release(mut self) {
        drop(self.object.take());
    }
}

impl Deref for Lease {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        self.object.as_ref().expect("only its end takes the connection from a lease")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

impl Connections {
    /// Makes the pool; the first connection is made when it is needed.
    pub(super) fn new(config: &PostgresConfig) -> Result<Self> {
        let manager = Manager::from_config(config.driver_config(), tls::connector(config)?, ManagerConfig::default());
        let pool = Pool::builder(manager)
            .max_size(config.pool_size)
            .runtime(Runtime::Tokio1)
            .post_create(Hook::async_fn(|client, _| {
                Box::pin(async { client.batch_execute(staging::TABLE).await.map_err(HookError::Backend) })
            }))
            .build()
            .map_err(|error| invalid("no pool can be made").with_source(error))?;
        Ok(Self {
            pool,
            permits: Arc::new(Semaphore::new(config.pool_size)),
            connect_timeout: config.connect_timeout,
            acquire_timeout: config.acquire_timeout,
            statement_cache: config.statement_cache,
        })
    }

    /// Closes the idle connections now and the others when their calls end.
    pub(super) fn close(&self) {
        self.permits.close();
        self.pool.close();
    }

    /// The most connections at a time.
    pub(super) fn max_size(&self) -> usize {
        self.pool.status().max_size
    }

    pub(super) fn is_closed(&self) -> bool {
        self.permits.is_closed()
    }

    /// Does `work`, which is none the worse for being repeated, and does it again after a failure
    /// that passes.
    pub(super) async fn run<T, F>(&self, operation: Operation, work: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Attempt<T>>,
    {
        let mut repeats = repeats();
        loop {
            match self.attempt(&work).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => pause(failure, &mut repeats).await.map_err(|failure| failure.into_error(operation))?,
            }
        }
    }

    /// Does `work` in a transaction, and does it again after a failure that passes, also where the
    /// transaction may have committed: all that is ever written is the same when written twice.
    pub(super) async fn transact<F>(&self, operation: Operation, work: impl Fn(Client) -> F) -> Result<()>
    where
        F: Future<Output = Attempt<()>>,
    {
        let mut repeats = repeats();
        let mut in_doubt = false;
        loop {
            let Err(failure) = self.attempt(|client| transaction(client, &work)).await else {
                return Ok(());
            };
            in_doubt |= matches!(failure, Failure::InDoubt(_));
            pause(failure, &mut repeats).await.map_err(|failure| {
                let error = failure.into_error(operation);
                if in_doubt { error.with_unknown_outcome() } else { error }
            })?;
        }
    }

    async fn attempt<T, F>(&self, work: impl Fn(Client) -> F) -> Attempt<T>
    where
        F: Future<Output = Attempt<T>>,
    {
        let client = Arc::new(self.acquire().await?);
        if client.statement_cache.size() > self.statement_cache {
            client.statement_cache.clear();
        }
        let answer = work(Arc::clone(&client)).await;
        if let Some(lease) = Arc::into_inner(client) {
            lease.release();
        }
        answer
    }

    /// A connection: waits for a free one, and tries to reach the server until the connect
    /// timeout is over.
    async fn acquire(&self) -> Attempt<Lease> {
        let permit = timeout(self.acquire_timeout, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| Failure::NoFreeConnection)?
            .map_err(|_| Failure::Closed)?;
        let deadline = Instant::now() + self.connect_timeout;
        let mut delays = delays().without_max_times().build();
        loop {
            let left = Some(deadline.saturating_duration_since(Instant::now()));
            let timeouts = Timeouts { wait: None, create: left, recycle: left };
            let failure = match self.pool.timeout_get(&timeouts).await {
                Ok(object) => return Ok(Lease { object: Some(object), _permit: permit }),
                Err(error) => Failure::from(error),
            };
            let delay = delays.next().unwrap_or(LONGEST_DELAY);
            if failure.remedy() != Remedy::Reconnect || Instant::now() + delay >= deadline {
                return Err(failure.while_connecting());
            }
            sleep(delay).await;
        }
    }
}

fn delays() -> ExponentialBuilder {
    ExponentialBuilder::default().with_min_delay(FIRST_DELAY).with_max_delay(LONGEST_DELAY).with_jitter()
}

fn repeats() -> impl Iterator<Item = Duration> {
    delays().with_max_times(MOST_REPEATS).build()
}

/// Waits until a call may be tried again; gives the failure back if it may not.
async fn pause(failure: Failure, repeats: &mut impl Iterator<Item = Duration>) -> Attempt<()> {
    match (failure.remedy(), repeats.next()) {
        (Remedy::Repeat | Remedy::Reconnect, Some(delay)) => {
            sleep(delay).await;
            Ok(())
        }
        _ => Err(failure),
    }
}

/// Begins, works and commits.
async fn transaction<F>(client: Client, work: impl Fn(Client) -> F) -> Attempt<()>
where
    F: Future<Output = Attempt<()>>,
{
    // The first of the work follows on the heels of BEGIN, without waiting for its answer.
    let begun = async { Ok(client.batch_execute("BEGIN").await?) };
    match try_join(begun, work(Arc::clone(&client))).await {
        Ok(_) => client.batch_execute("COMMIT").await.map_err(Failure::of_commit),
        Err(failure) => {
            // A connection that cannot roll back is closed, and the pool will see that.
            client.batch_execute("ROLLBACK").await.ok();
            Err(failure)
        }
    }
}
