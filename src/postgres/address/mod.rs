//! Addresses, parsed by libpq's rules: a URL and `key=value` text become the same pairs, environment variables add
//! missing keys, and the driver's own parser reads the values.

mod service;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use tokio_postgres::Config as DriverConfig;
use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts};

use super::config::{DEFAULT_HOST, DEFAULT_PORT, PostgresConfig};
use super::layout::Layout;
use super::settings;
use crate::address::{
    HOST, Keys, MAX_SECONDS, Problem, UrlParts, decode, host_and_port, is_host, number, plain, put, seconds, word,
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
const MAX_CONNECTIONS: usize = 262_143;
/// The server's upper limit of `statement_timeout`, which is in milliseconds.
const MAX_STATEMENT_SECONDS: f64 = i32::MAX as f64 / 1000.0;
/// The maximum length of a name; the server truncates longer ones.
const MAX_NAME_BYTES: usize = 63;

const SECONDS: &str = "a number of seconds from 0 to 2147483647";
const TEXT: &str = "a text";
const OPTIONS: &str = "settings: -c name=value or --name=value";
const TRUE_OR_FALSE: &str = "true or false";
const WHOLE_NUMBER: &str = "a whole number";
const SESSIONS: &str = "any, read-write, read-only, primary, standby or prefer-standby";
const SSL_MODES: &str = "disable, prefer, require, verify-ca or verify-full";

/// The keys of addresses, each with its setter.
const KEYS: Keys<PostgresConfig> = Keys(&[
    ("host", set_hosts),
    ("hostaddr", |config, value| {
        let addresses = value.split(',').map(|address| address.parse().ok()).collect();
        put(&mut config.host_addresses, addresses, "an IP address, or several with commas")
    }),
    ("port", set_ports),
    ("user", |config, value| driver(config, |server| server.user(value))),
    ("password", |config, value| driver(config, |server| server.password(value))),
    ("passfile", |config, value| put(&mut config.password_file, Some(Some(value.into())), TEXT)),
    ("dbname", |config, value| driver(config, |server| server.dbname(value))),
    ("application_name", |config, value| driver(config, |server| server.application_name(value))),
    ("options", |config, value| put(&mut config.settings, settings::parse_options(value), OPTIONS)),
    // Its keys are those of the file, which `into_config` reads.
    ("service", |_, _| Ok(())),
    ("sslmode", |config, value| put(&mut config.ssl_mode, word(value), SSL_MODES)),
    ("sslrootcert", |config, value| put(&mut config.ssl_root_cert, Some(Some(value.into())), TEXT)),
    ("sslcert", |config, value| put(&mut config.ssl_cert, Some(Some(value.into())), TEXT)),
    ("sslkey", |config, value| put(&mut config.ssl_key, Some(Some(value.into())), TEXT)),
    ("sslpassword", |config, value| put(&mut config.ssl_password, Some(Some(value.to_owned())), TEXT)),
    ("connect_timeout", |config, value| put(&mut config.connect_timeout, connect_timeout(value), SECONDS)),
    ("keepalives", |config, value| {
        let is_enabled = value.parse::<u64>().map_err(|_| "0 or 1")? != 0;
        driver(config, |server| server.keepalives(is_enabled))
    }),
    ("keepalives_idle", |config, value| set_unless_default(value, |time| config.server.keepalives_idle(time))),
    ("keepalives_interval", |config, value| set_unless_default(value, |time| config.server.keepalives_interval(time))),
    ("keepalives_count", |config, value| {
        let count = value.parse().map_err(|_| WHOLE_NUMBER)?;
        driver(config, |server| server.keepalives_retries(count))
    }),
    ("tcp_user_timeout", |config, value| {
        let timeout = number(value, 0, MAX_SECONDS.into()).map(Duration::from_millis);
        put(&mut config.tcp_user_timeout, timeout, "a number of milliseconds from 0 to 2147483647")
    }),
    ("target_session_attrs", |config, value| put(&mut config.target_session_attrs, word(value), SESSIONS)),
    ("channel_binding", |config, value| {
        let binding = match value {
            "disable" => ChannelBinding::Disable,
            "prefer" => ChannelBinding::Prefer,
            "require" => ChannelBinding::Require,
            _ => return Err("disable, prefer or require"),
        };
        driver(config, |server| server.channel_binding(binding))
    }),
    ("load_balance_hosts", |config, value| {
        let balance = match value {
            "disable" => LoadBalanceHosts::Disable,
            "random" => LoadBalanceHosts::Random,
            _ => return Err("disable or random"),
        };
        driver(config, |server| server.load_balance_hosts(balance))
    }),
    ("schema", |config, value| {
        let name = (1..=MAX_NAME_BYTES).contains(&value.len()).then(|| Some(value.to_owned()));
        put(&mut config.schema, name, "a name of 1 to 63 bytes")
    }),
    ("pool_size", |config, value| {
        put(&mut config.pool_size, number(value, 1, MAX_CONNECTIONS), "a whole number from 1 to 262143")
    }),
    ("acquire_timeout", |config, value| put(&mut config.acquire_timeout, seconds(value), SECONDS)),
    ("max_lifetime", |config, value| put(&mut config.max_lifetime, seconds(value), SECONDS)),
    ("max_idle_time", |config, value| put(&mut config.max_idle_time, seconds(value), SECONDS)),
    ("statement_timeout", |config, value| {
        let timeout = number(value, 0.0, MAX_STATEMENT_SECONDS).map(Duration::from_secs_f64).map(Some);
        put(&mut config.statement_timeout, timeout, "a number of seconds from 0 to 2147483.647")
    }),
    ("statement_cache", |config, value| {
        let size = number(value, 1, MAX_SECONDS as usize);
        put(&mut config.statement_cache, size, "a whole number from 1 to 2147483647")
    }),
    ("hot_cold_split", |config, value| {
        set_layout(config, value, Layout::HotColdSplit, "false where partition_by_submitted is true")
    }),
    ("partition_by_submitted", |config, value| {
        set_layout(config, value, Layout::PartitionBySubmitted, "false where hot_cold_split is true")
    }),
    ("compression", |config, value| put(&mut config.compression, word(value), "zlib or none")),
    ("queries", |config, value| put(&mut config.queries, word(value), "indexed or lookout")),
    ("tuning_sql", |config, value| put(&mut config.tuning_sql, Some(vec![value.to_owned()]), TEXT)),
    ("revert_sql", |config, value| put(&mut config.revert_sql, Some(vec![value.to_owned()]), TEXT)),
    ("adopt", |config, value| put(&mut config.adopt, value.parse().ok(), TRUE_OR_FALSE)),
]);

fn set_hosts(config: &mut PostgresConfig, value: &str) -> Result<(), &'static str> {
    let named = |host: &str| if host.is_empty() { DEFAULT_HOST.to_owned() } else { host.to_owned() };
    let hosts: Vec<_> = value.split(',').map(named).collect();
    let valid = hosts.iter().all(|host| is_host(host) || (cfg!(unix) && host.starts_with('/')));
    put(&mut config.hosts, valid.then_some(hosts), HOST)
}

