//! The connection: an HTTP client, and requests with timeouts and retries.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use backon::Retryable;
use bytes::Bytes;
use clickhouse::{Client, Row, RowOwned, RowRead, RowWrite};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time;
use tracing::{debug, trace, warn};

use super::config::{ClickHouseConfig, Compression};
use super::error::Failure;
use super::retry;
use super::row::SettingRow;
use super::settings::{self, ToSend};
use super::statement::{Statement, Value};
use super::tls;
use crate::error::{ErrorKind, Operation, Result};

/// The lifetime of idle connections; shorter than the server's 10 seconds (`keep_alive_timeout`), so that no request is
/// sent on a connection that the server has closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// The target of the tracing events.
pub(super) const TARGET: &str = "broadside::clickhouse";

/// The maximum number of bytes of the rows of an insert, beyond which a server needs several times as much memory.
pub(super) const INSERT_BYTES: usize = 128 << 20;

/// The settings with which every insert is one block, and therefore one part: readers see all of it or nothing.
const WHOLE_INSERT: [(&str, &str); 3] = [
    ("max_insert_block_size", "1000000000"),
    ("min_insert_block_size_rows", "1000000000"),
    ("min_insert_block_size_bytes", "100000000000"),
];

/// The settings of results as Arrow streams.
const AS_ARROW: [(&str, &str); 3] = [
    ("output_format_arrow_string_as_string", "0"),
    ("output_format_arrow_low_cardinality_as_dictionary", "0"),
    ("output_format_arrow_compression_method", "none"),
];

/// The settings with which a table, including one behind a materialized view, deduplicates inserts by their token.
fn deduplicated(token: &str) -> [(&'static str, &str); 3] {
    [
        ("insert_deduplicate", "1"),
        ("insert_deduplication_token", token),
        ("deduplicate_blocks_in_dependent_materialized_views", "1"),
    ]
}

/// Whether a failed request may have changed anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Reads,
    Writes,
}

/// A server and a database on it. Clones share the connections.
#[derive(Clone)]
pub(super) struct Connection {
    client: Client,
    /// The client without the database, which may not exist.
    server: Client,
    timeout: Duration,
}

