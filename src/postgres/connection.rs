//! The connection pool of a handle: its size and timeouts, retries, and cancellation of dropped calls.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::{Instrument, debug, debug_span, info};

use super::config::{PostgresConfig, invalid};
use super::error::{Attempt, Failure, Remedy, Step};
use super::hosts::Hosts;
use super::retry;
use super::session::{Session, SessionConfig};
use super::settings::Settings;
use super::tls;
use crate::error::{BackendKind, Error, Operation, Result};

/// The connections of a handle.
pub(super) struct Connections {
    hosts: Hosts,
    sessions: Arc<SessionConfig>,
    connect_timeout: Duration,
    acquire_timeout: Duration,
    pool: Arc<Pool>,
}

/// The idle connections with the start of their idle time, and one permit for each connection in use.
struct Pool {
    size: usize,
    max_lifetime: Duration,
    max_idle_time: Duration,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<(Session, Instant)>>,
    /// Whether the server has accepted a write of this handle.
    has_written: AtomicBool,
    /// Sessions that were opened earlier may be those of a server that another one has replaced.
    usable_since: Mutex<Instant>,
    tls: MakeRustlsConnect,
}

/// Prints no part of the address, which may contain a password.
impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("pool_size", &self.pool.size).finish_non_exhaustive()
    }
}

/// A session in use. Only `release` returns it to the pool. Dropping it means that the call was dropped and may have
/// left a statement or a transaction in the session: the statement is cancelled and the session closed.
pub(super) struct Lease {
    /// `None` only after it was released or dropped.
    used: Option<(Session, OwnedSemaphorePermit)>,
    pool: Arc<Pool>,
}

/// The session of a call.
pub(super) type Client = Arc<Lease>;

impl Lease {
    fn release(mut self) {
        if let Some((session, _permit)) = self.used.take()
            && session.is_usable()
            && !self.pool.permits.is_closed()
        {
            session.trim();
            self.pool.idle.lock().push((session, Instant::now()));
        }
    }
}

impl Pool {
    /// The session that was used last. Closes those that cannot be used or have exceeded a limit.
    fn take_idle(&self) -> Option<Session> {
        let exceeds = |since: Instant, limit: Duration| !limit.is_zero() && since.elapsed() >= limit;
        let usable_since = *self.usable_since.lock();
        let mut idle = self.idle.lock();
        idle.retain(|(session, since)| {
            session.is_usable()
                && session.opened() >= usable_since
                && !exceeds(session.opened(), self.max_lifetime)
                && !exceeds(*since, self.max_idle_time)
        });
        idle.pop().map(|(session, _)| session)
    }
}

impl Deref for Lease {
    type Target = Session;

    fn deref(&self) -> &Session {
        let (session, _) = self.used.as_ref().expect("a lease has its session until it is released or dropped");
        session
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Without a runtime no request can be sent. The connection's task has ended too, which closed the connection.
        if let Some((session, permit)) = self.used.take()
            && let Ok(runtime) = Handle::try_current()
        {
            let tls = self.pool.tls.clone();
            runtime.spawn(async move {
                roll_back(&session, tls).await;
                drop(session);
                drop(permit);
            });
        }
    }
}

/// Rolls back the transaction of a dropped call, and cancels its statement as often as needed. The server answers the
/// ROLLBACK only after it has ended the statement.
async fn roll_back(session: &Session, tls: MakeRustlsConnect) {
    let mut rolled_back = std::pin::pin!(session.batch_execute("ROLLBACK"));
    for delay in retry::cancels() {
        if timeout(delay, &mut rolled_back).await.is_ok() {
            return;
        }
        debug!(target: "broadside::postgres", "cancels the statement of a dropped call");
        // If this request is lost, the next one follows.
        let _ = timeout(retry::MAX_DELAY, session.cancel_token().cancel_query(tls.clone())).await;
    }
}

impl Connections {
    /// Opens the first connection; reads the current schema from it if the configuration names none.
    pub(super) async fn open(config: &PostgresConfig) -> Result<Self> {
        config.check().map_err(|problem| problem.into_error(BackendKind::Postgres))?;
        let settings = Settings::new(config);
        let sessions = SessionConfig {
            schema: config.schema.clone(),
            settings: settings.clone(),
            statement_cache: config.statement_cache,
        };
        let pool = Pool {
            size: config.pool_size,
            max_lifetime: config.max_lifetime,
            max_idle_time: config.max_idle_time,
            permits: Arc::new(Semaphore::new(config.pool_size)),
            idle: Mutex::default(),
            has_written: AtomicBool::new(false),
            usable_since: Mutex::new(Instant::now()),
            tls: tls::connector(config)?,
        };
        let mut connections = Self {
            hosts: Hosts::new(config),
            sessions: Arc::new(sessions),
            connect_timeout: config.connect_timeout,
            acquire_timeout: config.acquire_timeout,
            pool: Arc::new(pool),
        };
        let current = |client: Client| async move { client.schema().await };
        let found = connections.run(Operation::Connect, current).await?;
        if connections.sessions.schema.is_none() {
            let name = found.ok_or_else(|| invalid("the search path contains no schema: set the key schema"))?;
            connections.sessions = Arc::new(SessionConfig {
                settings: settings.in_schema(&name),
                schema: Some(name),
                statement_cache: config.statement_cache,
            });
            connections.pool.idle.lock().clear();
        }
        Ok(connections)
    }

    /// Closes the idle connections now, and each other connection when its call ends.
    pub(super) fn close(&self) {
        self.pool.permits.close();
        self.pool.idle.lock().clear();
    }

