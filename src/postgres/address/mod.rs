//! Addresses, parsed by libpq's rules: a URL and `key=value` text become the same pairs, environment variables add
//! missing keys, and the driver's own parser reads the values.

mod password_file;
mod service;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::password_file::Login;
use super::config::{DEFAULT_HOST, DEFAULT_PORT, MAX_SILENCE, PostgresConfig, Queries, SslMode, TargetSessionAttrs};
use super::layout::Layout;
use crate::address::{
    HOST, Keys, MAX_SECONDS, Problem, UrlParts, decode, host_and_port, is_host, number, plain, put, seconds,
};
use crate::error::{BackendKind, Result};

/// The schemes of PostgreSQL URLs, with their separators.
pub(crate) const URL_PREFIXES: [&str; 2] = ["postgres://", "postgresql://"];

/// The environment variables that supply keys that the address does not have.
const VARIABLES: [(&str, &str); 17] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGPASSFILE", "passfile"),
    ("PGOPTIONS", "options"),
    ("PGAPPNAME", "application_name"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
];

/// The upper limit of a server's `max_connections`.
pub(super) const MAX_CONNECTIONS: usize = 262_143;
/// The server's upper limit of `statement_timeout`, which is in milliseconds.
const MAX_STATEMENT_SECONDS: f64 = i32::MAX as f64 / 1000.0;
/// The maximum length of a name; the server truncates longer ones.
pub(super) const MAX_NAME_BYTES: usize = 63;

const SECONDS: &str = "a number of seconds from 0 to 2147483647";
const TEXT: &str = "a text";
const TRUE_OR_FALSE: &str = "true or false";
const WHOLE_NUMBER: &str = "a whole number";
const SESSIONS: &str = "any, read-write, read-only, primary, standby or prefer-standby";
const SSL_MODES: &str = "disable, prefer, require, verify-ca or verify-full";

/// The keys of addresses, each with its setter.
const KEYS: Keys<Draft> = Keys(&[
    ("host", Draft::set_hosts),
    ("hostaddr", |draft, value| {
        let addresses = value.split(',').map(|address| address.parse().ok()).collect();
        put(&mut draft.config.host_addresses, addresses, "an IP address, or several with commas")
    }),
    ("port", Draft::set_ports),
    ("user", |draft, value| draft.set_driver("user", value, TEXT)),
    ("password", |draft, value| draft.set_driver("password", value, TEXT)),
    ("passfile", |draft, value| put(&mut draft.password_file, Some(Some(value.into())), TEXT)),
    ("dbname", |draft, value| draft.set_driver("dbname", value, TEXT)),
    ("application_name", |draft, value| draft.set_driver("application_name", value, TEXT)),
    ("options", |draft, value| put(&mut draft.config.options, Some(value.to_owned()), TEXT)),
    // Its keys are those of the file, which `into_config` reads.
    ("service", |_, _| Ok(())),
    ("sslmode", |draft, value| put(&mut draft.config.ssl_mode, ssl_mode(value), SSL_MODES)),
    ("sslrootcert", |draft, value| put(&mut draft.config.ssl_root_cert, Some(Some(value.into())), TEXT)),
    ("sslcert", |draft, value| put(&mut draft.config.ssl_cert, Some(Some(value.into())), TEXT)),
    ("sslkey", |draft, value| put(&mut draft.config.ssl_key, Some(Some(value.into())), TEXT)),
    ("sslpassword", |draft, value| put(&mut draft.config.ssl_password, Some(Some(value.to_owned())), TEXT)),
    ("connect_timeout", |draft, value| put(&mut draft.config.connect_timeout, connect_timeout(value), SECONDS)),
    ("keepalives", |draft, value| draft.set_driver("keepalives", value, "0 or 1")),
    ("keepalives_idle", |draft, value| draft.set_driver("keepalives_idle", value, WHOLE_NUMBER)),
    ("keepalives_interval", |draft, value| draft.set_driver("keepalives_interval", value, WHOLE_NUMBER)),
    ("keepalives_count", |draft, value| draft.set_driver("keepalives_retries", value, WHOLE_NUMBER)),
    ("tcp_user_timeout", |draft, value| {
        let timeout = number(value, 0, MAX_SECONDS.into()).map(Duration::from_millis);
        put(&mut draft.config.tcp_user_timeout, timeout, "a number of milliseconds from 0 to 2147483647")
    }),
    ("target_session_attrs", |draft, value| {
        put(&mut draft.config.target_session_attrs, target_session_attrs(value), SESSIONS)
    }),
    ("channel_binding", |draft, value| draft.set_driver("channel_binding", value, "disable, prefer or require")),
    ("load_balance_hosts", |draft, value| draft.set_driver("load_balance_hosts", value, "disable or random")),
    ("schema", |draft, value| {
        let name = (1..=MAX_NAME_BYTES).contains(&value.len()).then(|| Some(value.to_owned()));
        put(&mut draft.config.schema, name, "a name of 1 to 63 bytes")
    }),
    ("pool_size", |draft, value| {
        put(&mut draft.config.pool_size, number(value, 1, MAX_CONNECTIONS), "a whole number from 1 to 262143")
    }),
    ("acquire_timeout", |draft, value| put(&mut draft.config.acquire_timeout, seconds(value), SECONDS)),
    ("max_lifetime", |draft, value| put(&mut draft.config.max_lifetime, seconds(value), SECONDS)),
    ("max_idle_time", |draft, value| put(&mut draft.config.max_idle_time, seconds(value), SECONDS)),
    ("statement_timeout", |draft, value| {
        let timeout = number(value, 0.0, MAX_STATEMENT_SECONDS).map(Duration::from_secs_f64).map(Some);
        put(&mut draft.config.statement_timeout, timeout, "a number of seconds from 0 to 2147483.647")
    }),
    ("statement_cache", |draft, value| {
        let size = number(value, 1, MAX_SECONDS as usize);
        put(&mut draft.config.statement_cache, size, "a whole number from 1 to 2147483647")
    }),
    ("hot_cold_split", |draft, value| {
        draft.set_layout(value, Layout::HotColdSplit, "false where partition_by_submitted is true")
    }),
    ("partition_by_submitted", |draft, value| {
        draft.set_layout(value, Layout::PartitionBySubmitted, "false where hot_cold_split is true")
    }),
    ("queries", |draft, value| put(&mut draft.config.queries, queries(value), "indexed or lookout")),
    ("tuning_sql", |draft, value| put(&mut draft.config.tuning_sql, Some(vec![value.to_owned()]), TEXT)),
    ("revert_sql", |draft, value| put(&mut draft.config.revert_sql, Some(vec![value.to_owned()]), TEXT)),
    ("adopt", |draft, value| put(&mut draft.config.adopt, value.parse().ok(), TRUE_OR_FALSE)),
]);

