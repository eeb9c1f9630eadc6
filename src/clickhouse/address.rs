//! Addresses: URLs, parsed by the same rules as those of PostgreSQL.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::config::{ClickHouseConfig, Compression};
use super::layout::Layout;
use super::settings;
use crate::address::{
    HOST, Keys, Problem, UrlParts, decode, host_and_port, is_host, number, plain, put, seconds, word,
};
use crate::error::{BackendKind, Result};

/// The schemes of ClickHouse URLs with their separators, the scheme of HTTP and the default port.
const SCHEMES: [(&str, &str, u16); 2] = [(URL_PREFIXES[0], "http", 8123), (URL_PREFIXES[1], "https", 8443)];
/// The schemes of ClickHouse URLs, with their separators.
pub(crate) const URL_PREFIXES: [&str; 2] = ["clickhouse+http://", "clickhouse+https://"];

const DEFAULT_DATABASE: &str = "broadside";
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
const SETTING_PREFIX: &str = "setting.";

const SECONDS: &str = "a number of seconds from 0.001 to 2147483647";

const FILE: &str = "the path of a PEM file";

/// The keys of addresses, each with its setter.
const KEYS: Keys<ClickHouseConfig> = Keys(&[
    ("compression", |config, value| put(&mut config.compression, word(value), "lz4 or none")),
    ("layout", |config, value| {
        put(&mut config.layout, word(value), "replacing or patch").and_then(|()| layout_fits_cluster(config))
    }),
    ("adopt", |config, value| put(&mut config.adopt, value.parse().ok(), "true or false")),
    ("cluster", |config, value| {
        let name = (!value.is_empty()).then(|| Some(value.to_owned()));
        put(&mut config.cluster, name, "the name of a cluster").and_then(|()| layout_fits_cluster(config))
    }),
    ("ca_file", |config, value| put(&mut config.ca_file, file(value), FILE)),
    ("cert_file", |config, value| put(&mut config.cert_file, file(value), FILE)),
    ("key_file", |config, value| put(&mut config.key_file, file(value), FILE)),
    ("connect_timeout", |config, value| put(&mut config.connect_timeout, positive_seconds(value), SECONDS)),
    ("timeout", |config, value| put(&mut config.timeout, positive_seconds(value), SECONDS)),
    // Only for the list in errors: the names of settings are the server's.
    ("setting.NAME", |_, _| Err("written with the name of a setting in the place of NAME")),
]);

impl ClickHouseConfig {
    /// Parses a URL as described [above](Self).
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, naming the invalid part or the position of the unknown key. The message contains no part of
    /// the address, because any part of it may be a password.
    pub fn from_url(url: &str) -> Result<Self> {
        read(url).map_err(|problem| problem.into_error(BackendKind::ClickHouse))
    }

    /// Sets a parameter of an address, such as `timeout` or `setting.max_threads`.
    ///
    /// # Errors
    ///
    /// As [`from_url`](Self::from_url).
    pub fn with(mut self, key: &str, value: impl ToString) -> Result<Self> {
        let value = value.to_string();
        let set = plain("the value", &value).and_then(|value| self.set(1, key, value));
        set.map_err(|problem| problem.into_error(BackendKind::ClickHouse))?;
        Ok(self)
    }

    /// Sets the parameter at a position of the address, starting at 1.
    fn set(&mut self, position: usize, key: &str, value: &str) -> Result<(), Problem> {
        match key.strip_prefix(SETTING_PREFIX) {
            Some(setting) if !setting.is_empty() && !settings::may_be_set(setting) => Err(Problem::new(
                "a setting that results depend on, or that selects the database, profile or format, cannot be set",
            )),
            Some(setting) if !setting.is_empty() => {
                self.settings.insert(setting.to_owned(), value.to_owned());
                Ok(())
            }
            _ => KEYS.set(self, KEYS.find(position, key)?, value),
        }
    }
}

fn read(url: &str) -> Result<ClickHouseConfig, Problem> {
    let scheme = SCHEMES.iter().find_map(|&(prefix, scheme, port)| Some((scheme, port, url.strip_prefix(prefix)?)));
    let (scheme, port, rest) =
        scheme.ok_or(Problem::new("a URL begins with clickhouse+http:// or clickhouse+https://"))?;
    let parts = UrlParts::split(rest);
    let mut config = ClickHouseConfig {
        server: server(scheme, parts.hosts, port)?,
        database: database(parts.path)?,
        user: Some(decode("user", parts.user)?).filter(|user| !user.is_empty()),
        password: parts.password.map(|password| decode("password", password)).transpose()?,
        compression: Compression::Lz4,
        layout: Layout::Replacing,
        adopt: false,
        cluster: None,
        ca_file: None,
        cert_file: None,
        key_file: None,
        connect_timeout: DEFAULT_CONNECT_TIMEOUT,
        timeout: DEFAULT_TIMEOUT,
        settings: BTreeMap::new(),
    };
    for (pair, position) in parts.pairs().zip(1..) {
        let (key, value) = pair?;
        config.set(position, &key, &value)?;
    }
    Ok(config)
}

/// Scheme, host and port of the HTTP client.
fn server(scheme: &str, hosts: &str, default_port: u16) -> Result<Url, Problem> {
    let (host, port) = host_and_port(hosts)?;
    let port = if port.is_empty() { Some(default_port) } else { number(&port, 1, u16::MAX) };
    let port = port.ok_or(Problem::value("the port", "a number from 1 to 65535"))?;
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let url = Url::parse(&format!("{scheme}://{bracketed}:{port}")).ok();
    url.filter(|_| is_host(&host)).ok_or(Problem::value("the host", HOST))
}

