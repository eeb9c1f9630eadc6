//! The configuration.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::compression::Compression;
use super::layout::Layout;
use super::password_file;
use crate::error::{BackendKind, Error, Operation, Result};

pub(super) const DEFAULT_HOST: &str = "localhost";
pub(super) const DEFAULT_PORT: u16 = 5432;

/// The default of `keepalives_idle` and `tcp_user_timeout`: a server that has vanished is detected in about this time.
const MAX_SILENCE: Duration = Duration::from_secs(60);

/// The TLS mode of a connection: libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SslMode {
    /// No TLS.
    Disable,
    /// TLS if the server supports it; the certificate is not verified.
    Prefer,
    /// TLS; the certificate is verified against `sslrootcert` if that is given.
    Require,
    /// TLS, with a certificate of a trusted authority for any host name.
    VerifyCa,
    /// TLS, with a certificate of a trusted authority for this host name.
    VerifyFull,
}

/// The configuration of the PostgreSQL backend.
///
/// It is parsed from a URL (`postgres://user:password@host:port/dbname?key=value&…`), from libpq's
/// `key=value` text or from pairs, by libpq's rules. It supports libpq's keys host, hostaddr and port (each may be
/// a list), user, password, passfile, dbname, application_name (`broadside` by default), options, service, sslmode,
/// sslrootcert, sslcert, sslkey, sslpassword, connect_timeout, keepalives, keepalives_idle (60 by default),
/// keepalives_interval, keepalives_count, tcp_user_timeout (in milliseconds, 60000 by default), target_session_attrs,
/// channel_binding and load_balance_hosts. Keys that an address leaves out come
/// from the service (PGSERVICEFILE, `~/.pg_service.conf` or `pg_service.conf` in PGSYSCONFDIR), then from libpq's
/// environment variables (PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD and so on), and the password from the
/// password file (PGPASSFILE or `~/.pgpass`), which is ignored if group or others have access to it. The host is
/// `localhost` by default; certificates and their keys have no default. The backend's own keys are
///
/// | key | meaning | default |
/// |---|---|---|
/// | `schema` | the schema of the tables; `initialise_schema` creates it if it is missing | the current schema |
/// | `pool_size` | the maximum number of connections | 8 |
/// | `acquire_timeout` | the time limit of waiting for a connection from the pool | 30 |
/// | `max_lifetime` | the age of a connection from which it is not used for a further call; 0 for no limit | 0 |
/// | `max_idle_time` | the idle time from which a connection is closed by the next call; 0 for no limit | 0 |
/// | `statement_timeout` | the server's statement timeout; 0 for no limit | the server's |
/// | `statement_cache` | the maximum number of prepared statements of a connection | 256 |
/// | `hot_cold_split` | `true`: terminal jobs are moved to a table of their own | `false` |
/// | `partition_by_submitted` | `true`: jobs are partitioned by day of submission | `false` |
/// | `queries` | `lookout`: pages are read with the joins and orders of Lookout's own statements | `indexed` |
/// | `compression` | `none`: specs, errors and debug messages are stored as they are (a value that is a zlib stream, as a stream of it) | `zlib` |
/// | `tuning_sql` | SQL that `initialise_schema` executes last, after all checks and on the complete schema | none |
/// | `revert_sql` | SQL that `tear_down` executes last, to undo the tuning | none |
/// | `adopt` | `true`: Lookout's tables are used in their own layout, and may be changed and cleared | `false` |
///
/// A store has a marker, in the table `broadside_store`, with its creator, time of creation, layout and version.
/// Opening a handle with another layout fails with `WrongStore`. Lookout's tables without a marker can be read from
/// migration 013 on, and changed only with `adopt` from migration 016 on. Columns that an earlier migration lacks are
/// null, and those of later ones are not read. The layouts of Lookout's `experimentalHotColdSplit` and of Armada's
/// Broadside can be read but not changed.
///
/// Specs, errors and debug messages are stored as Lookout stores them: as zlib streams, with compressed blocks from
/// 1,025 bytes on. Both streams and plain bytes are read; a value of more than 64 MiB is an error. A job without a
/// namespace has an empty one, because Lookout cannot group jobs by a null; an empty namespace, priority class, node or
/// pool is null for reads.
///
/// A session checks its schema before its first statement. Behind a pooler such as PgBouncer, every call is a
/// transaction that makes all settings itself, so the pooler may pool sessions or transactions. `options` are not sent
/// to the server, because poolers drop or reject them; they may contain only settings (`-c name=value`), which are made
/// after connecting.
///
/// At most one of the two layouts can be chosen. A schema keeps its layout, except that `initialise_schema` with
/// `hot_cold_split` splits a schema that has neither; this cannot be undone. The SQL of `tuning_sql` and `revert_sql`
/// must be idempotent.
///
/// # Queries
///
/// Lookout's own statements do not suit some of its indexes. It orders pages by `last_transition_time_seconds`, which
/// only an index that begins with the queue contains, and by `jobset`, which has only an index for patterns; both sort
/// all jobs. For active job sets it joins jobs with `SELECT DISTINCT queue, jobset FROM job WHERE state IN (…)`, which
/// leaves the planner fewer choices than `EXISTS`. It tests parts of annotations without the condition that the
/// annotation exists, which has an index. And it orders texts by the collation of the database.
///
/// By default the backend orders by `last_transition_time` (seconds are ties) and by `jobset USING ~<~` unless a queue
/// is selected, tests active job sets with `EXISTS`, adds the condition on annotations, and orders texts by bytes in
/// each database. In tables that Lookout created, the indexes on job ids and queues have the collation of the database,
/// so that a page in such an order sorts all jobs, unless `tuning_sql` creates an index on `(job_id COLLATE "C")`.
///
/// With `queries=lookout` the statements have the joins, conditions and orders of Lookout's, so that a measurement is
/// that of Lookout. Texts are then in the order of the database's collation.
///
/// Jobs with equal sort keys are ordered by id if the index of the order contains it: by job id, and by last transition
/// of all queues. For other orders the server would sort all ties, which are all historical jobs of a load test if the
/// order is that of submission. So they have any order, as in Lookout, and a job may be on two consecutive pages or on
/// none. Ties of groups are always ordered by name.
///
/// # Failover and timeouts
///
/// After a failover, the sessions of a server that has become read-only are closed. A handle that has written before
/// repeats its call on a new session for some seconds, until the address leads to a server that accepts writes. With
/// `target_session_attrs=read-write`, connecting waits for one within `connect_timeout`.
///
/// Timeouts are in seconds and may have fractions. `connect_timeout` (10 by default; 0 is no limit) is the time limit
/// of attempts to reach a server that is down or restarting, or lacks connections, locks, memory or disk space. Several
/// hosts share it equally, and are tried again until one accepts a session of the kind of `target_session_attrs`.
///
/// `Debug`, `Display` and errors contain no part of the address: in a mistyped address, any part may be the password.
///
/// ```
/// use broadside::postgres::PostgresConfig;
///
/// let config = PostgresConfig::from_url("postgres://user:secret@primary,standby:5433/lookout?pool_size=4")?;
/// assert!(!format!("{config:?}").contains("secret"));
/// let error = PostgresConfig::from_url("postgres://user:se@cret@primary/lookout").unwrap_err();
/// assert!(!format!("{error:?}").contains("cret"));
/// # Ok::<(), broadside::Error>(())
/// ```
///
/// In code, the default is a server on `localhost`, without the environment variables and the password file:
///
/// ```
/// use broadside::DatabaseConfig;
/// use broadside::postgres::PostgresConfig;
///
/// let config = PostgresConfig::default()
///     .with("host", "primary,standby")?
///     .with("user", "lookout")?
///     .with("password", "secret")?
///     .with("hot_cold_split", true)?
///     .with("pool_size", 4)?
///     .with_setting("jit", "off")?;
/// let config = DatabaseConfig::from(config);
/// # Ok::<(), broadside::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct PostgresConfig {
    /// The names, and the addresses if they are known; if both are given, of the same number. Without either, the host
    /// is `localhost`.
    pub(super) hosts: Vec<String>,
    pub(super) host_addresses: Vec<IpAddr>,
    /// One for all hosts, or one for each.
    pub(super) ports: Vec<u16>,
    /// The driver's other keys. Boxed because it is much larger than the configurations of the other backends.
    pub(super) server: Box<tokio_postgres::Config>,
    /// The file with the password of each host, unless `server` has one.
    pub(super) password_file: Option<PathBuf>,
    pub(super) ssl_mode: SslMode,
    pub(super) ssl_root_cert: Option<PathBuf>,
    pub(super) ssl_cert: Option<PathBuf>,
    pub(super) ssl_key: Option<PathBuf>,
    pub(super) ssl_password: Option<String>,
    pub(super) target_session_attrs: TargetSessionAttrs,
    pub(super) schema: Option<String>,
    pub(super) pool_size: usize,
    pub(super) connect_timeout: Duration,
    pub(super) tcp_user_timeout: Duration,
    pub(super) acquire_timeout: Duration,
    pub(super) max_lifetime: Duration,
    pub(super) max_idle_time: Duration,
    pub(super) statement_timeout: Option<Duration>,
    pub(super) statement_cache: usize,
    pub(super) layout: Layout,
    pub(super) queries: Queries,
    pub(super) compression: Compression,
    pub(super) tuning_sql: Vec<String>,
    pub(super) revert_sql: Vec<String>,
    pub(super) adopt: bool,
    /// The settings of the sessions by name. A later one overrides an earlier one.
    pub(super) settings: Vec<(String, String)>,
}

