//! The configuration.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts};

use super::layout::Layout;
use crate::error::{BackendKind, Error, ErrorKind, Operation};

pub(super) const DEFAULT_HOST: &str = "localhost";
pub(super) const DEFAULT_PORT: u16 = 5432;

/// The default of `keepalives_idle` and `tcp_user_timeout`: a server that has vanished is detected in about this time.
pub(super) const MAX_SILENCE: Duration = Duration::from_secs(60);

/// The TLS mode of a connection: libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SslMode {
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
/// | `tuning_sql` | SQL that `initialise_schema` executes last, after all checks and on the complete schema | none |
/// | `revert_sql` | SQL that `tear_down` executes last, to undo the tuning | none |
/// | `adopt` | `true`: Lookout's tables are used in their own layout, and may be changed and cleared | `false` |
///
/// A store has a marker, in the table `broadside_store`, with its creator, time of creation, layout and version.
/// Opening a handle with another layout fails with `WrongStore`. Lookout's tables without a marker can be read, and
/// changed only with `adopt`.
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
#[derive(Clone)]
pub struct PostgresConfig {
    /// The names, and the addresses if they are known; if both are given, of the same number.
    pub(super) hosts: Vec<String>,
    pub(super) host_addresses: Vec<IpAddr>,
    /// One for all hosts, or one for each.
    pub(super) ports: Vec<u16>,
    /// The driver's other keys. Boxed because it is much larger than the configurations of the other backends.
    pub(super) server: Box<tokio_postgres::Config>,
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
    pub(super) tuning_sql: Vec<String>,
    pub(super) revert_sql: Vec<String>,
    pub(super) adopt: bool,
    pub(super) options: String,
}

/// The kind of session that is accepted: libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetSessionAttrs {
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Queries {
    /// Conditions and orders that the indexes of Lookout's schema serve.
    #[default]
    Indexed,
    /// The joins, conditions and orders of Lookout's own statements.
    Lookout,
}

impl SslMode {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
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
            self.ssl_mode.name(),
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
            tuning_sql: Vec::new(),
            revert_sql: Vec::new(),
            adopt: false,
            options: String::new(),
        }
    }
}

impl PostgresConfig {
    /// The hosts with their ports.
    pub fn hosts(&self) -> impl Iterator<Item = (String, u16)> + '_ {
        self.hosts.iter().enumerate().map(|(at, host)| (host.clone(), self.port(at)))
    }

    /// The addresses of the hosts.
    pub fn host_addresses(&self) -> &[IpAddr] {
        &self.host_addresses
    }

    /// The user.
    pub fn user(&self) -> Option<&str> {
        self.server.get_user()
    }

    /// The database.
    pub fn database(&self) -> Option<&str> {
        self.server.get_dbname()
    }

    /// The application name of the sessions.
    pub fn application_name(&self) -> Option<&str> {
        self.server.get_application_name()
    }

    /// The settings of the sessions, as `-c name=value`.
    pub fn options(&self) -> &str {
        &self.options
    }

    /// The TLS mode.
    pub fn ssl_mode(&self) -> SslMode {
        self.ssl_mode
    }

    /// The file with the certificate authorities.
    pub fn ssl_root_cert(&self) -> Option<&Path> {
        self.ssl_root_cert.as_deref()
    }

    /// The file with the certificate of the client.
    pub fn ssl_cert(&self) -> Option<&Path> {
        self.ssl_cert.as_deref()
    }

    /// The file with the key of the certificate of the client.
    pub fn ssl_key(&self) -> Option<&Path> {
        self.ssl_key.as_deref()
    }

    /// The time limit of attempts to reach a server that is down or restarting; zero for no limit.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Whether TCP keepalives are enabled.
    pub fn keepalives(&self) -> bool {
        self.server.get_keepalives()
    }

    /// The idle time before the first keepalive.
    pub fn keepalives_idle(&self) -> Duration {
        self.server.get_keepalives_idle()
    }

    /// The interval between keepalives; the system's by default.
    pub fn keepalives_interval(&self) -> Option<Duration> {
        self.server.get_keepalives_interval()
    }

    /// The number of unanswered keepalives after which a connection is closed; the system's by default.
    pub fn keepalives_count(&self) -> Option<u32> {
        self.server.get_keepalives_retries()
    }

    /// The time after which a connection whose data the server has not acknowledged is closed; zero for the system's.
    pub fn tcp_user_timeout(&self) -> Duration {
        self.tcp_user_timeout
    }

    /// The kind of session that is accepted.
    pub fn target_session_attrs(&self) -> TargetSessionAttrs {
        self.target_session_attrs
    }

    /// Whether SCRAM uses channel binding.
    pub fn channel_binding(&self) -> ChannelBinding {
        self.server.get_channel_binding()
    }

    /// Whether the hosts are tried in random order.
    pub fn load_balance_hosts(&self) -> LoadBalanceHosts {
        self.server.get_load_balance_hosts()
    }

    /// The schema of the tables; `None` for the current schema of the server's search path.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The maximum number of connections.
    pub fn pool_size(&self) -> usize {
        self.pool_size
    }

    /// The time limit of waiting for a connection from the pool.
    pub fn acquire_timeout(&self) -> Duration {
        self.acquire_timeout
    }

    /// The age of a connection from which it is not used for a further call; zero for no limit.
    pub fn max_lifetime(&self) -> Duration {
        self.max_lifetime
    }

    /// The idle time from which a connection is closed by the next call; zero for no limit.
    pub fn max_idle_time(&self) -> Duration {
        self.max_idle_time
    }

    /// The server's statement timeout; zero for no limit, `None` for that of the user or the server.
    pub fn statement_timeout(&self) -> Option<Duration> {
        self.statement_timeout
    }

    /// The maximum number of prepared statements of a connection.
    pub fn statement_cache(&self) -> usize {
        self.statement_cache
    }

    /// The layout of the tables.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The form of the statements that read pages.
    pub fn queries(&self) -> Queries {
        self.queries
    }

    /// The statements that `initialise_schema` executes last.
    pub fn tuning_sql(&self) -> &[String] {
        &self.tuning_sql
    }

    /// The statements that `tear_down` executes last.
    pub fn revert_sql(&self) -> &[String] {
        &self.revert_sql
    }

    /// Whether tables that Lookout created may be changed and cleared.
    pub fn adopt(&self) -> bool {
        self.adopt
    }

    /// The port of a host.
    pub(super) fn port(&self, host: usize) -> u16 {
        self.ports.get(host).or(self.ports.first()).copied().unwrap_or(DEFAULT_PORT)
    }

    /// The driver's configuration of each host.
    pub(super) fn driver_configs(&self) -> Vec<tokio_postgres::Config> {
        let of_host = |at: usize| {
            let mut server = tokio_postgres::Config::clone(&self.server);
            if let Some(host) = self.hosts.get(at) {
                server.host(host);
            }
            if let Some(address) = self.host_addresses.get(at) {
                server.hostaddr(*address);
            }
            server.port(self.port(at)).connect_timeout(self.connect_timeout).ssl_mode(match self.ssl_mode {
                SslMode::Disable => tokio_postgres::config::SslMode::Disable,
                SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
            });
            if !self.tcp_user_timeout.is_zero() {
                server.tcp_user_timeout(self.tcp_user_timeout);
            }
            server
        };
        (0..self.hosts.len().max(self.host_addresses.len())).map(of_host).collect()
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, Operation::Connect, message).with_backend(BackendKind::Postgres)
}
