//! From an address to a configuration, by libpq's rules: a URL and `key=value` text are turned into the
//! same pairs, variables of the environment add what is missing, and the driver's own parser reads the values.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::config::Host;

use super::config::{PostgresConfig, SslMode};
use super::layout::Layout;
use super::password_file::{self, Login};
use crate::address::{
    HOST, Keys, MAX_SECONDS, Problem, UrlParts, decode, host_and_port, is_host, number, plain, put, seconds,
};
use crate::error::{BackendKind, Result};

/// What a URL of PostgreSQL begins with.
pub(crate) const URL_PREFIXES: [&str; 2] = ["postgres://", "postgresql://"];

/// The variables that give a key its value where the address does not.
const VARIABLES: [(&str, &str); 15] = [
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
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
];

/// More connections than any server accepts.
const MOST_CONNECTIONS: usize = 262_143;
/// The greatest `statement_timeout` of the server, whose unit is the millisecond.
const MOST_STATEMENT_SECONDS: f64 = i32::MAX as f64 / 1000.0;
/// A longer name would be cut by the server.
const LONGEST_NAME: usize = 63;

const SECONDS: &str = "a number of seconds from 0 to 2147483647";
const TEXT: &str = "a text";
const TRUE_OR_FALSE: &str = "true or false";
const WHOLE_NUMBER: &str = "a whole number";
const SSL_MODES: &str = "disable, prefer, require, verify-ca or verify-full";

/// The one table of keys: what each does to the configuration.
const KEYS: Keys<Draft> = Keys(&[
    ("host", Draft::set_hosts),
    ("hostaddr", |draft, value| draft.set_driver("hostaddr", value, "an IP address, or several with commas")),
    ("port", Draft::set_ports),
    ("user", |draft, value| draft.set_driver("user", value, TEXT)),
    ("password", |draft, value| draft.set_driver("password", value, TEXT)),
    ("passfile", |draft, value| put(&mut draft.password_file, Some(Some(value.into())), TEXT)),
    ("dbname", |draft, value| draft.set_driver("dbname", value, TEXT)),
    ("application_name", |draft, value| draft.set_driver("application_name", value, TEXT)),
    ("options", |draft, value| put(&mut draft.config.options, Some(value.to_owned()), TEXT)),
    ("sslmode", |draft, value| put(&mut draft.config.ssl_mode, ssl_mode(value), SSL_MODES)),
    ("sslrootcert", |draft, value| put(&mut draft.config.ssl_root_cert, Some(Some(value.into())), TEXT)),
    ("connect_timeout", |draft, value| put(&mut draft.config.connect_timeout, connect_timeout(value), SECONDS)),
    ("keepalives", |draft, value| draft.set_driver("keepalives", value, "0 or 1")),
    ("keepalives_idle", |draft, value| draft.set_driver("keepalives_idle", value, WHOLE_NUMBER)),
    ("keepalives_interval", |draft, value| draft.set_driver("keepalives_interval", value, WHOLE_NUMBER)),
    ("keepalives_count", |draft, value| draft.set_driver("keepalives_retries", value, WHOLE_NUMBER)),
    ("target_session_attrs", |draft, value| {
        draft.set_driver("target_session_attrs", value, "any, read-write or read-only")
    }),
    ("channel_binding", |draft, value| draft.set_driver("channel_binding", value, "disable, prefer or require")),
    ("load_balance_hosts", |draft, value| draft.set_driver("load_balance_hosts", value, "disable or random")),
    ("schema", |draft, value| {
        let name = (1..=LONGEST_NAME).contains(&value.len()).then(|| Some(value.to_owned()));
        put(&mut draft.config.schema, name, "a name of 1 to 63 bytes")
    }),
    ("pool_size", |draft, value| {
        put(&mut draft.config.pool_size, number(value, 1, MOST_CONNECTIONS), "a whole number from 1 to 262143")
    }),
    ("acquire_timeout", |draft, value| put(&mut draft.config.acquire_timeout, seconds(value), SECONDS)),
    ("statement_timeout", |draft, value| {
        let timeout = number(value, 0.0, MOST_STATEMENT_SECONDS).map(Duration::from_secs_f64);
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
    ("tuning_sql", |draft, value| put(&mut draft.config.tuning_sql, Some(value.to_owned()), TEXT)),
    ("revert_sql", |draft, value| put(&mut draft.config.revert_sql, Some(value.to_owned()), TEXT)),
    ("adopt", |draft, value| put(&mut draft.config.adopt, value.parse().ok(), TRUE_OR_FALSE)),
]);

impl PostgresConfig {
    /// From a `postgres://` or `postgresql://` URL, by libpq's rules: hosts may be a list, a plus is a plus, and
    /// a key of the query takes precedence over the part before it.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` saying which part, or which key by its position, is malformed or unknown. Nothing of
    /// the address is quoted, for any of it may be a password.
    pub fn from_url(url: &str) -> Result<Self> {
        configured(Pairs::of_url(url))
    }

    /// From libpq's `key=value` text: values may stand in single quotes, and a backslash takes the next
    /// character as it is.
    ///
    /// # Errors
    ///
    /// As [`from_url`](Self::from_url).
    pub fn from_key_values(text: &str) -> Result<Self> {
        configured(Pairs::of_key_values(text))
    }

    /// From pairs of key and value.
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

/// Values by their keys.
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
            let (value, tail) = take_value(value.trim_start()).ok_or(Problem::new("a quote is never closed"))?;
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
        // libpq's own rule, for the sake of JDBC's addresses.
        let (key, value) = if (key, value) == ("ssl", "true") { ("sslmode", "require") } else { (key, value) };
        let key = KEYS.find(position, key)?;
        self.0.insert(key, plain(key, value)?.to_owned());
        Ok(())
    }

    /// The configuration; `variable` looks up the environment.
    fn into_config(self, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<PostgresConfig, Problem> {
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

/// A configuration whose keys are being set.
#[derive(Default)]
struct Draft {
    config: PostgresConfig,
    /// The keys that the driver reads, as it reads them.
    driver: String,
    password_file: Option<PathBuf>,
}

impl Draft {
    fn set_hosts(&mut self, value: &str) -> Result<(), &'static str> {
        let hosts: Vec<_> = value.split(',').map(|host| if host.is_empty() { "localhost" } else { host }).collect();
        let valid = hosts.iter().all(|host| is_host(host) || (cfg!(unix) && host.starts_with('/')));
        if valid { self.set_driver("host", &hosts.join(","), HOST) } else { Err(HOST) }
    }

    fn set_ports(&mut self, value: &str) -> Result<(), &'static str> {
        const PORTS: &str = "a number from 1 to 65535, or several with commas";
        let valid = value.split(',').all(|port| port.is_empty() || number(port, 1, u16::MAX).is_some());
        if valid { self.set_driver("port", value, PORTS) } else { Err(PORTS) }
    }

    /// Leaves a key to the driver, whose error would quote the value.
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
        let text = format!("application_name=broadside {}", self.driver);
        let mut server: tokio_postgres::Config =
            text.parse().map_err(|_| Problem::new("the driver does not accept these keys together"))?;
        if server.get_hosts().is_empty() && server.get_hostaddrs().is_empty() {
            server.host("localhost");
        }
        let (hosts, addresses, ports) = (server.get_hosts(), server.get_hostaddrs(), server.get_ports());
        if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
            return Err(Problem::value("hostaddr", "as many addresses as there are hosts"));
        }
        if ports.len() > 1 && ports.len() != hosts.len().max(addresses.len()) {
            return Err(Problem::value("port", "one port or as many as there are hosts"));
        }
        if server.get_password().is_none_or(<[u8]>::is_empty)
            && let Some(file) = self.password_file.or(home_password_file).and_then(|path| password_file::read(&path))
            && let Some(password) = stored_password(&file, &server)?
        {
            server.password(password);
        }
        Ok(PostgresConfig { server: Box::new(server), ..self.config })
    }
}

