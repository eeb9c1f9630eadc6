//! Where the server is and how it is used.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::layout::Layout;
use crate::error::{BackendKind, Error, ErrorKind, Operation};

/// How much TLS protects of a connection: libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS if the server offers it; the certificate is not looked at.
    Prefer,
    /// TLS; the certificate is checked only against an `sslrootcert` that is given.
    Require,
    /// TLS, with a certificate of a known authority for any host.
    VerifyCa,
    /// TLS, with a certificate of a known authority for this host.
    VerifyFull,
}

/// Configuration of the PostgreSQL backend.
///
/// It is read from a URL (`postgres://user:password@host:port/dbname?key=value&…`), from libpq's
/// `key=value` text or from pairs, by libpq's rules. Of libpq's keys it knows host, hostaddr and port (each may be
/// a list), user, password, passfile, dbname, application_name (`broadside` by default), options, sslmode,
/// sslrootcert, connect_timeout, keepalives, keepalives_idle, keepalives_interval, keepalives_count,
/// target_session_attrs, channel_binding and load_balance_hosts. What an address leaves out comes from libpq's
/// variables of the environment (PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD and so on), and the password from
/// the password file (PGPASSFILE or `~/.pgpass`), which is ignored where group or others have access to it.
/// The host is `localhost` by default. Its own keys are
///
/// | key | meaning | default |
/// |---|---|---|
/// | `schema` | the schema that holds the tables; made by `initialise_schema` if it is missing | the user's own |
/// | `pool_size` | most connections at a time | 8 |
/// | `acquire_timeout` | how long a call waits for one of them to become free | 30 |
/// | `statement_timeout` | how long the server may take over a statement; 0 for ever | 0 |
/// | `statement_cache` | most prepared statements that a connection keeps | 256 |
/// | `hot_cold_split` | `true`: jobs that have ended are moved to a table of their own | `false` |
/// | `partition_by_submitted` | `true`: the jobs of each day of submission are a partition | `false` |
/// | `tuning_sql` | statements for `initialise_schema` to end with | none |
/// | `revert_sql` | statements for `tear_down` to end with, which undo the tuning | none |
/// | `adopt` | `true`: tables of Lookout that Broadside did not make are used in the layout that they have, and may be changed and emptied | `false` |
///
/// A store carries a marker, in the table `broadside_store`, that says who made it, when, and in which layout and
/// version; a handle of another is refused with `WrongStore`. Tables of Lookout without a marker can be read, but not
/// changed, unless `adopt` says so.
///
/// A session proves the schema before its first statement. Behind a pooler, PgBouncer say, which tells its clients of
/// other processes than the server has, every call is a transaction that makes all settings for itself. So a pooler may
/// pool sessions or transactions, and may drop or refuse `options`: they are never sent, and so may only hold
/// settings (`-c name=value`), which are made once the connection stands.
///
/// Of the two layouts at most one can be chosen. A schema stays in the layout in which it was made, except that
/// `initialise_schema` with `hot_cold_split` splits one that has neither, for good.
/// The statements of `tuning_sql` and `revert_sql` may be executed more than once.
///
/// Timeouts are in seconds and may have fractions. `connect_timeout` (10 by default; 0 is no limit) is how
/// long a call tries to reach a server that is down or restarting.
///
/// `Debug`, `Display` and errors show nothing that was typed: what was meant as a password may stand in any part of a
/// mistyped address.
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
    /// Boxed, for it is many times the size of any other backend's configuration.
    pub(super) server: Box<tokio_postgres::Config>,
    pub(super) ssl_mode: SslMode,
    pub(super) ssl_root_cert: Option<PathBuf>,
    pub(super) schema: Option<String>,
    pub(super) pool_size: usize,
    pub(super) connect_timeout: Duration,
    pub(super) acquire_timeout: Duration,
    pub(super) statement_timeout: Duration,
    pub(super) statement_cache: usize,
    pub(super) layout: Layout,
    pub(super) tuning_sql: String,
    pub(super) revert_sql: String,
    pub(super) adopt: bool,
    pub(super) options: String,
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

impl Default for PostgresConfig {
    fn default() -> Self {
        let mut server = tokio_postgres::Config::new();
        server.application_name("broadside");
        Self {
            server: Box::new(server),
            ssl_mode: SslMode::Prefer,
            ssl_root_cert: None,
            schema: None,
            pool_size: 8,
            connect_timeout: Duration::from_secs(10),
            acquire_timeout: Duration::from_secs(30),
            statement_timeout: Duration::ZERO,
            statement_cache: 256,
            layout: Layout::Lookout,
            tuning_sql: String::new(),
            revert_sql: String::new(),
            adopt: false,
            options: String::new(),
        }
    }
}

impl PostgresConfig {
    /// The schema that holds the tables; none where the user's `search_path` decides.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// What the driver connects with.
    pub(super) fn driver_config(&self) -> tokio_postgres::Config {
        let mut server = tokio_postgres::Config::clone(&self.server);
        server.connect_timeout(self.connect_timeout).ssl_mode(match self.ssl_mode {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
        });
        server
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, Operation::Connect, message).with_backend(BackendKind::Postgres)
}
