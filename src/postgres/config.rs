//! Where the server is and how it is used: from URLs, libpq's keys and its `key=value` text.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::connection::Connections;
use super::layout::Layout;
use super::{PostgresDatabase, schema};
use crate::connect::ScratchInfo;
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::time::SharedClock;

/// How much TLS protects of a connection: libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SslMode {
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
/// `key=value` text or from pairs. Of libpq's keys it knows host, hostaddr, port, user, password,
/// dbname, application_name (`broadside` by default), connect_timeout, sslmode, sslrootcert and
/// options; its own are
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
///
/// Of the two layouts at most one can be chosen. A schema stays in the layout in which it was made, except that
/// `initialise_schema` with `hot_cold_split` splits one that has neither, for good.
/// The statements of `tuning_sql` and `revert_sql` may be executed more than once.
///
/// Timeouts are in seconds and may have fractions. `connect_timeout` (10 by default) is how long a
/// call tries to reach a server that is down or restarting.
///
/// `Debug` and errors never show the password.
#[derive(Debug, Clone)]
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
    options: String,
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
            options: String::new(),
        }
    }
}

impl PostgresConfig {
    /// From a `postgres://` or `postgresql://` URL.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` naming the key that is unknown or has a bad value.
    pub fn from_url(url: &Url) -> Result<Self> {
        let mut pairs = BTreeMap::new();
        let mut set = |key: &str, value: String| pairs.insert(key.to_owned(), value);
        if let Some(host) = url.host_str().filter(|host| !host.is_empty()) {
            // An IPv6 address stands in brackets in a URL and nowhere else.
            set("host", percent_decode("host", host.trim_start_matches('[').trim_end_matches(']'))?);
        }
        if let Some(port) = url.port() {
            set("port", port.to_string());
        }
        if !url.username().is_empty() {
            set("user", percent_decode("user", url.username())?);
        }
        if let Some(password) = url.password() {
            set("password", percent_decode("password", password)?);
        }
        if let Some(database) = url.path().strip_prefix('/').filter(|path| !path.is_empty()) {
            set("dbname", percent_decode("dbname", database)?);
        }
        for (key, value) in url.query_pairs() {
            set(&key, value.into_owned());
        }
        Self::from_pairs(&pairs)
    }

