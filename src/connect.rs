//! The configuration of a backend, with its handles and scratch stores.

// Without a backend, no configuration exists.
#![cfg_attr(
    not(any(feature = "memory", feature = "postgres", feature = "clickhouse")),
    allow(unreachable_code, unused_variables)
)]

#[cfg(feature = "postgres")]
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(feature = "clickhouse")]
use crate::clickhouse::{self, ClickHouseConfig};
use crate::database::Database;
#[cfg(feature = "memory")]
use crate::error::ErrorKind;
use crate::error::{BackendKind, Error, Operation, Outcome, Result};
#[cfg(feature = "memory")]
use crate::memory::MemoryDatabase;
#[cfg(feature = "postgres")]
use crate::postgres::{self, PostgresConfig};
use crate::time::{SharedClock, SystemClock, Timestamp};
use crate::traced::Traced;

/// The environment variable with the address of the PostgreSQL server for `postgres`.
pub const POSTGRES_URL_VARIABLE: &str = "BROADSIDE_POSTGRES_URL";
/// The environment variable with the address of the ClickHouse server for `clickhouse`.
pub const CLICKHOUSE_URL_VARIABLE: &str = "BROADSIDE_CLICKHOUSE_URL";

/// The prefixes of URLs, by backend.
const URL_PREFIXES: &[&[&str]] = &[
    #[cfg(feature = "postgres")]
    &postgres::URL_PREFIXES,
    #[cfg(feature = "clickhouse")]
    &clickhouse::URL_PREFIXES,
];

/// Opens the store at an address, with the system's clock. [`DatabaseConfig`] documents the addresses, and
/// [`DatabaseConfig::connect`] opens a store with another clock. The schema of the store need not exist.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> broadside::Result<()> {
/// let database = broadside::connect("memory").await?;
/// database.initialise_schema().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// `InvalidArgument` if the text is not an address of a backend of this build, and those of
/// [`DatabaseConfig::connect`].
pub async fn connect(address: &str) -> Result<Arc<dyn Database>> {
    address.parse::<DatabaseConfig>()?.connect(Arc::new(SystemClock)).await
}

/// The configuration of a backend.
///
/// The accepted strings are
///
/// - `memory`
/// - `postgres://user:password@host:port/dbname?sslmode=…`, or libpq's `host=… user=… sslmode=…`
/// - `clickhouse+http://user:password@host:port/database?…`, or `clickhouse+https://…`
/// - `postgres` or `clickhouse` alone: the URL in [`POSTGRES_URL_VARIABLE`] or [`CLICKHOUSE_URL_VARIABLE`]
///
/// `Debug`, `Display` and the errors of parsing show no text of an address, since any part of a mistyped address may be
/// a password.
///
/// ```
/// use broadside::DatabaseConfig;
///
/// let parsed: DatabaseConfig = "memory".parse()?;
/// assert_eq!((parsed.backend().name(), parsed.to_string().as_str()), ("memory", "memory"));
/// # Ok::<(), broadside::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "a process has few configurations")]
pub enum DatabaseConfig {
    /// The embedded engine.
    #[cfg(feature = "memory")]
    Memory,
    /// A PostgreSQL server.
    #[cfg(feature = "postgres")]
    Postgres(PostgresConfig),
    /// A ClickHouse server.
    #[cfg(feature = "clickhouse")]
    ClickHouse(ClickHouseConfig),
}

#[cfg(feature = "postgres")]
impl From<PostgresConfig> for DatabaseConfig {
    fn from(config: PostgresConfig) -> Self {
        Self::Postgres(config)
    }
}

#[cfg(feature = "clickhouse")]
impl From<ClickHouseConfig> for DatabaseConfig {
    fn from(config: ClickHouseConfig) -> Self {
        Self::ClickHouse(config)
    }
}

/// The backend and its options, without any text of an address.
impl fmt::Display for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            #[cfg(feature = "memory")]
            Self::Memory => f.write_str("memory"),
            #[cfg(feature = "postgres")]
            Self::Postgres(ref config) => config.fmt(f),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(ref config) => config.fmt(f),
        }
    }
}

impl FromStr for DatabaseConfig {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            #[cfg(feature = "memory")]
            "memory" => Ok(Self::Memory),
            "postgres" => from_variable(POSTGRES_URL_VARIABLE, BackendKind::Postgres),
            "clickhouse" => from_variable(CLICKHOUSE_URL_VARIABLE, BackendKind::ClickHouse),
            _ => Self::from_address(text),
        }
    }
}