/// The kind of session that is accepted: libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TargetSessionAttrs {
    /// Any session.
    #[default]
    Any,
    /// A session whose transactions may write by default.
    ReadWrite,
    /// A session whose transactions are read-only by default.
    ReadOnly,
    /// A session on a server that is not a standby.
    Primary,
    /// A session on a standby.
    Standby,
    /// A session on a standby, or on any server if no host is a standby.
    PreferStandby,
}

/// The form of the statements that read pages of jobs and groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Queries {
    /// Conditions and orders that the indexes of Lookout's schema serve.
    #[default]
    Indexed,
    /// The joins, conditions and orders of Lookout's own statements.
    Lookout,
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("ssl_mode", &self.ssl_mode)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

/// Values that cannot be secret. In a mistyped address, any string may be part of the password.
impl fmt::Display for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "postgres (layout {}, sslmode {}, at most {} connections)",
            self.layout.name(),
            self.ssl_mode,
            self.pool_size
        )
    }
}

impl Default for PostgresConfig {
    fn default() -> Self {
        let mut server = tokio_postgres::Config::new();
        server.application_name("broadside").keepalives_idle(MAX_SILENCE);
        Self {
            hosts: Vec::new(),
            host_addresses: Vec::new(),
            ports: Vec::new(),
            server: Box::new(server),
            password_file: None,
            ssl_mode: SslMode::Prefer,
            ssl_root_cert: None,
            ssl_cert: None,
            ssl_key: None,
            ssl_password: None,
            target_session_attrs: TargetSessionAttrs::Any,
            schema: None,
            pool_size: 8,
            connect_timeout: Duration::from_secs(10),
            tcp_user_timeout: MAX_SILENCE,
            acquire_timeout: Duration::from_secs(30),
            max_lifetime: Duration::ZERO,
            max_idle_time: Duration::ZERO,
            statement_timeout: None,
            statement_cache: 256,
            layout: Layout::Lookout,
            queries: Queries::Indexed,
            compression: Compression::Zlib,
            tuning_sql: Vec::new(),
            revert_sql: Vec::new(),
            adopt: false,
            settings: Vec::new(),
        }
    }
}

