//! Sessions: their settings, the proof of their schema, and their transactions.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use futures::future::try_join;
use parking_lot::Mutex;
use tokio_postgres::{Client as DriverClient, SimpleQueryMessage, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::debug;

use super::error::{Attempt, Failure};
use super::process;
use super::settings::{Settings, begin_in_schema};

/// The process that serves the session, and the encoding of the database.
const FACTS: &str = "SELECT pg_backend_pid(), current_setting('server_encoding')";
/// The schema in which a statement creates what it names without a schema.
const CURRENT_SCHEMA: &str = "SELECT current_schema()";
/// Other encodings order texts by rules of their own, or do not contain all of Unicode.
const ENCODINGS: [&str; 2] = ["UTF8", "SQL_ASCII"];

/// The session has no temporary table for batches.
const UNSTAGED: u8 = 0;
/// The open transaction created it, so a rollback removes it.
const STAGED_UNTIL_ROLLBACK: u8 = 1;
/// It exists until the session ends.
const STAGED: u8 = 2;

/// What all sessions of a handle have in common.
pub(super) struct SessionConfig {
    /// The schema of the tables; `None` until the first session has read the current schema.
    pub schema: Option<String>,
    pub settings: Settings,
    /// The greatest number of prepared statements of a session.
    pub statement_cache: usize,
}

/// A session on the server.
///
/// A session is *own* if its server process is the one that accepted the connection: its settings and prepared
/// statements last until it ends. Behind a pooler it is *shared*: each transaction makes all settings for itself and
/// nothing outlives it, so it works in every pooling mode and leaves nothing behind for the pooler's other clients.
pub(super) struct Session {
    client: DriverClient,
    config: Arc<SessionConfig>,
    own: bool,
    statements: Mutex<HashMap<String, Statement>>,
    staged: AtomicU8,
    spoilt: AtomicBool,
}

impl Deref for Session {
    type Target = DriverClient;

    fn deref(&self) -> &DriverClient {
        &self.client
    }
}

impl Session {
    /// Connects, and checks the encoding and the schema.
    pub(super) async fn open(
        server: &tokio_postgres::Config,
        tls: MakeRustlsConnect,
        config: Arc<SessionConfig>,
    ) -> Attempt<Self> {
        let (client, connection) = server.connect(tls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(target: "broadside::postgres", %error, "the connection is lost");
            }
        });
        let announced = process::announced(&client.cancel_token()).await?;
        let facts = first_row(client.simple_query(FACTS).await?);
        let process = facts.first().and_then(|process| process.as_deref()?.parse().ok());
        let own = announced.is_some() && announced == process;
        match facts.get(1).and_then(Option::as_deref) {
            Some(encoding) if ENCODINGS.contains(&encoding) => {}
            encoding => return Err(Failure::Encoding(encoding.unwrap_or_default().to_owned())),
        }
        let session = Self {
            client,
            config,
            own,
            statements: Mutex::default(),
            staged: AtomicU8::new(UNSTAGED),
            spoilt: AtomicBool::new(false),
        };
        session.set_up().await?;
        debug!(target: "broadside::postgres", process, shared = !own, "connected");
        Ok(session)
    }

    /// Makes the settings of an own session, and checks that the configured schema is the current one.
    async fn set_up(&self) -> Attempt<()> {
        if !self.own {
            return Ok(());
        }
        self.client.batch_execute(&self.config.settings.for_session()).await?;
        let Some(wanted) = &self.config.schema else { return Ok(()) };
        match first_row(self.client.simple_query(CURRENT_SCHEMA).await?).pop().flatten() {
            Some(current) if current != *wanted => {
                Err(Failure::WrongStore(format!("the session is in schema {current:?}, not in {wanted:?}")))
            }
            // The configured schema does not exist yet.
            _ => Ok(()),
        }
    }

    /// The configured schema, or else the current one, if there is one.
    pub(super) async fn schema(&self) -> Attempt<Option<String>> {
        if self.config.schema.is_some() {
            return Ok(self.config.schema.clone());
        }
        Ok(first_row(self.client.simple_query(CURRENT_SCHEMA).await?).pop().flatten())
    }

    /// Whether this handle alone uses the session.
    pub(super) fn is_own(&self) -> bool {
        self.own
    }

    /// Marks a session whose settings a statement of the user may have changed; it is closed instead of reused.
    pub(super) fn spoil(&self) {
        self.spoilt.store(true, Ordering::Relaxed);
    }

    /// Whether the session can serve another call.
    pub(super) fn is_usable(&self) -> bool {
        !self.client.is_closed() && !self.spoilt.load(Ordering::Relaxed)
    }

    /// A prepared statement, from the cache of an own session. In a shared session the statement must be dropped
    /// before the transaction ends: the next transaction may run in another process.
    pub(super) async fn prepare(&self, sql: &str) -> Attempt<Statement> {
        if !self.own {
            return Ok(self.client.prepare(sql).await?);
        }
        if let Some(known) = self.statements.lock().get(sql) {
            return Ok(known.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.lock().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Clears the cache of prepared statements if it exceeds its limit.
    pub(super) fn trim(&self) {
        let mut statements = self.statements.lock();
        if statements.len() > self.config.statement_cache {
            statements.clear();
        }
    }

    /// Creates the temporary table of a batch, unless the session has it; to be called in a transaction. `create` is
    /// the statement, given whether the table may outlive the transaction.
    pub(super) async fn stage(&self, create: impl FnOnce(bool) -> String) -> Attempt<()> {
        if self.staged.load(Ordering::Relaxed) == UNSTAGED {
            self.client.batch_execute(&create(self.own)).await?;
            self.staged.store(STAGED_UNTIL_ROLLBACK, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Runs `work` in a transaction.
    pub(super) async fn transaction<T>(&self, work: impl Future<Output = Attempt<T>>) -> Attempt<T> {
        let begin = match &self.config.schema {
            // The search path is set again, whatever has changed it since the session began.
            Some(schema) if self.own => begin_in_schema(schema),
            _ => self.config.settings.for_transaction(),
        };
        // The first statement of the work is sent without waiting for the answer to BEGIN.
        let begun = async { Ok(self.client.batch_execute(&begin).await?) };
        match try_join(begun, work).await {
            Ok(((), answer)) => {
                self.client.batch_execute("COMMIT").await.map_err(Failure::of_commit)?;
                self.unstage(self.own);
                Ok(answer)
            }
            Err(failure) => {
                // If the rollback fails, the connection is closed and the pool drops it.
                self.client.batch_execute("ROLLBACK").await.ok();
                self.unstage(false);
                Err(failure)
            }
        }
    }

    fn unstage(&self, keep: bool) {
        let after = if keep { STAGED } else { UNSTAGED };
        let _ = self.staged.compare_exchange(STAGED_UNTIL_ROLLBACK, after, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn first_row(messages: Vec<SimpleQueryMessage>) -> Vec<Option<String>> {
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()),
        _ => None,
    };
    messages.into_iter().find_map(row).unwrap_or_default()
}