fn from_variable(variable: &'static str, backend: BackendKind) -> Result<DatabaseConfig> {
    let invalid = |problem: &str| invalid(format!("{variable} {problem}")).with_backend(backend);
    // The error of a variable that is not UTF-8 shows its value.
    let value =
        std::env::var_os(variable).ok_or_else(|| invalid("is not set: it must contain the address of the server"))?;
    let address = value.to_str().ok_or_else(|| invalid("is not UTF-8"))?;
    match DatabaseConfig::from_address(address) {
        Ok(config) if config.backend() == backend => Ok(config),
        Ok(config) => Err(invalid(&format!("contains the address of {}", config.backend()))),
        Err(error) => Err(invalid(&format!("is not an address: {}", error.message()))),
    }
}

impl DatabaseConfig {
    /// Creates the configuration of a PostgreSQL server from libpq's keys: host, port, user, password, dbname, sslmode
    /// and so on.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, naming the key that is unknown or has an invalid value.
    #[cfg(feature = "postgres")]
    pub fn from_pairs(pairs: &BTreeMap<String, String>) -> Result<Self> {
        PostgresConfig::from_pairs(pairs).map(Self::Postgres)
    }

    fn from_address(text: &str) -> Result<Self> {
        #[cfg(feature = "postgres")]
        if postgres::URL_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            return PostgresConfig::from_url(text).map(Self::Postgres);
        }
        #[cfg(feature = "clickhouse")]
        if clickhouse::URL_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            return ClickHouseConfig::from_url(text).map(Self::ClickHouse);
        }
        #[cfg(feature = "postgres")]
        if begins_with_key(text) {
            return PostgresConfig::from_key_values(text).map(Self::Postgres);
        }
        Err(unknown_backend(text))
    }

    /// The backend.
    pub fn backend(&self) -> BackendKind {
        match *self {
            #[cfg(feature = "memory")]
            Self::Memory => BackendKind::Memory,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => BackendKind::Postgres,
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(_) => BackendKind::ClickHouse,
        }
    }

    /// Opens a handle. The store must be reachable; its schema need not exist.
    ///
    /// # Errors
    ///
    /// - `Unavailable` if the server cannot be reached within the connect timeout, and `Timeout` if it does not respond.
    /// - `WrongStore` if the store has another layout or version of the schema, or other tables with the names of the
    ///   backend's.
    /// - `Backend` if the server rejects the user, the database or TLS, or if the encoding of a PostgreSQL database is
    ///   neither UTF8 nor SQL_ASCII.
    /// - `InvalidArgument` if keys of the address contradict each other, or a file that it names cannot be read.
    pub async fn connect(&self, clock: SharedClock) -> Result<Arc<dyn Database>> {
        let database: Arc<dyn Database> = match *self {
            #[cfg(feature = "memory")]
            Self::Memory => Arc::new(MemoryDatabase::new().with_clock(clock)),
            #[cfg(feature = "postgres")]
            Self::Postgres(ref config) => Arc::new(config.connect(clock).await?),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(ref config) => Arc::new(config.connect(clock).await?),
        };
        Ok(Arc::new(Traced(database)))
    }

    /// Creates a scratch store on the same server and opens a handle to it. The store has no tables.
    ///
    /// A scratch store is a schema on PostgreSQL and a database on ClickHouse, with a unique name. Nothing else on the
    /// server is changed.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect). A store that may be left on the server is named in the message.
    pub async fn create_scratch(&self, clock: SharedClock) -> Result<ScratchStore> {
        self.create_scratch_named(&Self::scratch_name(), clock).await
    }

    /// Creates a scratch store as [`create_scratch`](Self::create_scratch) does, with a given name, so that the caller
    /// can remove or report the store after it stops waiting for this call.
    ///
    /// # Errors
    ///
    /// As [`create_scratch`](Self::create_scratch), and `Backend` if there is a store of this name.
    pub async fn create_scratch_named(&self, name: &str, clock: SharedClock) -> Result<ScratchStore> {
        let created: Result<Self> = match *self {
            #[cfg(feature = "memory")]
            Self::Memory => Ok(Self::Memory),
            #[cfg(feature = "postgres")]
            Self::Postgres(ref config) => config.create_scratch(name).await.map(Self::Postgres),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(ref config) => config.create_scratch(name).await.map(Self::ClickHouse),
        };
        let config = match created {
            Ok(config) => config,
            // The server may still execute the statement after the removal.
            Err(error) if error.outcome() == Outcome::Unknown => {
                let _ = self.remove_scratch(name).await;
                return Err(left_behind(error, name));
            }
            Err(error) => return Err(error),
        };
        match config.connect(clock).await {
            Ok(database) => {
                tracing::debug!(name, backend = %config.backend(), "created a scratch store");
                Ok(ScratchStore { config, name: name.to_owned(), database })
            }
            Err(error) => match config.drop_scratch(name).await {
                Ok(()) => Err(error),
                Err(_) => Err(left_behind(error, name)),
            },
        }
    }

    /// A unique name of a scratch store, which begins with `broadside_`.
    pub fn scratch_name() -> String {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos());
        let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
        format!("broadside_{nanos:x}_{}_{counter}", std::process::id())
    }

    /// Drops the scratch store of this configuration.
    #[cfg_attr(not(feature = "postgres"), allow(unused_variables, reason = "a schema is dropped by its name"))]
    async fn drop_scratch(&self, name: &str) -> Result<()> {
        match *self {
            #[cfg(feature = "memory")]
            Self::Memory => Ok(()),
            #[cfg(feature = "postgres")]
            Self::Postgres(ref config) => config.remove_scratch(name).await,
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(ref config) => config.drop_scratch().await,
        }
    }

    /// The scratch stores on the server, oldest first. They are identified by their markers.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn scratch_stores(&self) -> Result<Vec<ScratchInfo>> {
        match *self {
            #[cfg(feature = "memory")]
            Self::Memory => Ok(Vec::new()),
            #[cfg(feature = "postgres")]
            Self::Postgres(ref config) => config.scratch_stores().await,
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(ref config) => config.scratch_stores().await,
        }
    }

    /// Removes a scratch store of an earlier run. Stores without the marker of a scratch store are not removed.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect); `WrongStore` if `name` is not a scratch store.
    pub async fn remove_scratch(&self, name: &str) -> Result<()> {
        match *self {
            #[cfg(feature = "memory")]
            Self::Memory => Err(Error::new(
                ErrorKind::WrongStore,
                Operation::Connect,
                format!("{name:?} is not a scratch store: those of the memory engine end with their process"),
            )
            .with_backend(BackendKind::Memory)),
            #[cfg(feature = "postgres")]
            Self::Postgres(ref config) => config.remove_scratch(name).await,
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(ref config) => config.remove_scratch(name).await,
        }
    }
}

