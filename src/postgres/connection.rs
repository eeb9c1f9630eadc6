//! Connections: how many at a time, what becomes of one whose call was dropped, and what is tried
//! again after which failure.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::{Instrument, debug, debug_span, info};

use super::config::{PostgresConfig, invalid};
use super::error::{Attempt, Failure, Remedy, Step};
use super::session::{Session, SessionConfig};
use super::settings::Settings;
use super::tls;
use crate::error::{Operation, Result};

/// How often a call is tried again because of a conflict or a lost connection.
const MOST_REPEATS: usize = 10;
/// How often the statement of a dropped call is cancelled before its connection is given up.
const MOST_CANCELS: usize = 60;
const FIRST_DELAY: Duration = Duration::from_millis(10);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// The connections of a handle.
pub(super) struct Connections {
    server: tokio_postgres::Config,
    sessions: Arc<SessionConfig>,
    connect_timeout: Duration,
    acquire_timeout: Duration,
    pool: Arc<Pool>,
}

/// One permit a connection, and the connections without a call.
struct Pool {
    size: usize,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Session>>,
    tls: MakeRustlsConnect,
}

/// Shows nothing of the address, which may hold a password.
impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("pool_size", &self.pool.size).finish_non_exhaustive()
    }
}

/// A session in use. It goes back to the pool only when it is released: a call that was
/// dropped half-way leaves a transaction or a statement in its session, which is then cancelled and closed.
pub(super) struct Lease {
    /// Both are there until its end.
    used: Option<(Session, OwnedSemaphorePermit)>,
    pool: Arc<Pool>,
}

/// What work is done on.
pub(super) type Client = Arc<Lease>;

impl Lease {
    fn release(mut self) {
        if let Some((session, _permit)) = self.used.take()
            && session.is_usable()
            && !self.pool.permits.is_closed()
        {
            session.trim();
            self.pool.idle.lock().push(session);
        }
    }
}

impl Deref for Lease {
    type Target = Session;

    fn deref(&self) -> &Session {
        let (session, _) = self.used.as_ref().expect("only its end takes the session from a lease");
        session
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Without a runtime nothing can be sent, and the connection ends with its task.
        if let Some((session, permit)) = self.used.take()
            && let Ok(runtime) = Handle::try_current()
        {
            let tls = self.pool.tls.clone();
            runtime.spawn(async move {
                end(&session, tls).await;
                drop(session);
                drop(permit);
            });
        }
    }
}

/// Ends what a dropped call has left on the server. The server has come to an end of it when it answers the statement
/// that follows.
async fn end(session: &Session, tls: MakeRustlsConnect) {
    let mut rolled_back = std::pin::pin!(session.batch_execute("ROLLBACK"));
    for delay in delays().with_max_times(MOST_CANCELS).build() {
        if timeout(delay, &mut rolled_back).await.is_ok() {
            return;
        }
        debug!(target: "broadside::postgres", "cancels the statement of a dropped call");
        // One that does not get through is followed by another.
        let _ = timeout(LONGEST_DELAY, session.cancel_token().cancel_query(tls.clone())).await;
    }
}

impl Connections {
    /// Makes the first connection, and finds out the schema where the configuration names none.
    pub(super) async fn open(config: &PostgresConfig) -> Result<Self> {
        let settings = Settings::new(config)?;
        let sessions = SessionConfig {
            schema: config.schema.clone(),
            settings: settings.clone(),
            statement_cache: config.statement_cache,
        };
        let pool = Pool {
            size: config.pool_size,
            permits: Arc::new(Semaphore::new(config.pool_size)),
            idle: Mutex::default(),
            tls: tls::connector(config)?,
        };
        let mut connections = Self {
            server: config.driver_config(),
            sessions: Arc::new(sessions),
            connect_timeout: config.connect_timeout,
            acquire_timeout: config.acquire_timeout,
            pool: Arc::new(pool),
        };
        let own = |client: Client| async move { client.own_schema().await };
        let found = connections.run(Operation::Connect, own).await?;
        if connections.sessions.schema.is_none() {
            let name = found.ok_or_else(|| invalid("the search path holds no schema: name one by the key schema"))?;
            connections.sessions = Arc::new(SessionConfig {
                settings: settings.in_schema(&name),
                schema: Some(name),
                statement_cache: config.statement_cache,
            });
            connections.pool.idle.lock().clear();
        }
        Ok(connections)
    }