/// The client's own `Debug` prints the address, which may contain a password.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Connection {
    /// Opens a connection that sends the settings that results depend on. The server must respond and accept the user.
    ///
    /// # Errors
    ///
    /// `Unavailable` or `Timeout` if the server cannot be reached or does not respond, `Backend` if it rejects the user
    /// or the password, or if the user's profile would make results wrong and the user may not change it.
    pub(super) async fn open(config: &ClickHouseConfig) -> Result<Self> {
        let bare = Self::of(client(config)?, config);
        let settings = settings::to_send(bare.profile().await?)?;
        Ok(Self::of(with_settings(bare.server, config, &settings), config))
    }

    fn of(server: Client, config: &ClickHouseConfig) -> Self {
        Self { client: server.clone().with_database(&config.database), server, timeout: config.timeout }
    }

    /// The settings of the user's profile, read with as few of them in effect as possible.
    async fn profile(&self) -> Result<Vec<SettingRow>> {
        let statement = settings::profile();
        let complete = self.with(settings::for_profile());
        match complete.without_database().fetch(Operation::Connect, &statement).await {
            // The user may not change settings, or the second request has the same error.
            Err(error) if error.kind() == ErrorKind::Backend => {
                self.without_database().fetch(Operation::Connect, &statement).await
            }
            rows => rows,
        }
    }

    /// The same connection with further settings.
    fn with(&self, settings: &[(&str, &str)]) -> Self {
        let with = |client: &Client| {
            settings.iter().fold(client.clone(), |client, &(name, value)| client.with_setting(name, value))
        };
        Self { client: with(&self.client), server: with(&self.server), timeout: self.timeout }
    }

    /// The connection for statements that need no database.
    pub(super) fn without_database(&self) -> Self {
        Self { client: self.server.clone(), ..self.clone() }
    }

    /// Executes an idempotent statement.
    pub(super) async fn execute(&self, operation: Operation, statement: &Statement) -> Result<()> {
        self.repeated(operation, Effect::Writes, || query(&self.client, statement).execute()).await
    }

    /// Executes an idempotent `INSERT … SELECT` as one part, deduplicated by the token if there is one.
    pub(super) async fn execute_insert(
        &self,
        operation: Operation,
        statement: &Statement,
        token: Option<&str>,
    ) -> Result<()> {
        let request = || {
            let query = query(&self.client, statement);
            let query = WHOLE_INSERT.iter().fold(query, |query, &(name, value)| query.with_setting(name, value));
            token
                .into_iter()
                .flat_map(deduplicated)
                .fold(query, |query, (name, value)| query.with_setting(name, value))
                .execute()
        };
        self.repeated(operation, Effect::Writes, request).await
    }

    /// The rows of a query.
    pub(super) async fn fetch<T: RowOwned + RowRead>(
        &self,
        operation: Operation,
        statement: &Statement,
    ) -> Result<Vec<T>> {
        self.repeated(operation, Effect::Reads, || query(&self.client, statement).fetch_all()).await
    }

    /// The result of a query as an Arrow stream, with strings as bytes, which need not be UTF-8.
    pub(super) async fn fetch_arrow(&self, operation: Operation, statement: &Statement) -> Result<Bytes> {
        let request = || async {
            let query = query(&self.client, statement);
            let query = AS_ARROW.iter().fold(query, |query, &(name, value)| query.with_setting(name, value));
            query.fetch_bytes("ArrowStream")?.collect().await
        };
        self.repeated(operation, Effect::Reads, request).await
    }

    /// Inserts the rows of a body as one part. The insert must be idempotent: the rows have a version, or the table
    /// deduplicates by the token.
    pub(super) async fn insert_bytes(
        &self,
        operation: Operation,
        sql: &str,
        body: Bytes,
        token: Option<&str>,
    ) -> Result<()> {
        let request = || async {
            let settings = WHOLE_INSERT.into_iter().chain(token.into_iter().flat_map(deduplicated));
            let insert = self.client.insert_formatted_with(sql);
            let mut insert = settings.fold(insert, |insert, (name, value)| insert.with_setting(name, value));
            insert.send(body.clone()).await?;
            insert.end().await
        };
        self.repeated(operation, Effect::Writes, request).await
    }

    /// Inserts rows as one part. The insert must be idempotent: the rows have a version, or the table deduplicates by
    /// the token.
    pub(super) async fn insert<T>(
        &self,
        operation: Operation,
        table: &str,
        rows: &[T],
        token: Option<&str>,
    ) -> Result<()>
    where
        T: RowOwned + RowWrite + for<'a> Row<Value<'a> = T>,
    {
        self.repeated(operation, Effect::Writes, || async {
            let mut insert = self.client.insert::<T>(table).await?;
            for (name, value) in WHOLE_INSERT {
                insert = insert.with_setting(name, value);
            }
            for (name, value) in token.into_iter().flat_map(deduplicated) {
                insert = insert.with_setting(name, value);
            }
            for row in rows {
                insert.write(row).await?;
            }
            insert.end().await
        })
        .await
    }

    /// Sends a request with a timeout for each attempt, and retries it after a transient failure: up to
    /// [`retry::MAX_REPEATS`] times, or until the timeout while inserts of other processes wait for their quorum.
    async fn repeated<T, F>(&self, operation: Operation, effect: Effect, mut request: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = clickhouse::error::Result<T>>,
    {
        let started = Instant::now();
        let mut outcome_unknown = false;
        let attempt = || {
            let request = request();
            async {
                match time::timeout(self.timeout, request).await {
                    Ok(answer) => answer.map_err(Failure::from),
                    Err(_) => Err(Failure::TimedOut),
                }
            }
        };
        let mut attempts = 0;
        let answer = attempt
            .retry(retry::repeats())
            .when(|failure: &Failure| {
                attempts += 1;
                outcome_unknown |= effect == Effect::Writes && !failure.had_no_effect();
                let waits = failure.waits_for_quorum() && started.elapsed() < self.timeout;
                failure.is_transient() && (attempts <= retry::MAX_REPEATS || waits)
            })
            .notify(|failure, delay| {
                warn!(target: TARGET, %operation, failure = failure.summary(), ?delay, "repeats a failed request");
            })
            .await;
        trace!(target: TARGET, %operation, attempts = attempts + 1, elapsed = ?started.elapsed(), "request");
        answer.map_err(|failure| {
            debug!(target: TARGET, %operation, failure = failure.summary(), "a request failed");
            let error = failure.into_error(operation);
            if outcome_unknown { error.with_unknown_outcome() } else { error }
        })
    }
}

fn query(client: &Client, statement: &Statement) -> clickhouse::query::Query {
    let query = client.query_raw(&statement.sql);
    statement.values.iter().fold(query, |query, (name, value): (String, &Value)| query.param(&name, value))
}

fn client(config: &ClickHouseConfig) -> Result<Client> {
    let mut connector = HttpConnector::new();
    // Without TCP_NODELAY an insert on a kept connection waits 40 ms for the server's delayed ACK.
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(config.connect_timeout));
    connector.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls::client_config(config)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    let http = HttpClient::builder(TokioExecutor::new()).pool_idle_timeout(IDLE_TIMEOUT).build(connector);

    let mut client = Client::with_http_client(http)
        .with_url(config.server.as_str())
        .with_user(config.user.as_deref().unwrap_or("default"))
        .with_product_info("broadside", env!("CARGO_PKG_VERSION"))
        .with_compression(clickhouse::Compression::None);
    match &config.password {
        Some(password) => client = client.with_password(password),
        // The server rejects a request with both.
        None if config.cert_file.is_some() => client = client.with_header("X-ClickHouse-SSL-Certificate-Auth", "on"),
        None => {}
    }
    Ok(client)
}

/// The client with all settings that the user may change.
fn with_settings(client: Client, config: &ClickHouseConfig, to_send: &ToSend) -> Client {
    let set = |client: Client, &(name, value): &(&str, &str)| client.with_setting(name, value);
    let mut client = to_send.settings.iter().fold(client, set);
    if to_send.may_set {
        // The query ends soon after the timeout of its request.
        client = client.with_setting("max_execution_time", config.timeout.as_secs().saturating_add(1).to_string());
        if config.compression == Compression::Lz4 {
            client = client.with_compression(clickhouse::Compression::Lz4).with_setting("enable_http_compression", "1");
        }
    }
    // The server reports an error if the user may not change these.
    config.settings.iter().fold(client, |client, (name, value)| client.with_setting(name, value))
}