/// A scratch store on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScratchInfo {
    /// The name of the schema on PostgreSQL, or of the database on ClickHouse.
    pub name: String,
    /// The time of its creation.
    pub created: Timestamp,
}

/// A temporary store.
#[derive(Debug)]
#[must_use = "a scratch store stays on its server until it is removed"]
pub struct ScratchStore {
    config: DatabaseConfig,
    name: String,
    database: Arc<dyn Database>,
}

impl ScratchStore {
    /// A handle to the store.
    pub fn database(&self) -> &Arc<dyn Database> {
        &self.database
    }

    /// The configuration of the store, for further handles.
    pub fn config(&self) -> &DatabaseConfig {
        &self.config
    }

    /// The name of the schema or database; `None` on the memory engine.
    pub fn name(&self) -> Option<&str> {
        (self.config.backend() != BackendKind::Memory).then_some(&*self.name)
    }

    /// Closes the handle and removes the store with its data.
    ///
    /// # Errors
    ///
    /// Those of the server, such as `Unavailable`. The store may then remain on the server; the message names it.
    pub async fn remove(self) -> Result<()> {
        self.database.close().await?;
        self.config.drop_scratch(&self.name).await.map_err(|error| left_behind(error, &self.name))?;
        tracing::debug!(name = self.name, backend = %self.config.backend(), "removed a scratch store");
        Ok(())
    }
}

/// Adds the name of a store that may remain on the server to an error.
fn left_behind(error: Error, name: &str) -> Error {
    error.with_note(&format!("the scratch store {name} may be left behind, which `broadside clean` removes"))
}

/// Returns true if a string begins like libpq's `key=value` format: with a word before its first `=`.
#[cfg(feature = "postgres")]
fn begins_with_key(text: &str) -> bool {
    let key = text.split_once('=').map(|(key, _)| key.split_whitespace().next().unwrap_or_default());
    key.is_some_and(|key| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::invalid(Operation::Connect, message)
}

/// The error for a string that is not an address. It shows no part of the string.
fn unknown_backend(text: &str) -> Error {
    let prefixes = URL_PREFIXES.iter().copied().flatten().copied();
    if let Some(prefix) = prefixes.clone().find(|prefix| text.starts_with(prefix.trim_end_matches('/'))) {
        return invalid(format!("a URL of this scheme begins with {prefix}"));
    }
    let words: Vec<_> = ["memory", "postgres", "clickhouse"].into_iter().chain(prefixes).collect();
    invalid(format!("the address names no backend of this build: it must be or begin with one of {}", words.join(", ")))
}
