//! Sessions: what is set and proven before the first statement of each, and how transactions begin in it.

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
use super::settings::{Settings, begin_in_schema};
use super::{process, staging};

/// Which process serves the session, and how it stores texts.
const FACTS: &str = "SELECT pg_backend_pid(), current_setting('server_encoding')";
/// The schema that holds what is made without naming one.
const CURRENT_SCHEMA: &str = "SELECT current_schema()";
/// Others order texts by rules of their own, or cannot hold all of Unicode.
const ENCODINGS: [&str; 2] = ["UTF8", "SQL_ASCII"];

/// Whether the session has the temporary table of a batch.
const UNSTAGED: u8 = 0;
/// It was made in the transaction under way.
const STAGED_UNTIL_ROLLBACK: u8 = 1;
const STAGED: u8 = 2;

/// What all sessions of a handle have in common.
pub(super) struct SessionConfig {
    /// The schema that holds the tables; none until the first session has told which is the user's own.
    pub schema: Option<String>,
    pub settings: Settings,
    /// Most prepared statements that a session keeps.
    pub statement_cache: usize,
}

/// A session on the server.
///
/// One whose server process is proven to be that of its connection is its own: what is set stays set and what is
/// prepared stays prepared. Behind a pooler it is shared: whatever a transaction needs is set by it and for it, and
/// nothing outlives it, so that it works in every mode of a pooler and leaves no trace with the pooler's other clients.
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
    /// Connects, and proves what every later statement relies on.
    pub(super) async fn open(
        server: &tokio_postgres::Config,
        tls: MakeRustlsConnect,
        config: Arc<SessionConfig>,
    ) -> Attempt<Self> {
        let (client, connection) = server.connect(tls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(target: "broadside::postgres", %error, "connection lost");
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

    /// Makes the settings of a session of its own, and proves that it is in the schema, if there is one.
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
            // One that is not there yet holds nothing that could be taken for ours.
            _ => Ok(()),
        }
    }

    /// The schema that the configuration names, or else the user's own, if there is one.
    pub(super) async fn own_schema(&self) -> Attempt<Option<String>> {
        if self.config.schema.is_some() {
            return Ok(self.config.schema.clone());
        }
        // The settings of the caller, which may say which, are made for the session or the transaction.
        Ok(first_row(self.client.simple_query(CURRENT_SCHEMA).await?).pop().flatten())
    }

    /// Whether the session is used by this handle alone.
    pub(super) fn is_own(&self) -> bool {
        self.own
    }

    /// Marks a session whose settings may no longer be what they were: it is closed instead of used again.
    pub(super) fn spoil(&self) {
        self.spoilt.store(true, Ordering::Relaxed);
    }

    /// Whether the session can serve another call.
    pub(super) fn is_usable(&self) -> bool {
        !self.client.is_closed() && !self.spoilt.load(Ordering::Relaxed)
    }

    /// Prepares a statement, or has it prepared already. In a shared session it is gone from the server when it is
    /// dropped, which must be before the transaction ends: then another process may get the next.
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

    /// Forgets prepared statements when there are too many.
    pub(super) fn trim(&self) {
        let mut statements = self.statements.lock();
        if statements.len() > self.config.statement_cache {
            statements.clear();
        }
    }

    /// Makes the temporary table of a batch, where there is none; to be called in a transaction.
    pub(super) async fn stage(&self, collation: &str) -> Attempt<()> {
        if self.staged.load(Ordering::Relaxed) == UNSTAGED {
            self.client.batch_execute(&staging::table(collation, self.own)).await?;
            self.staged.store(STAGED_UNTIL_ROLLBACK, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Begins, works and commits.
    pub(super) async fn transaction<T>(&self, work: impl Future<Output = Attempt<T>>) -> Attempt<T> {
        let begin = match &self.config.schema {
            // Once more, for it to be certain whatever may have been set since.
            Some(schema) if self.own => begin_in_schema(schema),
            _ => self.config.settings.for_transaction(),
        };
        // The first of the work follows on the heels of BEGIN, without waiting for its answer.
        let begun = async { Ok(self.client.batch_execute(&begin).await?) };
        match try_join(begun, work).await {
            Ok(((), answer)) => {
                self.client.batch_execute("COMMIT").await.map_err(Failure::of_commit)?;
                self.unstage(self.own);
                Ok(answer)
            }
            Err(failure) => {
                // A connection that cannot roll back is closed, and the pool will see that.
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