    /// From libpq's `key=value` text: values may stand in single quotes, and a backslash takes the
    /// next character as it is.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` naming the key that is unknown or has a bad value.
    pub fn from_key_values(text: &str) -> Result<Self> {
        let mut pairs = BTreeMap::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            // What follows the first = may hold a password, so errors show only keys.
            let Some((key, after)) = rest.split_once('=') else {
                return Err(invalid("what follows the last key=value is no key=value"));
            };
            let (value, tail) = take_value(after.trim_start())
                .ok_or_else(|| invalid(format!("the value of {:?} lacks its closing quote", key.trim_end())))?;
            pairs.insert(key.trim_end().to_owned(), value);
            rest = tail.trim_start();
        }
        Self::from_pairs(&pairs)
    }

    /// From pairs of key and value.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` naming the key that is unknown or has a bad value.
    pub fn from_pairs(pairs: &BTreeMap<String, String>) -> Result<Self> {
        let mut config = Self::default();
        for (key, value) in pairs {
            config.set(key, value)?;
        }
        if config.server.get_hosts().is_empty() && config.server.get_hostaddrs().is_empty() {
            config.server.host("localhost");
        }
        Ok(config)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "host" => {
                for host in value.split(',') {
                    self.server.host(host);
                }
            }
            "hostaddr" => {
                for address in value.split(',') {
                    self.server.hostaddr(parse(key, address, "an IP address")?);
                }
            }
            "port" => {
                for port in value.split(',') {
                    self.server.port(parse(key, port, "a port")?);
                }
            }
            "user" => drop(self.server.user(value)),
            "password" => drop(self.server.password(value)),
            "dbname" => drop(self.server.dbname(value)),
            "application_name" => drop(self.server.application_name(value)),
            "options" => self.options = value.to_owned(),
            "sslmode" => self.ssl_mode = ssl_mode(value)?,
            "sslrootcert" => self.ssl_root_cert = Some(PathBuf::from(value)),
            "schema" => self.schema = Some(non_empty(key, value)?.to_owned()),
            "pool_size" => self.pool_size = positive(key, value)?,
            "statement_cache" => self.statement_cache = positive(key, value)?,
            "connect_timeout" => self.connect_timeout = seconds(key, value)?,
            "acquire_timeout" => self.acquire_timeout = seconds(key, value)?,
            "hot_cold_split" => self.set_layout(key, value, Layout::HotColdSplit)?,
            "partition_by_submitted" => self.set_layout(key, value, Layout::PartitionBySubmitted)?,
            "tuning_sql" => self.tuning_sql = value.to_owned(),
            "revert_sql" => self.revert_sql = value.to_owned(),
            "statement_timeout" => self.statement_timeout = seconds(key, value)?,
            unknown => return Err(invalid(format!("unknown key {unknown:?}"))),
        }
        Ok(())
    }

    fn set_layout(&mut self, key: &str, value: &str, layout: Layout) -> Result<()> {
        if parse(key, value, "true or false")? {
            if self.layout != Layout::Lookout {
                return Err(invalid("hot_cold_split and partition_by_submitted exclude each other"));
            }
            self.layout = layout;
        }
        Ok(())
    }

    /// Opens a handle. The server must answer; the schema need not exist.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the server cannot be reached within the connect timeout, `Backend` if it
    /// refuses the user, the database or the TLS that is asked for.
    pub async fn connect(&self, clock: SharedClock) -> Result<PostgresDatabase> {
        let connections = Connections::new(self)?;
        connections.run(Operation::Connect, |_| async { Ok(()) }).await?;
        Ok(PostgresDatabase::new(self, connections, clock))
    }

    /// The scratch stores on the server, oldest first, by the marker that each carries.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn scratch_stores(&self) -> Result<Vec<ScratchInfo>> {
        Ok(Vec::new()) // FIXME
    }

    /// Removes a scratch store, which must carry the marker of one.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect); `WrongStore` if `name` is no scratch store.
    pub async fn remove_scratch(&self, _name: &str) -> Result<()> {
        Ok(()) // FIXME
    }

    /// Makes an empty schema of this name and gives the configuration that leads to it.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and `Backend` if the schema exists.
    pub async fn create_scratch(&self, name: &str) -> Result<Self> {
        self.execute(&schema::create(name)).await?;
        Ok(Self { schema: Some(name.to_owned()), ..self.clone() })
    }

    /// Drops the schema that [`create_scratch`](Self::create_scratch) made, with all that is in it.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and `InvalidArgument` if the configuration names no schema.
    pub async fn drop_scratch(&self) -> Result<()> {
        let name = self.schema.as_deref().ok_or_else(|| invalid("the configuration names no schema to drop"))?;
        self.execute(&schema::drop(name)).await
    }

    async fn execute(&self, sql: &str) -> Result<()> {
        let connections = Connections::new(&Self { pool_size: 1, ..self.clone() })?;
        connections.transact(Operation::Connect, |client| async move { Ok(client.batch_execute(sql).await?) }).await
    }

    /// What the driver connects with: the server, and what is set for each session.
    pub(super) fn driver_config(&self) -> tokio_postgres::Config {
        let mut options = Vec::new();
        if let Some(name) = &self.schema {
            options.push(session_option("search_path", &schema::quoted(name)));
        }
        if !self.statement_timeout.is_zero() {
            options.push(session_option("statement_timeout", &format!("{}ms", self.statement_timeout.as_millis())));
        }
        // Values decide the best plan of a page or a group, a state or queue being common or
        // rare: a plan for all values would be cheap to reuse and now and then very slow.
        options.push(session_option("plan_cache_mode", "force_custom_plan"));
        // What the caller sets comes last, and so prevails.
        options.push(self.options.clone());
        let mut server = tokio_postgres::Config::clone(&self.server);
        server.options(options.join(" ")).connect_timeout(self.connect_timeout).ssl_mode(match self.ssl_mode {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
        });
        server
    }
}

/// A setting as a server's command line takes it: blanks and backslashes need a backslash.
fn session_option(name: &str, value: &str) -> String {
    let mut option = format!("-c {name}=");
    for character in value.chars() {
        if character.is_whitespace() || character == '\\' {
            option.push('\\');
        }
        option.push(character);
    }
    option
}

/// The value at the start of `text` and what follows it; none if its quote is never closed.
fn take_value(text: &str) -> Option<(String, &str)> {
    let quoted = text.starts_with('\'');
    let mut characters = text.char_indices().skip(usize::from(quoted));
    let mut value = String::new();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Some((value, &text[at + 1..])),
            blank if blank.is_whitespace() && !quoted => return Some((value, &text[at..])),
            plain => value.push(plain),
        }
    }
    (!quoted).then_some((value, ""))
}

