//! Where the server is and how to talk to it: from a URL to a handle.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::Url;

use super::ClickHouseDatabase;
use super::connection::Connection;
use super::schema::{self, Layout};
use crate::connect::ScratchInfo;
use crate::error::{Error, Operation, Result};
use crate::time::SharedClock;

const DEFAULT_DATABASE: &str = "broadside";
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
const SETTING_PREFIX: &str = "setting.";

/// Configuration of the ClickHouse backend.
///
/// As a URL it is `clickhouse+http://user:password@host:port/database?parameter=value&…`, or
/// `clickhouse+https://…` for TLS with the web's certificate authorities. Without a port it is
/// ClickHouse's own, 8123 or 8443; without a database it is `broadside`. Parameters:
///
/// | parameter | values | default |
/// |---|---|---|
/// | `compression` | `lz4`, `none` | `lz4` |
/// | `layout` | `replacing`, `patch`: see the [module](crate::clickhouse) | `replacing` |
/// | `cluster` | a cluster of the server's configuration, for replicated and sharded tables | one server |
/// | `connect_timeout` | seconds | 5 |
/// | `timeout` | seconds, for each request | 60 |
/// | `setting.NAME` | a ClickHouse setting, sent with every request | |
///
/// `Debug` and errors never show the password.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClickHouseConfig {
    /// The server's address: scheme, host and port alone.
    pub(super) server: Url,
    pub(super) database: String,
    pub(super) user: Option<String>,
    pub(super) password: Option<Password>,
    pub(super) compression: Compression,
    pub(super) layout: Layout,
    pub(super) cluster: Option<String>,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) settings: BTreeMap<String, String>,
}

/// A password, which `Debug` does not show.
#[derive(Clone)]
pub(super) struct Password(pub(super) String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// How rows and results are compressed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Lz4,
    None,
}

impl FromStr for Compression {
    type Err = ();

    fn from_str(name: &str) -> std::result::Result<Self, ()> {
        match name {
            "lz4" => Ok(Self::Lz4),
            "none" => Ok(Self::None),
            _ => Err(()),
        }
    }
}

impl ClickHouseConfig {
    /// From a URL as described [above](Self).
    ///
    /// # Errors
    ///
    /// `InvalidArgument` naming the part of the URL that is missing, unknown or has a bad value.
    pub fn from_url(url: &Url) -> Result<Self> {
        let mut config = Self {
            server: server(url)?,
            database: decoded("database", url.path().trim_start_matches('/'))?,
            user: Some(decoded("user", url.username())?).filter(|user| !user.is_empty()),
            password: url.password().map(|password| decoded("password", password)).transpose()?.map(Password),
            compression: Compression::Lz4,
            layout: Layout::Replacing,
            cluster: None,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            timeout: DEFAULT_TIMEOUT,
            settings: BTreeMap::new(),
        };
        if config.database.is_empty() {
            DEFAULT_DATABASE.clone_into(&mut config.database);
        }
        for (name, value) in url.query_pairs() {
            config.set(&name, &value)?;
        }
        if config.layout == Layout::Patch && config.cluster.is_some() {
            return Err(invalid("layout=patch knows no cluster: use layout=replacing"));
        }
        Ok(config)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "compression" => self.compression = parsed(name, value, "lz4 or none")?,
            "layout" => self.layout = parsed(name, value, "replacing or patch")?,
            "cluster" if !value.is_empty() => self.cluster = Some(value.to_owned()),
            "cluster" => return Err(invalid("cluster must not be empty")),
            "connect_timeout" => self.connect_timeout = seconds(name, value)?,
            "timeout" => self.timeout = seconds(name, value)?,
            _ => match name.strip_prefix(SETTING_PREFIX) {
                Some(setting) if !setting.is_empty() => {
                    self.settings.insert(setting.to_owned(), value.to_owned());
                }
                _ => return Err(invalid(format!("unknown parameter {name:?} in the ClickHouse URL"))),
            },
        }
        Ok(())
    }

    /// Opens a handle. The server must answer and know the user; the database need not exist.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the server cannot be reached within the connect timeout, `Timeout` if it
    /// does not answer, `Backend` if it refuses the user or the password, `InvalidArgument` if the
    /// database has tables of another layout.
    pub async fn connect(&self, clock: SharedClock) -> Result<ClickHouseDatabase> {
        let connection = Connection::new(self)?;
        connection.ping().await?;
        schema::check_layout(&connection, Operation::Connect, &self.database, self.layout).await?;
        Ok(ClickHouseDatabase::new(self, connection, clock))
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

    /// Makes an empty database of this name on the same server and gives the configuration that
    /// leads to it.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect); `Backend` also if the server refuses to make it.
    pub async fn create_scratch(&self, name: &str) -> Result<Self> {
        let scratch = Self { database: name.to_owned(), ..self.clone() };
        let statement = schema::create_database(&scratch.database, scratch.cluster.as_deref());
        Connection::new(&scratch)?.execute_on_server(Operation::Connect, &statement).await?;
        Ok(scratch)
    }

    /// Drops the database with all that is in it.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect); `Backend` also if the server refuses to drop it.
    pub async fn drop_scratch(&self) -> Result<()> {
        let statement = schema::drop_database(&self.database, self.cluster.as_deref());
        Connection::new(self)?.execute_on_server(Operation::Connect, &statement).await
    }
}