    /// The schema of the tables.
    pub(super) fn schema(&self) -> &str {
        self.sessions.schema.as_deref().unwrap_or_default()
    }

    /// The maximum number of connections.
    pub(super) fn max_size(&self) -> usize {
        self.pool.size
    }

    pub(super) fn is_closed(&self) -> bool {
        self.pool.permits.is_closed()
    }

    /// Executes `work`, which must be idempotent, and repeats it after a transient failure.
    pub(super) async fn run<T, F>(&self, step: impl Into<Step>, work: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Attempt<T>>,
    {
        let work = &work;
        let once = |client: Client| async move {
            // A pooler may give a shared session to another client between two statements outside a transaction.
            if client.is_dedicated() { work(client).await } else { client.transaction(work(Arc::clone(&client))).await }
        };
        self.repeated(step.into(), once, |error| error).await
    }

    /// Executes `work` in a transaction and repeats it after a transient failure, even if the transaction may have
    /// committed: every write of this backend is idempotent.
    pub(super) async fn transact<F>(&self, step: impl Into<Step>, work: impl Fn(Client) -> F) -> Result<()>
    where
        F: Future<Output = Attempt<()>>,
    {
        let work = &work;
        let once = |client: Client| async move { client.transaction(work(Arc::clone(&client))).await };
        self.repeated(step.into(), once, Error::with_unknown_outcome).await?;
        self.pool.has_written.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Executes `work` in a transaction that reads one snapshot, and repeats it after a transient failure. Returns the
    /// session, in which the transaction remains open until it is dropped.
    pub(super) async fn snapshot<T, F>(&self, step: impl Into<Step>, work: impl Fn(Client) -> F) -> Result<(Client, T)>
    where
        F: Future<Output = Attempt<T>>,
    {
        let work = &work;
        let once = |client: Client| async move {
            client.begin_snapshot().await?;
            let answer = work(Arc::clone(&client)).await?;
            Ok((client, answer))
        };
        self.repeated(step.into(), once, |error| error).await
    }

    /// Repeats attempts while their failures may pass. `in_doubt` changes the error if an attempt may have committed.
    async fn repeated<T, F>(
        &self,
        step: Step,
        once: impl Fn(Client) -> F,
        in_doubt: impl Fn(Error) -> Error,
    ) -> Result<T>
    where
        F: Future<Output = Attempt<T>>,
    {
        let attempts = async {
            let mut repeats = retry::repeats();
            let mut is_in_doubt = false;
            loop {
                let failure = match self.attempt(&once).await {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => failure,
                };
                is_in_doubt |= matches!(failure, Failure::InDoubt(_));
                retry::pause(failure, &mut repeats).await.map_err(|failure| {
                    let error = failure.into_error(step);
                    if is_in_doubt { in_doubt(error) } else { error }
                })?;
            }
        };
        attempts.instrument(debug_span!(target: "broadside::postgres", "call", operation = %step.operation())).await
    }

    async fn attempt<T, F>(&self, work: impl Fn(Client) -> F) -> Attempt<T>
    where
        F: Future<Output = Attempt<T>>,
    {
        let client = Arc::new(self.acquire().await?);
        let mut answer = work(Arc::clone(&client)).await;
        if self.pool.has_written.load(Ordering::Relaxed) {
            answer = answer.map_err(Failure::after_writes);
        }
        match &answer {
            Err(failure) if failure.ends_session() => client.mark_dirty(),
            _ => {}
        }
        if matches!(answer, Err(Failure::Demoted(_))) {
            *self.pool.usable_since.lock() = Instant::now();
        }
        if let Some(lease) = Arc::into_inner(client) {
            lease.release();
        }
        answer
    }

    /// Waits for a permit within the acquire timeout, then takes an idle session or opens one.
    async fn acquire(&self) -> Attempt<Lease> {
        let permit = timeout(self.acquire_timeout, Arc::clone(&self.pool.permits).acquire_owned())
            .await
            .map_err(|_| Failure::NoFreeConnection)?
            .map_err(|_| Failure::Closed)?;
        let session = self.session().await?;
        Ok(Lease { used: Some((session, permit)), pool: Arc::clone(&self.pool) })
    }

    /// An idle session or a new one, within the connect timeout. The idle list is read before each attempt: if the
    /// server accepts no further connection, the session of another call may have become idle.
    async fn session(&self) -> Attempt<Session> {
        // A deadline beyond the range of the clock means no deadline.
        let deadline = Instant::now().checked_add(self.connect_timeout);
        let mut delays = retry::reconnects();
        let mut previous = Failure::ConnectTimeout;
        loop {
            if let Some(session) = self.pool.take_idle() {
                return Ok(session);
            }
            let opening = self.hosts.open(&self.pool.tls, &self.sessions);
            let opened = match deadline {
                Some(deadline) => timeout_at(deadline, opening).await,
                None => Ok(opening.await),
            };
            let failure = match opened {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(failure)) => failure,
                // The failure of the previous attempt tells why the server did not accept a connection in time.
                Err(_) => return Err(previous.while_connecting()),
            };
            let delay = delays.next().unwrap_or(retry::MAX_DELAY);
            let in_time = deadline.is_none_or(|deadline| Instant::now() + delay < deadline);
            let may_pass = failure.remedy() != Remedy::None || matches!(failure, Failure::NoHost);
            if !may_pass || !in_time || self.is_closed() {
                return Err(failure.while_connecting());
            }
            info!(target: "broadside::postgres", %failure, ?delay, "reconnects");
            previous = failure;
            sleep(delay).await;
        }
    }
}
