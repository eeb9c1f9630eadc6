//! Construction of the configuration in code: a `with_*` method for each key of an address.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts};

use super::address::{MAX_CONNECTIONS, MAX_NAME_BYTES};
use super::config::{DEFAULT_HOST, PostgresConfig, Queries, SslMode, TargetSessionAttrs, invalid};
use super::layout::Layout;
use super::settings;
use crate::address::MAX_SECONDS;
use crate::error::Result;

/// The builder. It does not read environment variables or the password file.
///
/// ```
/// use std::time::Duration;
///
/// use broadside::DatabaseConfig;
/// use broadside::postgres::{Layout, PostgresConfig, SslMode};
///
/// let config = PostgresConfig::new()
///     .with_hosts([("primary", 5432), ("standby", 5433)])
///     .with_user("lookout")
///     .with_password("secret")
///     .with_database("lookout")
///     .with_ssl_mode(SslMode::VerifyFull)
///     .with_layout(Layout::HotColdSplit)
///     .with_pool_size(4)
///     .with_statement_timeout(Duration::from_secs(30));
/// assert_eq!(config.hosts().collect::<Vec<_>>(), [("primary".to_owned(), 5432), ("standby".to_owned(), 5433)]);
/// assert!(!config.to_string().contains("secret"));
/// let config = DatabaseConfig::from(config);
/// # let _ = config;
/// ```
impl PostgresConfig {
    /// Creates the configuration of a server on `localhost` with the defaults of [`PostgresConfig`].
    pub fn new() -> Self {
        Self { hosts: vec![DEFAULT_HOST.to_owned()], ..Self::default() }
    }

    /// Sets the host. A name that begins with a slash is the directory of a Unix socket.
    pub fn with_host(self, host: impl Into<String>, port: u16) -> Self {
        self.with_hosts([(host.into(), port)])
    }

    /// Sets the hosts with their ports, which are tried in order. An empty list means `localhost`.
    pub fn with_hosts<H: Into<String>>(mut self, hosts: impl IntoIterator<Item = (H, u16)>) -> Self {
        let hosts = hosts.into_iter().map(|(host, port)| (host.into(), port));
        (self.hosts, self.ports) = hosts.unzip();
        if self.hosts.is_empty() {
            self.hosts.push(DEFAULT_HOST.to_owned());
        }
        self.host_addresses.clear();
        self
    }

    /// Sets the addresses of the hosts, so that their names are not resolved.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the number of addresses is not that of the hosts.
    pub fn with_host_addresses(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Result<Self> {
        let addresses: Vec<_> = addresses.into_iter().collect();
        if addresses.len() != self.hosts.len() {
            return Err(invalid("there must be as many addresses as there are hosts"));
        }
        self.host_addresses = addresses;
        Ok(self)
    }

    /// Sets the user. The default is the user of the process.
    pub fn with_user(mut self, user: impl Into<String>) -> Self {
        self.server.user(user.into());
        self
    }

    /// Sets the password. There is no getter for it.
    pub fn with_password(mut self, password: impl AsRef<[u8]>) -> Self {
        self.server.password(password);
        self
    }

    /// Sets the database. The default is the name of the user.
    pub fn with_database(mut self, database: impl Into<String>) -> Self {
        self.server.dbname(database.into());
        self
    }

    /// Sets the application name of the sessions.
    pub fn with_application_name(mut self, name: impl Into<String>) -> Self {
        self.server.application_name(name.into());
        self
    }

    /// Sets the settings of the sessions, as `-c name=value`.
    pub fn with_options(mut self, options: impl Into<String>) -> Self {
        self.options = options.into();
        self
    }

    /// Adds a setting of the sessions to the options. The server refuses an unknown one when it accepts a connection.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the name is empty or contains `=`, or if the name or the value contains NUL.
    pub fn with_setting(mut self, name: &str, value: &str) -> Result<Self> {
        let option = settings::option(name, value)
            .ok_or_else(|| invalid("a setting must have a name without = and contain no NUL"))?;
        self.options = format!("{} {option}", self.options).trim_start().to_owned();
        Ok(self)
    }

    /// Sets the TLS mode.
    pub fn with_ssl_mode(mut self, mode: SslMode) -> Self {
        self.ssl_mode = mode;
        self
    }

    /// Sets the file with the certificate authorities.
    pub fn with_ssl_root_cert(mut self, file: impl Into<PathBuf>) -> Self {
        self.ssl_root_cert = Some(file.into());
        self
    }

    /// Sets the file with the certificate of the client, and the file with its key, which must be readable only by the
    /// user of the process, or by root and a group.
    pub fn with_ssl_cert(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        (self.ssl_cert, self.ssl_key) = (Some(cert.into()), Some(key.into()));
        self
    }

    /// Sets the password of an encrypted key in the format PKCS #8. There is no getter for it.
    pub fn with_ssl_password(mut self, password: impl Into<String>) -> Self {
        self.ssl_password = Some(password.into());
        self
    }

    /// Sets the time limit of attempts to reach a server that is down or restarting; zero for no limit.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        let longest = Duration::from_secs(MAX_SECONDS.into());
        self.connect_timeout = if timeout.is_zero() { longest } else { timeout.min(longest) };
        self
    }

