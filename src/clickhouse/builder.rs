//! Construction of the configuration in code: a `with_*` method for each parameter of an address.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::config::{ClickHouseConfig, Compression, invalid};
use super::layout::Layout;
use super::settings;
use crate::address::{MAX_SECONDS, is_host};
use crate::error::Result;

const DEFAULT_TLS_PORT: u16 = 8443;
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// The builder.
///
/// ```
/// use std::time::Duration;
///
/// use broadside::clickhouse::{ClickHouseConfig, Layout};
///
/// let config = ClickHouseConfig::new("db.example")?
///     .with_tls()
///     .with_user("lookout")
///     .with_password("secret")
///     .with_layout(Layout::Patch)?
///     .with_timeout(Duration::from_secs(30))
///     .with_setting("max_threads", "4")?;
/// assert_eq!(config.server().as_str(), "https://db.example:8443/");
/// assert!(!config.to_string().contains("secret"));
/// # Ok::<(), broadside::Error>(())
/// ```
impl ClickHouseConfig {
    /// Creates the configuration of a server by its host name or IP address, without TLS, on port 8123.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the host is neither.
    pub fn new(host: &str) -> Result<Self> {
        if !is_host(host) {
            return Err(invalid("the host must be a host name or an IP address"));
        }
        let host = if host.contains(':') { format!("[{host}]") } else { host.replace('%', "%25") };
        Self::from_url(&format!("clickhouse+http://{host}"))
    }

    /// Enables TLS, on port 8443 unless [`with_port`](Self::with_port) is called afterwards.
    pub fn with_tls(self) -> Self {
        self.with_server(|server| server.set_scheme("https").is_ok() && server.set_port(Some(DEFAULT_TLS_PORT)).is_ok())
    }

    /// Sets a PEM file with the trusted authorities. The default is those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, else
    /// those of the system, else those of Mozilla.
    pub fn with_ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(file.into());
        self
    }

    /// Sets PEM files with the client's certificate chain and its private key, which may be the same file. Without a
    /// password, the server identifies the user by the certificate.
    pub fn with_client_certificate(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        (self.cert_file, self.key_file) = (Some(chain.into()), Some(key.into()));
        self
    }

    /// Sets the port.
    pub fn with_port(self, port: u16) -> Self {
        self.with_server(|server| server.set_port(Some(port)).is_ok())
    }

    fn with_server(mut self, change: impl FnOnce(&mut Url) -> bool) -> Self {
        let changed = change(&mut self.server);
        // Neither fails for an HTTP URL with a host, and `server` is always one.
        debug_assert!(changed);
        self
    }

    /// Sets the database of the tables. The default is `broadside`.
    pub fn with_database(mut self, database: impl Into<String>) -> Self {
        self.database = database.into();
        self
    }

    /// Sets the user. The default is the server's user `default`.
    pub fn with_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets the password. There is no getter for it.
    pub fn with_password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets the compression of requests and responses.
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets the layout of the tables: see the [module](crate::clickhouse).
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for [`Layout::Patch`] with a cluster.
    pub fn with_layout(mut self, layout: Layout) -> Result<Self> {
        self.layout = layout;
        self.checked()
    }

    /// Sets whether tables without Broadside's marker may be changed and cleared.
    pub fn with_adopt(mut self, adopt: bool) -> Self {
        self.adopt = adopt;
        self
    }

    /// Sets a cluster of the server's configuration, for replicated and sharded tables.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for an empty name, and with [`Layout::Patch`].
    pub fn with_cluster(mut self, cluster: impl Into<String>) -> Result<Self> {
        let cluster = cluster.into();
        if cluster.is_empty() {
            return Err(invalid("cluster must be the name of a cluster"));
        }
        self.cluster = Some(cluster);
        self.checked()
    }

    fn checked(self) -> Result<Self> {
        if self.layout == Layout::Patch && self.cluster.is_some() {
            return Err(invalid("layout=patch cannot be used with a cluster"));
        }
        Ok(self)
    }

    /// Sets the timeout of connecting, at least a millisecond.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = limited(timeout);
        self
    }

    /// Sets the timeout of a request, at least a millisecond.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = limited(timeout);
        self
    }

    /// Adds a ClickHouse setting, which is sent with every request.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for an empty name, and for a setting that results depend on or that selects the database,
    /// profile or format.
    pub fn with_setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        let name = name.into();
        if name.is_empty() || !settings::may_be_set(&name) {
            return Err(invalid(
                "a setting that results depend on, or that selects the database, profile or format, cannot be set",
            ));
        }
        self.settings.insert(name, value.into());
        Ok(self)
    }
}

fn limited(timeout: Duration) -> Duration {
    timeout.clamp(MIN_TIMEOUT, Duration::from_secs(MAX_SECONDS.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builder_and_address_have_the_same_parameters() {
        let read = ClickHouseConfig::from_url(
            "clickhouse+https://u:hunter2@[::1]:1/d?compression=none&adopt=true&cluster=c&connect_timeout=2&timeout=3\
             &ca_file=/a&cert_file=/b&key_file=/c&setting.max_threads=4",
        )
        .unwrap();
        let built = ClickHouseConfig::new("::1")
            .unwrap()
            .with_tls()
            .with_port(1)
            .with_database("d")
            .with_user("u")
            .with_password("hunter2")
            .with_compression(Compression::None)
            .with_adopt(true)
            .with_cluster("c")
            .unwrap()
            .with_ca_file("/a")
            .with_client_certificate("/b", "/c")
            .with_connect_timeout(Duration::from_secs(2))
            .with_timeout(Duration::from_secs(3))
            .with_setting("max_threads", "4")
            .unwrap();
        assert_eq!(built.password, read.password);
        let files =
            |config: &ClickHouseConfig| [&config.ca_file, &config.cert_file, &config.key_file].map(Clone::clone);
        assert_eq!(files(&built), files(&read));
        assert_eq!(files(&read), ["/a", "/b", "/c"].map(|file| Some(file.into())));
        for config in [&built, &read] {
            assert_eq!((config.server().as_str(), config.database()), ("https://[::1]:1/", "d"));
            assert_eq!((config.user(), config.cluster()), (Some("u"), Some("c")));
            assert_eq!((config.compression(), config.layout()), (Compression::None, Layout::Replacing));
            assert!(config.adopt());
            assert_eq!((config.connect_timeout(), config.timeout()), (Duration::from_secs(2), Duration::from_secs(3)));
            assert_eq!(config.settings().len(), 1);
            assert_eq!(config.to_string(), "clickhouse (layout replacing, TLS, compression none)");
        }
    }

    #[test]
    fn values_have_the_limits_of_an_address() {
        let config = || ClickHouseConfig::new("h").unwrap();
        assert!(ClickHouseConfig::new("p@h").is_err() && ClickHouseConfig::new("").is_err());
        assert!(config().with_cluster("c").unwrap().with_layout(Layout::Patch).is_err());
        assert!(config().with_layout(Layout::Patch).unwrap().with_cluster("c").is_err());
        assert!(config().with_cluster("").is_err());
        assert!(config().with_setting("database", "d").is_err() && config().with_setting("", "d").is_err());
        assert_eq!(config().with_timeout(Duration::ZERO).timeout(), MIN_TIMEOUT);
    }
}