    /// Closes the idle connections now and the others when their calls end.
    pub(super) fn close(&self) {
        self.pool.permits.close();
        self.pool.idle.lock().clear();
    }

    /// The schema that holds the tables.
    pub(super) fn schema(&self) -> &str {
        self.sessions.schema.as_deref().unwrap_or_default()
    }

    /// The most connections at a time.
    pub(super) fn max_size(&self) -> usize {
        self.pool.size
    }

    pub(super) fn is_closed(&self) -> bool {
        self.pool.permits.is_closed()
    }

    /// Does `work`, which is none the worse for being repeated, and does it again after a failure
    /// that passes.
    pub(super) async fn run<T, F>(&self, step: impl Into<Step>, work: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Attempt<T>>,
    {
        let step = step.into();
        let work = &work;
        let one = |client: Client| async move {
            // Between the statements of a shared session anything may happen to it.
            if client.is_own() { work(client).await } else { client.transaction(work(Arc::clone(&client))).await }
        };
        let attempts = async {
            let mut repeats = repeats();
            loop {
                match self.attempt(one).await {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => pause(failure, &mut repeats).await.map_err(|failure| failure.into_error(step))?,
                }
            }
        };
        attempts.instrument(debug_span!(target: "broadside::postgres", "call", operation = %step.operation())).await
    }

    /// Does `work` in a transaction, and does it again after a failure that passes, also where the
    /// transaction may have committed: all that is ever written is the same when written twice.
    pub(super) async fn transact<F>(&self, step: impl Into<Step>, work: impl Fn(Client) -> F) -> Result<()>
    where
        F: Future<Output = Attempt<()>>,
    {
        let step = step.into();
        let work = &work;
        let one = |client: Client| async move { client.transaction(work(Arc::clone(&client))).await };
        let attempts = async {
            let mut repeats = repeats();
            let mut in_doubt = false;
            loop {
                let Err(failure) = self.attempt(one).await else {
                    return Ok(());
                };
                in_doubt |= matches!(failure, Failure::InDoubt(_));
                pause(failure, &mut repeats).await.map_err(|failure| {
                    let error = failure.into_error(step);
                    if in_doubt { error.with_unknown_outcome() } else { error }
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
        let answer = work(Arc::clone(&client)).await;
        if let Some(lease) = Arc::into_inner(client) {
            lease.release();
        }
        answer
    }

    /// A session: waits for a free connection, and tries to reach the server until the connect
    /// timeout is over.
    async fn acquire(&self) -> Attempt<Lease> {
        let permit = timeout(self.acquire_timeout, Arc::clone(&self.pool.permits).acquire_owned())
            .await
            .map_err(|_| Failure::NoFreeConnection)?
            .map_err(|_| Failure::Closed)?;
        let session = self.session().await?;
        Ok(Lease { used: Some((session, permit)), pool: Arc::clone(&self.pool) })
    }

    fn idle(&self) -> Option<Session> {
        let mut idle = self.pool.idle.lock();
        std::iter::from_fn(|| idle.pop()).find(Session::is_usable)
    }

    /// One that is idle, or else a new one. Where the server is full, another call's may become idle meanwhile.
    async fn session(&self) -> Attempt<Session> {
        // A limit beyond what the clock can count is none.
        let deadline = Instant::now().checked_add(self.connect_timeout);
        let mut delays = delays().without_max_times().build();
        loop {
            if let Some(session) = self.idle() {
                return Ok(session);
            }
            let opening = Session::open(&self.server, self.pool.tls.clone(), Arc::clone(&self.sessions));
            let opened = match deadline {
                Some(deadline) => timeout_at(deadline, opening).await.unwrap_or(Err(Failure::ConnectTimeout)),
                None => opening.await,
            };
            let failure = match opened {
                Ok(session) => return Ok(session),
                Err(failure) => failure,
            };
            let delay = delays.next().unwrap_or(LONGEST_DELAY);
            let in_time = deadline.is_none_or(|deadline| Instant::now() + delay < deadline);
            if failure.remedy() != Remedy::Reconnect || !in_time || self.is_closed() {
                return Err(failure.while_connecting());
            }
            info!(target: "broadside::postgres", %failure, ?delay, "tries to connect again");
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
            info!(target: "broadside::postgres", %failure, ?delay, "tries again");
            sleep(delay).await;
            Ok(())
        }
        _ => Err(failure),
    }
}