impl PostgresConfig {
    /// Parses a `postgres://` or `postgresql://` URL by libpq's rules: there may be several hosts, a plus sign is not
    /// decoded, and a key of the query overrides the preceding part of the URL.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, naming the invalid part or the position of the unknown key. The message contains no part of
    /// the address, because any part of it may be a password.
    pub fn from_url(url: &str) -> Result<Self> {
        configured(Pairs::of_url(url))
    }

    /// Parses libpq's `key=value` format: values may be in single quotes, and a backslash escapes the next character.
    ///
    /// # Errors
    ///
    /// As [`from_url`](Self::from_url).
    pub fn from_key_values(text: &str) -> Result<Self> {
        configured(Pairs::of_key_values(text))
    }

    /// Returns true for the keys of an address.
    #[cfg(feature = "load")]
    pub(crate) fn has_key(name: &str) -> bool {
        KEYS.find(0, name).is_ok()
    }

    /// Creates a configuration from keys and values.
    ///
    /// # Errors
    ///
    /// As [`from_url`](Self::from_url); the position of an unknown key is that in the order of the map.
    pub fn from_pairs(pairs: &BTreeMap<String, String>) -> Result<Self> {
        configured(Pairs::of_map(pairs))
    }
}

fn configured(pairs: Result<Pairs, Problem>) -> Result<PostgresConfig> {
    pairs
        .and_then(|pairs| pairs.into_config(&|variable| std::env::var_os(variable)))
        .map_err(|problem| problem.into_error(BackendKind::Postgres))
}