fn percent_decode(key: &str, text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match tail {
            [high, low, ..] if first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            bytes.push(high << 4 | low);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).map_err(|_| invalid(format!("the {key} of the URL is not UTF-8")))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn ssl_mode(value: &str) -> Result<SslMode> {
    match value {
        "disable" => Ok(SslMode::Disable),
        "prefer" => Ok(SslMode::Prefer),
        "require" => Ok(SslMode::Require),
        "verify-ca" => Ok(SslMode::VerifyCa),
        "verify-full" => Ok(SslMode::VerifyFull),
        other => {
            Err(invalid(format!("sslmode {other:?} is none of disable, prefer, require, verify-ca and verify-full")))
        }
    }
}

fn parse<T: std::str::FromStr>(key: &str, value: &str, what: &str) -> Result<T> {
    value.parse().map_err(|_| invalid(format!("{key} {value:?} is not {what}")))
}

fn positive(key: &str, value: &str) -> Result<usize> {
    let number = parse(key, value, "a whole number")?;
    if number == 0 { Err(invalid(format!("{key} must not be 0"))) } else { Ok(number) }
}

fn seconds(key: &str, value: &str) -> Result<Duration> {
    let number = parse(key, value, "a number of seconds")?;
    Duration::try_from_secs_f64(number).map_err(|_| invalid(format!("{key} {value:?} is not a number of seconds")))
}

fn non_empty<'a>(key: &str, value: &'a str) -> Result<&'a str> {
    if value.is_empty() || value.contains('\0') {
        return Err(invalid(format!("{key} {value:?} names nothing")));
    }
    Ok(value)
}

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, Operation::Connect, message).with_backend(BackendKind::Postgres)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<PostgresConfig> {
        PostgresConfig::from_url(&text.parse().unwrap())
    }

    #[test]
    fn a_url_and_its_key_values_mean_the_same() {
        let url = url("postgres://us%20er:p%40ss%25@example.com:5433/d%2Fb?sslmode=verify-full&schema=s&pool_size=3")
            .unwrap();
        let text = r"host=example.com port = 5433 user='us er' password='p@ss%' dbname=d/b sslmode=verify-full
            schema=s pool_size=3";
        let text = PostgresConfig::from_key_values(text).unwrap();
        for config in [url, text] {
            assert_eq!(config.server.get_user(), Some("us er"));
            assert_eq!(config.server.get_password(), Some(b"p@ss%".as_slice()));
            assert_eq!(config.server.get_dbname(), Some("d/b"));
            assert_eq!(config.server.get_ports(), [5433]);
            assert_eq!(config.server.get_hosts(), [tokio_postgres::config::Host::Tcp("example.com".to_owned())]);
            assert_eq!(config.ssl_mode, SslMode::VerifyFull);
            assert_eq!(config.schema.as_deref(), Some("s"));
            assert_eq!(config.pool_size, 3);
        }
    }

    #[test]
    fn quotes_and_backslashes_are_those_of_libpq() {
        let config = PostgresConfig::from_key_values(r"user='it\'s \\' password=a\ b").unwrap();
        assert_eq!(config.server.get_user(), Some(r"it's \"));
        assert_eq!(config.server.get_password(), Some(b"a b".as_slice()));
    }

    #[test]
    fn errors_name_the_key_and_never_the_password() {
        for (text, named) in [
            ("postgres://u:hunter2@h/d?colour=red", "colour"),
            ("postgres://u:hunter2@h/d?pool_size=0", "pool_size"),
            ("postgres://u:hunter2@h/d?pool_size=many", "pool_size"),
            ("postgres://u:hunter2@h/d?port=x", "port"),
            ("postgres://u:hunter2@h/d?sslmode=maybe", "sslmode"),
            ("postgres://u:hunter2@h/d?schema=", "schema"),
            ("postgres://u:hunter2@h/d?connect_timeout=-1", "connect_timeout"),
            ("postgres://u:hunter2@h/d?hot_cold_split=yes", "hot_cold_split"),
            ("postgres://u:hunter2@h/d?hot_cold_split=true&partition_by_submitted=true", "partition_by_submitted"),
        ] {
            let error = url(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(named), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        for text in ["password=hunter2 and more", "password='hunter2"] {
            let error = PostgresConfig::from_key_values(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn debug_hides_the_password() {
        let config = url("postgres://u:hunter2@h/d").unwrap();
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    }

    #[test]
    fn session_settings_are_escaped_and_the_callers_prevail() {
        let pairs = [("schema", r#"my "odd\ schema"#), ("statement_timeout", "1.5"), ("options", "-c jit=off")];
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let config = PostgresConfig::from_pairs(&BTreeMap::from(pairs)).unwrap();
        assert_eq!(
            config.driver_config().get_options(),
            Some(
                r#"-c search_path="my\ ""odd\\\ schema" -c statement_timeout=1500ms -c plan_cache_mode=force_custom_plan -c jit=off"#
            )
        );
    }
}