/// The password that the password file has for a server.
fn stored_password(file: &[u8], server: &tokio_postgres::Config) -> Result<Option<Vec<u8>>, Problem> {
    // As the driver has it: the user of the process, and the database of the user's name.
    let user = server.get_user().map_or_else(|| whoami::username().unwrap_or_default().into(), Cow::from);
    let database = server.get_dbname().unwrap_or(&user);
    let (hosts, addresses, ports) = (server.get_hosts(), server.get_hostaddrs(), server.get_ports());
    let found: BTreeSet<_> = (0..hosts.len().max(addresses.len()))
        .filter_map(|at| {
            let host = hosts.get(at).map_or_else(|| addresses[at].to_string(), listed_host);
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432).to_string();
            password_file::find(file, Login { host: &host, port: &port, database, user: &user })
        })
        .collect();
    match found.len() {
        0 | 1 => Ok(found.into_iter().next()),
        _ => Err(Problem::new("the password file has different passwords for the hosts, and the driver takes one")),
    }
}

/// A host as the password file lists it: the default directories of sockets are `localhost`.
fn listed_host(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path)
            if ["/var/run/postgresql", "/run/postgresql", "/tmp"].map(Path::new).contains(&path.as_path()) =>
        {
            "localhost".to_owned()
        }
        #[cfg(unix)]
        Host::Unix(path) => path.to_string_lossy().into_owned(),
    }
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