    /// Enables or disables TCP keepalives.
    pub fn with_keepalives(mut self, enabled: bool) -> Self {
        self.server.keepalives(enabled);
        self
    }

    /// Sets the idle time before the first keepalive.
    pub fn with_keepalives_idle(mut self, time: Duration) -> Self {
        self.server.keepalives_idle(time);
        self
    }

    /// Sets the interval between keepalives.
    pub fn with_keepalives_interval(mut self, time: Duration) -> Self {
        self.server.keepalives_interval(time);
        self
    }

    /// Sets the number of unanswered keepalives after which a connection is closed.
    pub fn with_keepalives_count(mut self, probes: u32) -> Self {
        self.server.keepalives_retries(probes);
        self
    }

    /// Sets the time after which a connection whose data the server has not acknowledged is closed; zero for the
    /// system's.
    pub fn with_tcp_user_timeout(mut self, timeout: Duration) -> Self {
        self.tcp_user_timeout = timeout;
        self
    }

    /// Sets the kind of session that is accepted.
    pub fn with_target_session_attrs(mut self, attrs: TargetSessionAttrs) -> Self {
        self.target_session_attrs = attrs;
        self
    }

    /// Sets whether SCRAM uses channel binding.
    pub fn with_channel_binding(mut self, binding: ChannelBinding) -> Self {
        self.server.channel_binding(binding);
        self
    }

    /// Sets whether the hosts are tried in random order.
    pub fn with_load_balance_hosts(mut self, balance: LoadBalanceHosts) -> Self {
        self.server.load_balance_hosts(balance);
        self
    }

    /// Sets the schema of the tables.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` unless the name has 1 to 63 bytes and contains no NUL.
    pub fn with_schema(mut self, schema: impl Into<String>) -> Result<Self> {
        let schema = schema.into();
        if !(1..=MAX_NAME_BYTES).contains(&schema.len()) || schema.contains('\0') {
            return Err(invalid("schema must be a name of 1 to 63 bytes"));
        }
        self.schema = Some(schema);
        Ok(self)
    }