fn database(path: &str) -> Result<String, Problem> {
    match path.strip_suffix('/').unwrap_or(path) {
        "" => Ok(DEFAULT_DATABASE.to_owned()),
        names if names.contains(['/', '#']) => Err(Problem::value("the path", "the name of one database")),
        name => decode("database", name),
    }
}

fn layout_fits_cluster(config: &ClickHouseConfig) -> Result<(), &'static str> {
    if config.layout == Layout::Patch && config.cluster.is_some() {
        return Err("left out: layout=patch cannot be used with a cluster");
    }
    Ok(())
}

fn file(path: &str) -> Option<Option<PathBuf>> {
    (!path.is_empty()).then(|| Some(path.into()))
}

fn positive_seconds(value: &str) -> Option<Duration> {
    seconds(value).filter(|&seconds| seconds >= Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> ClickHouseConfig {
        ClickHouseConfig::from_url(url).unwrap()
    }

    #[test]
    fn a_url_has_all_parameters() {
        let read = config(
            "clickhouse+https://me:p%40s+s@db.example/jobs?compression=none&adopt=true&cluster=c1&connect_timeout=2\
             &timeout=1.5&ca_file=/a&cert_file=/b&key_file=/c&setting.max_threads=2",
        );
        let parameters = [
            ("compression", "none"),
            ("adopt", "true"),
            ("cluster", "c1"),
            ("connect_timeout", "2"),
            ("timeout", "1.5"),
            ("ca_file", "/a"),
            ("cert_file", "/b"),
            ("key_file", "/c"),
            ("setting.max_threads", "2"),
        ];
        let built = config("clickhouse+https://db.example").with_credentials("me", "p@s+s").with_database("jobs");
        let built = parameters.into_iter().try_fold(built, |config, (key, value)| config.with(key, value)).unwrap();
        for config in [&read, &built] {
            assert_eq!(config.server.as_str(), "https://db.example:8443/");
            assert_eq!((config.database.as_str(), config.user.as_deref()), ("jobs", Some("me")));
            assert_eq!(config.password.as_deref(), Some("p@s+s"));
            assert_eq!((config.compression, config.layout), (Compression::None, Layout::Replacing));
            assert!(config.adopt);
            assert_eq!(config.cluster.as_deref(), Some("c1"));
            let files = [&config.ca_file, &config.cert_file, &config.key_file];
            assert_eq!(files.map(Option::as_deref), ["/a", "/b", "/c"].map(|file| Some(file.as_ref())));
            assert_eq!(config.connect_timeout, Duration::from_secs(2));
            assert_eq!(config.timeout, Duration::from_millis(1500));
            assert_eq!(config.settings, BTreeMap::from([("max_threads".to_owned(), "2".to_owned())]));
            assert_eq!(config.to_string(), "clickhouse (layout replacing, TLS, compression none)");
        }
        for (key, value) in [("layout", "patch"), ("timeout", "0"), ("setting.database", "d"), ("cluster", "a\0")] {
            assert!(read.clone().with(key, value).is_err(), "{key}");
        }
    }

    #[test]
    fn missing_parts_have_defaults() {
        for url in ["clickhouse+http://[::1]", "clickhouse+http://[::1]:8123/?"] {
            let config = config(url);
            assert_eq!(config.server.as_str(), "http://[::1]:8123/");
            assert_eq!((config.database.as_str(), config.user), ("broadside", None));
            assert_eq!(config.compression, Compression::Lz4);
        }
    }

    #[test]
    fn errors_name_the_part_and_contain_no_value() {
        for (url, part) in [
            ("clickhouse+http:///jobs", "the host must be"),
            ("clickhouse+http://u:hun@ter2@h", "the host must be"),
            ("clickhouse+http://u:hun/ter2@h", "the port must be"),
            ("clickhouse+http://h:0", "the port must be"),
            ("clickhouse+http://u:12/ter2@h/d", "the path must be the name of one database"),
            ("clickhouse+http://u:12#ter2@h,h2", "the host must be"),
            ("clickhouse+http://h/?compression=hunter2", "compression must be lz4 or none"),
            ("clickhouse+http://h/?timeout=0", "timeout must be a number of seconds"),
            ("clickhouse+http://h/?timeout=10000000000000000000", "timeout must be"),
            ("clickhouse+http://h/?connect_timeout=hunter2", "connect_timeout must be"),
            ("clickhouse+https://h/?ca_file=", "ca_file must be the path of a PEM file"),
            ("clickhouse+http://h/?cluster=", "cluster must be the name of a cluster"),
            ("clickhouse+http://h/?layout=patch&cluster=c", "layout=patch cannot be used with a cluster"),
            ("clickhouse+http://h/?cluster=c&layout=patch", "layout=patch cannot be used with a cluster"),
            ("clickhouse+http://h/?timeout=1&hunter2=2", "key 2 is unknown; the keys are compression, layout"),
            ("clickhouse+http://h/?setting.=2", "key 1 is unknown"),
            ("clickhouse+http://h/%ff", "database: not UTF-8"),
        ] {
            let error = ClickHouseConfig::from_url(url).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument, "{url}");
            assert!(error.message().contains(part), "{url}: {error}");
            assert!(!format!("{error:?}").contains("ter2"), "{url}: {error:?}");
        }
    }

    #[test]
    fn debug_contains_no_part_of_the_address() {
        let config =
            config("clickhouse+http://hunter1:hunter2@hunter3/hunter4?setting.hunter5=hunter6&cluster=hunter7");
        assert!(!format!("{config:?}").contains("hunter"), "{config:?}");
    }
}