/// Scheme, host and port, as the HTTP client takes them.
fn server(url: &Url) -> Result<Url> {
    let (scheme, port) = match url.scheme() {
        "clickhouse+http" => ("http", 8123),
        "clickhouse+https" => ("https", 8443),
        other => return Err(invalid(format!("{other:?} is no scheme of ClickHouse's"))),
    };
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| invalid("the URL names no host"))?;
    Url::parse(&format!("{scheme}://{host}:{}", url.port().unwrap_or(port)))
        .map_err(|error| invalid(format!("the host {host:?} is malformed: {error}")))
}

fn decoded(what: &str, text: &str) -> Result<String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(Into::into)
        .map_err(|_| invalid(format!("the {what} in the URL is not UTF-8")))
}

fn parsed<T: FromStr>(name: &str, value: &str, expected: &str) -> Result<T> {
    value.parse().map_err(|_| invalid(format!("{name}={value} must be {expected}")))
}

fn seconds(name: &str, value: &str) -> Result<Duration> {
    let seconds = value.parse().ok().filter(|&seconds: &f64| seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| invalid(format!("{name}={value} must be a positive number of seconds")))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::invalid(Operation::Connect, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> Result<ClickHouseConfig> {
        ClickHouseConfig::from_url(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_url_says_everything() {
        let config = config(
            "clickhouse+https://me:p%40ss@db.example/jobs?compression=none&cluster=c1&timeout=1.5&setting.max_threads=2",
        )
        .unwrap();
        assert_eq!(config.server.as_str(), "https://db.example:8443/");
        assert_eq!((config.database.as_str(), config.user.as_deref()), ("jobs", Some("me")));
        assert_eq!(config.password.as_ref().map(|password| password.0.as_str()), Some("p@ss"));
        assert_eq!((config.compression, config.layout), (Compression::None, Layout::Replacing));
        assert_eq!(config.cluster.as_deref(), Some("c1"));
        assert_eq!(config.timeout, Duration::from_millis(1500));
        assert_eq!(config.settings, BTreeMap::from([("max_threads".to_owned(), "2".to_owned())]));
        assert!(!format!("{config:?}").contains("p@ss"));
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let config = config("clickhouse+http://[::1]").unwrap();
        assert_eq!(config.server.as_str(), "http://[::1]:8123/");
        assert_eq!((config.database.as_str(), config.user, config.compression), ("broadside", None, Compression::Lz4));
    }

    #[test]
    fn bad_parts_are_named() {
        for (url, part) in [
            ("clickhouse+http:///jobs", "host"),
            ("clickhouse+http://h/?compression=gzip", "compression=gzip"),
            ("clickhouse+http://h/?timeout=0", "timeout=0"),
            ("clickhouse+http://h/?timeout=soon", "timeout=soon"),
            ("clickhouse+http://h/?cluster=", "cluster"),
            ("clickhouse+http://h/?layout=patch&cluster=c", "layout=patch"),
            ("clickhouse+http://h/?max_threads=2", "max_threads"),
            ("clickhouse+http://h/%ff", "database"),
        ] {
            let error = config(url).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument, "{url}");
            assert!(error.message().contains(part), "{url}: {error}");
        }
    }
}
