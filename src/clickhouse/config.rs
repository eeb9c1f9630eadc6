//! The configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::layout::Layout;
use crate::error::{BackendKind, Error, Operation};

/// The configuration of the ClickHouse backend.
///
/// It is parsed from a URL, `clickhouse+http://user:password@host:port/database?parameter=value&…`, or
/// `clickhouse+https://…` for TLS. The default port is ClickHouse's, 8123 or
/// 8443, and the default database is `broadside`. Parameters:
///
/// | parameter | values | default |
/// |---|---|---|
/// | `compression` | `lz4`, `none`: of requests and responses | `lz4` |
/// | `layout` | `replacing`, `patch`: see the [module](crate::clickhouse) | `replacing` |
/// | `adopt` | `true`, `false`: whether tables without Broadside's marker may be changed and cleared | `false` |
/// | `cluster` | a cluster of the server's configuration, for replicated and sharded tables | no cluster |
/// | `ca_file` | a PEM file with the trusted authorities | see below |
/// | `cert_file` | a PEM file with the client's certificate chain | no certificate |
/// | `key_file` | a PEM file with its private key, not encrypted | the file of `cert_file` |
/// | `connect_timeout` | seconds | 5 |
/// | `timeout` | seconds, for each request | 60 |
/// | `setting.NAME` | a ClickHouse setting, sent with every request | |
///
/// Without `ca_file`, the authorities are those of the environment variables `SSL_CERT_FILE` and `SSL_CERT_DIR`, else
/// those of the system, else those of Mozilla. Without a password, the server identifies the user by `cert_file`.
///
/// The characters `% @ : / ? # [ ] & =` of a user, a password or a value are percent-encoded. A plus sign is not
/// decoded.
///
/// `Debug`, `Display` and errors contain no part of the address: in a mistyped address, any part may be the password.
///
/// ```
/// use broadside::clickhouse::ClickHouseConfig;
///
/// let config = ClickHouseConfig::from_url("clickhouse+https://user:secret@db.example/lookout?timeout=30")?;
/// assert!(!format!("{config:?}").contains("secret"));
///
/// let config = ClickHouseConfig::from_url("clickhouse+https://db.example")?
///     .with_credentials("user", "p@ssword")
///     .with_database("lookout")
///     .with("layout", "patch")?
///     .with("setting.max_threads", 4)?;
/// # Ok::<(), broadside::Error>(())
/// ```
#[derive(Clone)]
pub struct ClickHouseConfig {
    /// Scheme, host and port of the server.
    pub(super) server: Url,
    pub(super) database: String,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) compression: Compression,
    pub(super) layout: Layout,
    pub(super) adopt: bool,
    pub(super) cluster: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) settings: BTreeMap<String, String>,
}

/// The compression of requests and responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Compression {
    /// LZ4.
    Lz4,
    /// No compression.
    None,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl fmt::Debug for ClickHouseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickHouseConfig")
            .field("compression", &self.compression)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

/// Values that cannot be secret. In a mistyped address, any string may be part of the password.
impl fmt::Display for ClickHouseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = if self.server.scheme() == "https" { "TLS" } else { "no TLS" };
        write!(f, "clickhouse (layout {}, {tls}, compression {})", self.layout, self.compression)
    }
}

impl ClickHouseConfig {
    /// Sets the user and the password, which an address has in percent-encoded form.
    pub fn with_credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        (self.user, self.password) = (Some(user.into()), Some(password.into()));
        self
    }

    /// Sets the database of the tables.
    pub fn with_database(mut self, database: impl Into<String>) -> Self {
        self.database = database.into();
        self
    }
}

/// The error of an invalid configuration.
pub(super) fn invalid(message: &str) -> Error {
    Error::invalid(Operation::Connect, message).with_backend(BackendKind::ClickHouse)
}