    /// Sets the maximum number of connections, 1 to 262143.
    pub fn with_pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections.clamp(1, MAX_CONNECTIONS);
        self
    }

    /// Sets the time limit of waiting for a connection from the pool.
    pub fn with_acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout.min(Duration::from_secs(MAX_SECONDS.into()));
        self
    }

    /// Sets the age of a connection from which it is not used for a further call; zero for no limit.
    pub fn with_max_lifetime(mut self, age: Duration) -> Self {
        self.max_lifetime = age.min(Duration::from_secs(MAX_SECONDS.into()));
        self
    }

    /// Sets the idle time from which a connection is closed by the next call; zero for no limit.
    pub fn with_max_idle_time(mut self, time: Duration) -> Self {
        self.max_idle_time = time.min(Duration::from_secs(MAX_SECONDS.into()));
        self
    }

    /// Sets the server's statement timeout; zero for no limit.
    pub fn with_statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = Some(timeout.min(Duration::from_millis(MAX_SECONDS.into())));
        self
    }

    /// Sets the maximum number of prepared statements of a connection, at least 1.
    pub fn with_statement_cache(mut self, statements: usize) -> Self {
        self.statement_cache = statements.clamp(1, MAX_SECONDS as usize);
        self
    }

    /// Sets the layout of the tables: the keys `hot_cold_split` and `partition_by_submitted` of an address.
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Sets the form of the statements that read pages.
    pub fn with_queries(mut self, queries: Queries) -> Self {
        self.queries = queries;
        self
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

    /// Sets whether tables that Lookout created may be changed and cleared.
    pub fn with_adopt(mut self, adopt: bool) -> Self {
        self.adopt = adopt;
        self
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Calls every method, and compares the result with the configuration of an address.
    #[test]
    fn builder_and_address_have_the_same_keys() {
        let text = "host=a,b port=1,2 hostaddr=127.0.0.1,::1 user=u password=hunter2 dbname=d application_name=n \
            options='-c x=y' sslmode=verify-ca sslrootcert=/r sslcert=/c sslkey=/k sslpassword=hunter2 \
            connect_timeout=3 keepalives=0 keepalives_idle=4 keepalives_interval=5 keepalives_count=6 \
            tcp_user_timeout=7500 \
            target_session_attrs=prefer-standby channel_binding=require load_balance_hosts=random \
            schema=s pool_size=7 acquire_timeout=8 statement_timeout=9 statement_cache=10 max_lifetime=11 \
            max_idle_time=12 hot_cold_split=true queries=lookout tuning_sql=t revert_sql=r adopt=true";
        let built = PostgresConfig::new()
            .with_user("u")
            .with_password("hunter2")
            .with_database("d")
            .with_application_name("n")
            .with_options("-c x=y")
            .with_ssl_mode(SslMode::VerifyCa)
            .with_ssl_root_cert("/r")
            .with_ssl_cert("/c", "/k")
            .with_ssl_password("hunter2")
            .with_connect_timeout(Duration::from_secs(3))
            .with_keepalives(false)
            .with_keepalives_idle(Duration::from_secs(4))
            .with_keepalives_interval(Duration::from_secs(5))
            .with_keepalives_count(6)
            .with_tcp_user_timeout(Duration::from_millis(7500))
            .with_target_session_attrs(TargetSessionAttrs::PreferStandby)
            .with_channel_binding(ChannelBinding::Require)
            .with_load_balance_hosts(LoadBalanceHosts::Random)
            .with_pool_size(7)
            .with_acquire_timeout(Duration::from_secs(8))
            .with_statement_timeout(Duration::from_secs(9))
            .with_max_lifetime(Duration::from_secs(11))
            .with_max_idle_time(Duration::from_secs(12))
            .with_statement_cache(10)
            .with_layout(Layout::HotColdSplit)
            .with_queries(Queries::Lookout)
            .with_tuning_sql(["t"])
            .with_revert_sql(["r"])
            .with_adopt(true)
            .with_hosts([("a", 1), ("b", 2)])
            .with_schema("s")
            .unwrap()
            .with_host_addresses(["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()])
            .unwrap();
        let read = PostgresConfig::from_key_values(text).unwrap();
        assert_eq!(built.server, read.server);
        for config in [&built, &read] {
            assert_eq!(config.hosts().collect::<Vec<_>>(), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
            assert_eq!(config.host_addresses().len(), 2);
            assert_eq!((config.user(), config.database()), (Some("u"), Some("d")));
            assert_eq!((config.application_name(), config.options()), (Some("n"), "-c x=y"));
            assert_eq!((config.ssl_mode(), config.ssl_root_cert()), (SslMode::VerifyCa, Some(Path::new("/r"))));
            assert_eq!(config.connect_timeout(), Duration::from_secs(3));
            assert_eq!((config.keepalives(), config.keepalives_idle()), (false, Duration::from_secs(4)));
            assert_eq!(config.keepalives_interval(), Some(Duration::from_secs(5)));
            assert_eq!(config.keepalives_count(), Some(6));
            assert_eq!(config.tcp_user_timeout(), Duration::from_millis(7500));
            assert_eq!(config.target_session_attrs(), TargetSessionAttrs::PreferStandby);
            assert_eq!((config.ssl_cert(), config.ssl_key()), (Some(Path::new("/c")), Some(Path::new("/k"))));
            assert_eq!(config.ssl_password.as_deref(), Some("hunter2"));
            assert_eq!(config.channel_binding(), ChannelBinding::Require);
            assert_eq!(config.load_balance_hosts(), LoadBalanceHosts::Random);
            assert_eq!((config.schema(), config.pool_size()), (Some("s"), 7));
            assert_eq!(config.acquire_timeout(), Duration::from_secs(8));
            assert_eq!((config.max_lifetime().as_secs(), config.max_idle_time().as_secs()), (11, 12));
            assert_eq!((config.statement_timeout(), config.statement_cache()), (Some(Duration::from_secs(9)), 10));
            assert_eq!((config.layout(), config.adopt()), (Layout::HotColdSplit, true));
            assert_eq!(config.queries(), Queries::Lookout);
            assert_eq!([config.tuning_sql(), config.revert_sql()], [["t"], ["r"]]);
            assert_eq!(
                config.to_string(),
                "postgres (layout hot_cold_split, sslmode verify-ca, at most 7 connections)"
            );
        }
    }

    #[test]
    fn values_have_the_limits_of_an_address() {
        let config = PostgresConfig::new()
            .with_pool_size(0)
            .with_statement_cache(0)
            .with_connect_timeout(Duration::ZERO)
            .with_statement_timeout(Duration::MAX);
        assert_eq!((config.pool_size(), config.statement_cache()), (1, 1));
        assert_eq!(config.connect_timeout(), Duration::from_secs(MAX_SECONDS.into()));
        assert_eq!(config.statement_timeout(), Some(Duration::from_millis(MAX_SECONDS.into())));
        assert!(PostgresConfig::new().with_schema("").is_err());
        assert!(PostgresConfig::new().with_host_addresses([]).is_err());
        assert_eq!(PostgresConfig::new().with_host("/dir", 1).hosts().next(), Some(("/dir".to_owned(), 1)));
    }
}
