//! Sessions: their settings, the check of their schema, and their transactions.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use futures::future::try_join;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{Client as DriverClient, SimpleQueryMessage, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::debug;

use super::error::{Attempt, Failure};
use super::process;
use super::settings::{Settings, begin_in_schema};

/// The server process of the session, and the encoding of the database.
const PROCESS_AND_ENCODING: &str = "SELECT pg_backend_pid(), current_setting('server_encoding')";
/// The schema in which unqualified names are created.
const CURRENT_SCHEMA: &str = "SELECT current_schema()";
/// Other encodings have other sort orders, or do not contain all of Unicode.
const ENCODINGS: [&str; 2] = ["UTF8", "SQL_ASCII"];

/// The characteristics of a transaction whose statements read the same snapshot. They override those of the settings.
const SNAPSHOT: &str = "; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// The session does not have the temporary table of batches.
const UNSTAGED: u8 = 0;
/// The open transaction created the table, so a rollback removes it.
const STAGED_UNTIL_ROLLBACK: u8 = 1;
/// The table exists until the session ends.
const STAGED: u8 = 2;

/// The configuration of all sessions of a handle.
pub(super) struct SessionConfig {
    /// The schema of the tables; `None` until the first session has read the current schema.
    pub schema: Option<String>,
    pub settings: Settings,
    /// The maximum number of prepared statements of a session.
    pub statement_cache: usize,
}

/// A session on the server.
///
/// A session is *dedicated* if its server process is the one that accepted the connection: its settings and prepared
/// statements last until it ends. Behind a pooler it is *shared*: each transaction makes all settings itself and leaves
/// nothing behind for other clients of the pooler, so it works in every pooling mode.
pub(super) struct Session {
    client: DriverClient,
    opened: Instant,
    config: Arc<SessionConfig>,
    dedicated: bool,
    statements: Mutex<HashMap<String, Statement>>,
    staged: AtomicU8,
    dirty: AtomicBool,
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
        let row = first_row(client.simple_query(PROCESS_AND_ENCODING).await?);
        let process = row.first().and_then(|process| process.as_deref()?.parse().ok());
        let dedicated = announced.is_some() && announced == process;
        match row.get(1).and_then(Option::as_deref) {
            Some(encoding) if ENCODINGS.contains(&encoding) => {}
            encoding => return Err(Failure::Encoding(encoding.unwrap_or_default().to_owned())),
        }
        let session = Self {
            client,
            opened: Instant::now(),
            config,
            dedicated,
            statements: Mutex::default(),
            staged: AtomicU8::new(UNSTAGED),
            dirty: AtomicBool::new(false),
        };
        session.set_up().await?;
        debug!(target: "broadside::postgres", process, shared = !dedicated, "connected");
        Ok(session)
    }

    /// Makes the settings of a dedicated session, and checks that the configured schema is the current one.
    async fn set_up(&self) -> Attempt<()> {
        if !self.dedicated {
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

    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// Whether only this handle uses the server process.
    pub(super) fn is_dedicated(&self) -> bool {
        self.dedicated
    }

    /// Marks a session that is closed instead of reused: a statement of the user may have changed its settings, or the
    /// server ends it or has made it read-only.
    pub(super) fn mark_dirty(&self) {
        self.dirty.store(true, Ordering::Relaxed);
    }

    /// Whether the session can execute another call.
    pub(super) fn is_usable(&self) -> bool {
        !self.client.is_closed() && !self.dirty.load(Ordering::Relaxed)
    }

    /// A prepared statement, from the cache in a dedicated session. In a shared session the statement must be dropped
    /// before the transaction ends, because the next transaction may be executed by another process.
    pub(super) async fn prepare(&self, sql: &str) -> Attempt<Statement> {
        if !self.dedicated {
            return Ok(self.client.prepare(sql).await?);
        }
        if let Some(known) = self.statements.lock().get(sql) {
            return Ok(known.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.lock().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// The values of the first column of a query.
    pub(super) async fn column<T: FromSqlOwned>(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Attempt<Vec<T>> {
        let statement = self.prepare(sql).await?;
        let rows = self.client.query(&statement, parameters).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// Clears the cache of prepared statements if it exceeds its limit.
    pub(super) fn trim(&self) {
        let mut statements = self.statements.lock();
        if statements.len() > self.config.statement_cache {
            statements.clear();
        }
    }

    /// Creates the temporary table of a batch, unless the session has it. It must be called in a transaction. `create`
    /// returns the statement; its argument is true if the table may outlive the transaction.
    pub(super) async fn stage(&self, create: impl FnOnce(bool) -> String) -> Attempt<()> {
        if self.staged.load(Ordering::Relaxed) == UNSTAGED {
            self.client.batch_execute(&create(self.dedicated)).await?;
            self.staged.store(STAGED_UNTIL_ROLLBACK, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The statements that begin a transaction with further characteristics.
    fn begin(&self, characteristics: &str) -> String {
        match &self.config.schema {
            // The search path is set again, because a statement may have changed it.
            Some(schema) if self.dedicated => begin_in_schema(schema) + characteristics,
            _ => self.config.settings.for_transaction(characteristics),
        }
    }

    /// Begins a transaction that reads one snapshot. It ends with the session.
    pub(super) async fn begin_snapshot(&self) -> Attempt<()> {
        self.mark_dirty();
        Ok(self.client.batch_execute(&self.begin(SNAPSHOT)).await?)
    }

    /// Executes `work` in a transaction.
    pub(super) async fn transaction<T>(&self, work: impl Future<Output = Attempt<T>>) -> Attempt<T> {
        let begin = self.begin("");
        // The first statement of `work` is sent without waiting for the response to BEGIN.
        let begun = async { Ok(self.client.batch_execute(&begin).await?) };
        match try_join(begun, work).await {
            Ok(((), answer)) => {
                self.client.batch_execute("COMMIT").await.map_err(Failure::of_commit)?;
                self.unstage(self.dedicated);
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