impl PostgresConfig {
    /// Adds a setting of the sessions. The server refuses an unknown one when it accepts a connection.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the name is empty, or if the name or the value contains NUL.
    pub fn with_setting(mut self, name: &str, value: &str) -> Result<Self> {
        if name.is_empty() || [name, value].iter().any(|text| text.contains('\0')) {
            return Err(invalid("a setting must have a name and contain no NUL"));
        }
        self.settings.push((name.to_owned(), value.to_owned()));
        Ok(self)
    }

    /// Sets the statements that `initialise_schema` executes last. They must be idempotent.
    ///
    /// Each string is sent separately. A string with several statements is executed as a transaction, which excludes
    /// statements such as `ALTER SYSTEM`.
    pub fn with_tuning_sql<S: Into<String>>(mut self, statements: impl IntoIterator<Item = S>) -> Self {
        self.tuning_sql = statements.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the statements that `tear_down` executes last, to undo the tuning. They are sent like those of
    /// [`with_tuning_sql`](Self::with_tuning_sql).
    pub fn with_revert_sql<S: Into<String>>(mut self, statements: impl IntoIterator<Item = S>) -> Self {
        self.revert_sql = statements.into_iter().map(Into::into).collect();
        self
    }

    /// The hosts with their ports, each by its name or else its address.
    pub(super) fn hosts(&self) -> impl Iterator<Item = (String, u16)> {
        let host = |at: usize| match (self.hosts.get(at), self.host_addresses.get(at)) {
            (Some(name), _) => name.clone(),
            (None, Some(address)) => address.to_string(),
            (None, None) => DEFAULT_HOST.to_owned(),
        };
        let port = |at| self.ports.get(at).or(self.ports.first()).copied().unwrap_or(DEFAULT_PORT);
        let count = self.hosts.len().max(self.host_addresses.len()).max(1);
        (0..count).map(move |at| (host(at), port(at)))
    }

    /// The driver's configuration of each host.
    pub(super) fn driver_configs(&self) -> Vec<tokio_postgres::Config> {
        let has_password = self.server.get_password().is_some_and(|password| !password.is_empty());
        let passwords = self.password_file.as_deref().filter(|_| !has_password).and_then(password_file::read);
        let of_host = |(at, (host, port)): (usize, (String, u16))| {
            let mut server = tokio_postgres::Config::clone(&self.server);
            if let Some(password) =
                passwords.as_deref().and_then(|file| password_file::find(file, &host, port, &server))
            {
                server.password(password);
            }
            match self.host_addresses.get(at) {
                Some(address) if self.hosts.is_empty() => server.hostaddr(*address),
                Some(address) => server.host(host).hostaddr(*address),
                None => server.host(host),
            };
            server.port(port).connect_timeout(self.connect_timeout).ssl_mode(match self.ssl_mode {
                SslMode::Disable => tokio_postgres::config::SslMode::Disable,
                SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
            });
            if !self.tcp_user_timeout.is_zero() {
                server.tcp_user_timeout(self.tcp_user_timeout);
            }
            server
        };
        self.hosts().enumerate().map(of_host).collect()
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::invalid(Operation::Connect, message).with_backend(BackendKind::Postgres)
}