fn set_ports(config: &mut PostgresConfig, value: &str) -> Result<(), &'static str> {
    const PORTS: &str = "a number from 1 to 65535, or several with commas";
    let port = |port: &str| if port.is_empty() { Some(DEFAULT_PORT) } else { number(port, 1, u16::MAX) };
    put(&mut config.ports, value.split(',').map(port).collect(), PORTS)
}

fn set_layout(
    config: &mut PostgresConfig,
    value: &str,
    layout: Layout,
    excluded: &'static str,
) -> Result<(), &'static str> {
    if value.parse().map_err(|_| TRUE_OR_FALSE)? {
        if ![Layout::Lookout, layout].contains(&config.layout) {
            return Err(excluded);
        }
        config.layout = layout;
    }
    Ok(())
}

/// Sets a key of the driver.
fn driver(
    config: &mut PostgresConfig,
    set: impl FnOnce(&mut DriverConfig) -> &mut DriverConfig,
) -> Result<(), &'static str> {
    set(&mut config.server);
    Ok(())
}

/// Sets a number of seconds. As in libpq, zero and negative numbers mean the default.
fn set_unless_default<'c>(value: &str, set: impl FnOnce(Duration) -> &'c mut DriverConfig) -> Result<(), &'static str> {
    let seconds = value.parse::<i64>().map_err(|_| WHOLE_NUMBER)?;
    if let Some(seconds) = u64::try_from(seconds).ok().filter(|&seconds| seconds > 0) {
        set(Duration::from_secs(seconds));
    }
    Ok(())
}

/// As in libpq, zero and negative numbers mean no limit.
fn connect_timeout(value: &str) -> Option<Duration> {
    let unlimited = number(value, f64::from(i32::MIN), 0.0).map(|_| Duration::from_secs(MAX_SECONDS.into()));
    unlimited.or_else(|| seconds(value))
}

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

    /// Sets a key of an address, such as `host` or `pool_size`.
    ///
    /// # Errors
    ///
    /// As [`from_url`](Self::from_url).
    pub fn with(mut self, key: &str, value: impl ToString) -> Result<Self> {
        let mut set = |value: &str| {
            let key = KEYS.find(1, key)?;
            if key == "service" {
                return Err(Problem::new("a service is read only with an address"));
            }
            KEYS.set(&mut self, key, plain(key, value)?)
        };
        set(&value.to_string()).map_err(|problem| problem.into_error(BackendKind::Postgres))?;
        Ok(self)
    }

    /// Checks the keys that depend on others.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let (hosts, addresses) = (self.hosts.len(), self.host_addresses.len());
        if hosts != addresses && hosts != 0 && addresses != 0 {
            return Err(Problem::value("hostaddr", "as many addresses as there are hosts"));
        }
        if self.ports.len() > 1 && self.ports.len() != hosts.max(addresses) {
            return Err(Problem::value("port", "one port or as many as there are hosts"));
        }
        Ok(())
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
        let home = variable("HOME").map(|home| Path::new(&home).join(".pgpass"));
        let mut config = PostgresConfig { password_file: home, ..PostgresConfig::default() };
        for (&key, value) in &self.0 {
            KEYS.set(&mut config, key, value)?;
        }
        for (name, key) in VARIABLES {
            let value = variable(name).filter(|value| !value.is_empty() && !self.0.contains_key(key));
            let Some(value) = value else { continue };
            let value = value.to_str().ok_or(Problem::new("not UTF-8").within(name))?;
            KEYS.set(&mut config, key, value).map_err(|problem| problem.within(name))?;
        }
        config.check()?;
        Ok(config)
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

#[cfg(test)]
mod tests;