/// Keys and their values.
#[derive(Default)]
struct Pairs(BTreeMap<&'static str, String>);

impl Pairs {
    fn of_url(url: &str) -> Result<Self, Problem> {
        let rest = URL_PREFIXES.iter().find_map(|prefix| url.strip_prefix(prefix));
        let parts = UrlParts::split(rest.ok_or(Problem::new("a URL begins with postgres:// or postgresql://"))?);
        let mut pairs = Self::default();
        let elements = parts.hosts.split(',').map(host_and_port).collect::<Result<Vec<_>, _>>()?;
        let (hosts, ports): (Vec<_>, Vec<_>) = elements.into_iter().unzip();
        for (key, values) in [("host", hosts), ("port", ports)] {
            if values.iter().any(|value| !value.is_empty()) {
                pairs.0.insert(key, values.join(","));
            }
        }
        let password = parts.password.unwrap_or_default();
        for (key, text) in [("user", parts.user), ("password", password), ("dbname", parts.path)] {
            if !text.is_empty() {
                pairs.0.insert(key, decode(key, text)?);
            }
        }
        for (pair, position) in parts.pairs().zip(1..) {
            let (key, value) = pair?;
            pairs.insert(position, &key, &value)?;
        }
        Ok(pairs)
    }

    fn of_key_values(text: &str) -> Result<Self, Problem> {
        let mut pairs = Self::default();
        let mut rest = text.trim_start();
        let mut positions = 1..;
        while !rest.is_empty() {
            let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
            let (key, tail) = rest.split_at(end);
            let value = tail.trim_start().strip_prefix('=').ok_or(Problem::new("a key is not followed by ="))?;
            let (value, tail) = take_value(value.trim_start()).ok_or(Problem::new("a quote is not closed"))?;
            pairs.insert(positions.next().unwrap_or_default(), key, &value)?;
            rest = tail.trim_start();
        }
        Ok(pairs)
    }

    fn of_map(map: &BTreeMap<String, String>) -> Result<Self, Problem> {
        let mut pairs = Self::default();
        map.iter().zip(1..).try_for_each(|((key, value), position)| pairs.insert(position, key, value))?;
        Ok(pairs)
    }

    fn insert(&mut self, position: usize, key: &str, value: &str) -> Result<(), Problem> {
        // libpq's rule for JDBC addresses.
        let (key, value) = if (key, value) == ("ssl", "true") { ("sslmode", "require") } else { (key, value) };
        let key = KEYS.find(position, key)?;
        self.0.insert(key, plain(key, value)?.to_owned());
        Ok(())
    }

    /// Creates the configuration. `variable` reads an environment variable.
    fn into_config(mut self, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<PostgresConfig, Problem> {
        let named = variable("PGSERVICE").filter(|name| !name.is_empty()).map(OsString::into_string).transpose();
        let named = named.map_err(|_| Problem::new("not UTF-8").within("PGSERVICE"))?;
        if let Some(name) = self.0.get("service").or(named.as_ref()) {
            for (key, value) in service::read(name, variable)? {
                self.0.entry(key).or_insert(value);
            }
        }
        let mut draft = Draft::default();
        for (&key, value) in &self.0 {
            KEYS.set(&mut draft, key, value)?;
        }
        for (name, key) in VARIABLES {
            let value = variable(name).filter(|value| !value.is_empty() && !self.0.contains_key(key));
            let Some(value) = value else { continue };
            let value = value.to_str().ok_or(Problem::new("not UTF-8").within(name))?;
            KEYS.set(&mut draft, key, value).map_err(|problem| problem.within(name))?;
        }
        let home = variable("HOME").map(|home| Path::new(&home).join(".pgpass"));
        draft.finish(home)
    }
}

/// A configuration during parsing.
#[derive(Default)]
struct Draft {
    config: PostgresConfig,
    /// The keys for the driver, as `key='value'` text.
    driver: String,
    password_file: Option<PathBuf>,
}

impl Draft {
    fn set_hosts(&mut self, value: &str) -> Result<(), &'static str> {
        let named = |host: &str| if host.is_empty() { DEFAULT_HOST.to_owned() } else { host.to_owned() };
        let hosts: Vec<_> = value.split(',').map(named).collect();
        let valid = hosts.iter().all(|host| is_host(host) || (cfg!(unix) && host.starts_with('/')));
        put(&mut self.config.hosts, valid.then_some(hosts), HOST)
    }

    fn set_ports(&mut self, value: &str) -> Result<(), &'static str> {
        const PORTS: &str = "a number from 1 to 65535, or several with commas";
        let port = |port: &str| if port.is_empty() { Some(DEFAULT_PORT) } else { number(port, 1, u16::MAX) };
        put(&mut self.config.ports, value.split(',').map(port).collect(), PORTS)
    }

    /// Passes a key to the driver. The driver's error would contain the value.
    fn set_driver(&mut self, key: &str, value: &str, expected: &'static str) -> Result<(), &'static str> {
        let pair = format!("{key}='{}' ", value.replace('\\', r"\\").replace('\'', r"\'"));
        pair.parse::<tokio_postgres::Config>().map_err(|_| expected)?;
        self.driver += &pair;
        Ok(())
    }

    fn set_layout(&mut self, value: &str, layout: Layout, excluded: &'static str) -> Result<(), &'static str> {
        if value.parse().map_err(|_| TRUE_OR_FALSE)? {
            if self.config.layout != Layout::Lookout {
                return Err(excluded);
            }
            self.config.layout = layout;
        }
        Ok(())
    }

    fn finish(self, home_password_file: Option<PathBuf>) -> Result<PostgresConfig, Problem> {
        let text = format!("application_name=broadside keepalives_idle={} {}", MAX_SILENCE.as_secs(), self.driver);
        let mut server: tokio_postgres::Config =
            text.parse().map_err(|_| Problem::new("the driver does not accept these keys together"))?;
        let mut config = self.config;
        if config.hosts.is_empty() && config.host_addresses.is_empty() {
            config.hosts.push(DEFAULT_HOST.to_owned());
        }
        let (hosts, addresses) = (config.hosts.len(), config.host_addresses.len());
        if hosts != addresses && hosts != 0 && addresses != 0 {
            return Err(Problem::value("hostaddr", "as many addresses as there are hosts"));
        }
        if config.ports.len() > 1 && config.ports.len() != hosts.max(addresses) {
            return Err(Problem::value("port", "one port or as many as there are hosts"));
        }
        if server.get_password().is_none_or(<[u8]>::is_empty)
            && let Some(file) = self.password_file.or(home_password_file).and_then(|path| password_file::read(&path))
            && let Some(password) = stored_password(&file, &config, &server)?
        {
            server.password(password);
        }
        Ok(PostgresConfig { server: Box::new(server), ..config })
    }
}

/// The password of a server in the password file.
fn stored_password(
    file: &[u8],
    config: &PostgresConfig,
    server: &tokio_postgres::Config,
) -> Result<Option<Vec<u8>>, Problem> {
    // The driver's defaults are the user of the process and the database with the name of the user.
    let user = server.get_user().map_or_else(|| whoami::username().unwrap_or_default().into(), Cow::from);
    let database = server.get_dbname().unwrap_or(&user);
    let (hosts, addresses) = (&config.hosts, &config.host_addresses);
    let found: BTreeSet<_> = (0..hosts.len().max(addresses.len()))
        .filter_map(|at| {
            let host = hosts.get(at).map_or_else(|| addresses[at].to_string(), |host| listed_host(host).to_owned());
            let port = config.port(at).to_string();
            password_file::find(file, Login { host: &host, port: &port, database, user: &user })
        })
        .collect();
    match found.len() {
        0 | 1 => Ok(found.into_iter().next()),
        _ => Err(Problem::new("the password file has different passwords for the hosts, which is not supported")),
    }
}

/// The name of a host in the password file: `localhost` for the default socket directories.
fn listed_host(host: &str) -> &str {
    match host {
        "/var/run/postgresql" | "/run/postgresql" | "/tmp" => DEFAULT_HOST,
        host => host,
    }
}

/// The value at the start of `text` and the text after it; `None` if a quote is not closed.
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

fn ssl_mode(value: &str) -> Option<SslMode> {
    match value {
        "disable" => Some(SslMode::Disable),
        "prefer" => Some(SslMode::Prefer),
        "require" => Some(SslMode::Require),
        "verify-ca" => Some(SslMode::VerifyCa),
        "verify-full" => Some(SslMode::VerifyFull),
        _ => None,
    }
}

fn target_session_attrs(value: &str) -> Option<TargetSessionAttrs> {
    match value {
        "any" => Some(TargetSessionAttrs::Any),
        "read-write" => Some(TargetSessionAttrs::ReadWrite),
        "read-only" => Some(TargetSessionAttrs::ReadOnly),
        "primary" => Some(TargetSessionAttrs::Primary),
        "standby" => Some(TargetSessionAttrs::Standby),
        "prefer-standby" => Some(TargetSessionAttrs::PreferStandby),
        _ => None,
    }
}

fn queries(value: &str) -> Option<Queries> {
    match value {
        "indexed" => Some(Queries::Indexed),
        "lookout" => Some(Queries::Lookout),
        _ => None,
    }
}

/// As in libpq, zero and negative numbers mean no limit.
fn connect_timeout(value: &str) -> Option<Duration> {
    let unlimited = number(value, f64::from(i32::MIN), 0.0).map(|_| Duration::from_secs(MAX_SECONDS.into()));
    unlimited.or_else(|| seconds(value))
}

#[cfg(test)]
mod tests;