/// libpq waits without limit where the number is not above 0.
fn connect_timeout(value: &str) -> Option<Duration> {
    let unlimited = number(value, f64::from(i32::MIN), 0.0).map(|_| Duration::from_secs(MAX_SECONDS.into()));
    unlimited.or_else(|| seconds(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read in an empty environment.
    fn read(text: &str) -> Result<PostgresConfig, Problem> {
        read_in(text, &[])
    }

    fn read_in(text: &str, environment: &[(&str, &str)]) -> Result<PostgresConfig, Problem> {
        let pairs = if text.contains("://") { Pairs::of_url(text) } else { Pairs::of_key_values(text) };
        let value =
            |name: &str| environment.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.into());
        pairs?.into_config(&value)
    }

    fn tcp(names: &[&str]) -> Vec<Host> {
        names.iter().map(|&name| Host::Tcp(name.to_owned())).collect()
    }

    #[test]
    fn a_url_and_its_key_values_mean_the_same() {
        let url = "postgres://us%20er:p%40ss%25@example.com:5433/d%2Fb?sslmode=verify-full&schema=s&pool_size=3";
        let text = r"host=example.com port = 5433 user='us er' password='p@ss%' dbname=d/b sslmode=verify-full
            schema=s pool_size=3";
        for config in [read(url).unwrap(), read(text).unwrap()] {
            assert_eq!(config.server.get_user(), Some("us er"));
            assert_eq!(config.server.get_password(), Some(b"p@ss%".as_slice()));
            assert_eq!(config.server.get_dbname(), Some("d/b"));
            assert_eq!(config.server.get_ports(), [5433]);
            assert_eq!(config.server.get_hosts(), tcp(&["example.com"]));
            assert_eq!(config.server.get_application_name(), Some("broadside"));
            assert_eq!(config.ssl_mode, SslMode::VerifyFull);
            assert_eq!(config.schema.as_deref(), Some("s"));
            assert_eq!(config.pool_size, 3);
        }
    }

    #[test]
    fn urls_are_read_by_libpqs_rules() {
        let server = |url: &str| *read(url).unwrap().server;
        let config = server("postgresql://u@h1:1,h2,[::1]:3/d");
        assert_eq!(config.get_hosts(), tcp(&["h1", "h2", "::1"]));
        assert_eq!(config.get_ports(), [1, 5432, 3]);
        let config = server("postgres://u:p+q@h/d?application_name=a+b%20c&password=r@s");
        assert_eq!(config.get_application_name(), Some("a+b c"));
        assert_eq!(config.get_password(), Some(b"r@s".as_slice()));
        // A key of the query takes precedence, and the last of two.
        let config = server("postgres://h1:1/d?host=h2&port=2&port=3");
        assert_eq!((config.get_hosts(), config.get_ports()), (&tcp(&["h2"])[..], &[3][..]));
        assert_eq!(server("postgres://").get_hosts(), tcp(&["localhost"]));
        assert_eq!(server("postgres://h,/d").get_hosts(), tcp(&["h", "localhost"]));
        assert_eq!(read("postgres://h/d?ssl=true").unwrap().ssl_mode, SslMode::Require);
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_is_a_host() {
        for text in ["postgres://user@/db?host=/dir", "postgres://user@%2Fdir/db", "host=/dir user=user dbname=db"] {
            let config = read(text).unwrap().server;
            assert_eq!(config.get_hosts(), [Host::Unix("/dir".into())]);
            assert_eq!((config.get_user(), config.get_dbname()), (Some("user"), Some("db")));
        }
    }

    #[test]
    fn quotes_and_backslashes_are_those_of_libpq() {
        let config = read(r"user='it\'s \\' password=a\ b\'c application_name=''").unwrap().server;
        assert_eq!(config.get_user(), Some(r"it's \"));
        assert_eq!(config.get_password(), Some(b"a b'c".as_slice()));
        assert_eq!(config.get_application_name(), Some(""));
    }

    #[test]
    fn a_timeout_of_zero_is_no_limit() {
        for value in ["0", "-1"] {
            let config = read(&format!("connect_timeout={value}")).unwrap();
            assert_eq!(config.connect_timeout, Duration::from_secs(MAX_SECONDS.into()));
        }
        assert_eq!(read("connect_timeout=1.5").unwrap().connect_timeout, Duration::from_millis(1500));
        assert_eq!(read("statement_timeout=0").unwrap().statement_timeout, Duration::ZERO);
    }

    #[test]
    fn errors_name_the_key_and_quote_nothing() {
        for (query, named) in [
            ("colour=hunter2", "key 1 is unknown; the keys are host, hostaddr, port"),
            ("sslmode=disable&hunter2=1", "key 2 is unknown; the keys are host"),
            ("hunter2", "a key of the query has no ="),
            ("pool_size=0", "pool_size must be a whole number from 1 to"),
            ("pool_size=hunter2", "pool_size must be"),
            ("pool_size=9000000000000000000", "pool_size must be"),
            ("connect_timeout=10000000000000000000", "connect_timeout must be a number of seconds"),
            ("connect_timeout=NaN", "connect_timeout must be"),
            ("acquire_timeout=1e300", "acquire_timeout must be"),
            ("statement_timeout=2147484", "statement_timeout must be"),
            ("statement_cache=9000000000000000000", "statement_cache must be"),
            ("keepalives_idle=10000000000000000000", "keepalives_idle must be"),
            ("keepalives_count=-1", "keepalives_count must be"),
            ("port=hunter2", "port must be a number from 1 to 65535"),
            ("port=0", "port must be"),
            ("port=1,2", "port must be one port or as many as there are hosts"),
            ("hostaddr=1.2.3.4,1.2.3.5", "hostaddr must be as many addresses"),
            ("hostaddr=hunter2", "hostaddr must be an IP address"),
            ("host=a%20b", "host must be a host name"),
            ("sslmode=hunter2", "sslmode must be disable, prefer"),
            ("target_session_attrs=hunter2", "target_session_attrs must be any"),
            ("schema=", "schema must be a name"),
            ("hot_cold_split=hunter2", "hot_cold_split must be true or false"),
            ("hot_cold_split=true&partition_by_submitted=true", "partition_by_submitted must be false"),
            ("application_name=100%", "a % is not followed by two hexadecimal digits"),
            ("user=a%00b", "a NUL character"),
        ] {
            let problem =
                read(&format!("postgres://u:hunter2@h/d?{query}")).unwrap_err().into_error(BackendKind::Postgres);
            assert_eq!(problem.kind(), crate::ErrorKind::InvalidArgument);
            assert!(problem.message().contains(named), "{query}: {problem}");
            assert!(!format!("{problem} {problem:?}").contains("hunter2"), "{query}: {problem:?}");
        }
        let long = format!("schema={}", "s".repeat(64));
        assert_eq!(read(&long).unwrap_err(), Problem::value("schema", "a name of 1 to 63 bytes"));
    }

    #[test]
    fn malformed_texts_are_refused() {
        for text in [
            "password=my secret host=h",
            "password='hunter2",
            "host",
            "=h",
            "host=h =x",
            "postgres://u:p@w@h/d",
            "postgres://[::1/d",
            "postgres://[::1]5/d",
            "postgres://u:pa/w@h/d",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_environment_adds_what_is_missing() {
        let environment =
            [("PGHOST", "e"), ("PGPORT", "7"), ("PGUSER", "eu"), ("PGPASSWORD", "ep"), ("PGSSLMODE", "require")];
        let config = read_in("postgres://u@/d", &environment).unwrap();
        assert_eq!(config.server.get_hosts(), tcp(&["e"]));
        assert_eq!(config.server.get_ports(), [7]);
        assert_eq!(config.server.get_user(), Some("u"));
        assert_eq!(config.server.get_password(), Some(b"ep".as_slice()));
        assert_eq!(config.ssl_mode, SslMode::Require);
        let config = read_in("postgres://u:p@h:1/d", &environment).unwrap().server;
        assert_eq!((config.get_password(), config.get_ports()), (Some(b"p".as_slice()), &[1][..]));
        let problem = read_in("host=h", &[("PGPORT", "hunter2")]).unwrap_err();
        assert_eq!(
            problem,
            Problem::value("port", "a number from 1 to 65535, or several with commas").within("PGPORT")
        );
    }

    #[test]
    fn the_password_file_is_looked_up_by_all_of_a_login() {
        let password = |text: &str, file: &str| stored_password(file.as_bytes(), &read(text).unwrap().server);
        let found = |text: &str| Ok(Some(text.as_bytes().to_vec()));
        assert_eq!(password("host=h user=u dbname=d", "h:5432:x:u:no\nh:5432:d:u:yes"), found("yes"));
        assert_eq!(password("host=h port=1 user=u", "h:1:u:u:yes"), found("yes"));
        assert_eq!(password("hostaddr=::1 user=u", r"\:\:1:*:*:u:yes"), found("yes"));
        assert_eq!(password("host=a,b user=u", "b:*:*:u:yes"), found("yes"));
        assert!(password("host=a,b user=u", "a:*:*:u:1\nb:*:*:u:2").is_err());
        assert_eq!(password("host=h user=u", "h:*:*:other:no"), Ok(None));
        #[cfg(unix)]
        assert_eq!(password("host=/tmp user=u", "localhost:*:*:u:yes"), found("yes"));
    }

    #[test]
    fn debug_shows_nothing_of_the_address() {
        let config = read("postgres://hunter1:hunter2@hunter3/hunter4?options=hunter5&schema=hunter6").unwrap();
        assert!(!format!("{config:?}").contains("hunter"), "{config:?}");
    }
}
