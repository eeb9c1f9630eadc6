//! The database of a load test: the section `databaseConfig`.

use std::collections::BTreeMap;
use std::net::IpAddr;
#[cfg(feature = "clickhouse")]
use std::net::Ipv6Addr;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::value::Value;
#[cfg(feature = "clickhouse")]
use crate::address::is_host;
use crate::connect::DatabaseConfig;
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
#[cfg(feature = "postgres")]
use crate::load::duration::parse_duration;
#[cfg(feature = "postgres")]
use crate::postgres::PostgresConfig;

/// The user of ClickHouse if there is no key for it.
#[cfg(feature = "clickhouse")]
const DEFAULT_USER: &str = "default";
/// The default ports of ClickHouse's native protocol.
const NATIVE_PORTS: [&str; 2] = ["9000", "9440"];
/// The warning of a key that only applies to the server of the configuration.
const OPENED_BY_CALLER: &str = "has no effect, because the store is not opened by this configuration";
const TUNING_SQL: &str = "postgresTuningSQL";
const TUNING_REVERT_SQL: &str = "postgresTuningRevertSQL";
const HOT_COLD_SPLIT: &str = "hotColdSplit";
const PARTITION_BY_SUBMITTED: &str = "partitionBySubmitted";
/// The placeholder for a value that may be a secret.
const SECRET: &str = "********";
/// The keys of PostgreSQL that only apply to the pool or the statements of pgx, Armada's driver.
const ONLY_OF_PGX: [&str; 7] = [
    "default_query_exec_mode",
    "description_cache_capacity",
    "pool_health_check_period",
    "pool_max_conn_lifetime_jitter",
    "pool_min_conns",
    "pool_min_idle_conns",
    "pool_ping_timeout",
];
/// The keys that pgx does not pass to the server, and that change how it connects in ways that are not supported.
#[cfg(feature = "postgres")]
const UNSUPPORTED: [&str; 8] = [
    "krbspn",
    "krbsrvname",
    "max_protocol_version",
    "min_protocol_version",
    "require_auth",
    "servicefile",
    "sslnegotiation",
    "sslsni",
];

/// The database of a load test. The default is the memory engine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadDatabase {
    /// The server, or the memory engine.
    pub target: LoadTarget,
    /// PostgreSQL statements to execute after the schema is initialised.
    pub tuning_sql: Vec<String>,
    /// PostgreSQL statements that revert them, executed by the tear-down.
    pub tuning_revert_sql: Vec<String>,
    /// Whether PostgreSQL stores terminal jobs in a separate table.
    pub hot_cold_split: bool,
    /// Whether PostgreSQL partitions jobs by the day of submission.
    pub partition_by_submitted: bool,
}

/// The target of a load test: a backend and its connection parameters.
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub enum LoadTarget {
    /// The memory engine.
    #[default]
    Memory,
    /// PostgreSQL, with the connection parameters of pgx, Armada's driver, and settings of the server.
    Postgres(BTreeMap<String, String>),
    /// ClickHouse, with host, port, database, user, password, secure and the query parameters of its URL.
    ClickHouse(BTreeMap<String, String>),
    /// A store that the caller opens.
    External(BackendKind),
}

impl std::fmt::Debug for LoadTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, parameters) = self.parameters();
        f.debug_struct(name).field("parameters", &redacted(parameters).collect::<BTreeMap<_, _>>()).finish()
    }
}

impl LoadTarget {
    fn parameters(&self) -> (&'static str, Option<&BTreeMap<String, String>>) {
        match self {
            Self::Memory => ("inMemory", None),
            Self::Postgres(parameters) => ("postgres", Some(parameters)),
            Self::ClickHouse(parameters) => ("clickHouse", Some(parameters)),
            Self::External(BackendKind::Memory) => ("inMemory", None),
            Self::External(BackendKind::Postgres) => ("postgres", None),
            Self::External(BackendKind::ClickHouse) => ("clickHouse", None),
            Self::External(BackendKind::Other(name)) => (name, None),
        }
    }
}

/// The parameters, with values that may be secrets replaced by the placeholder.
fn redacted(parameters: Option<&BTreeMap<String, String>>) -> impl Iterator<Item = (&str, &str)> {
    let parameters = parameters.into_iter().flatten();
    parameters.map(|(key, value)| (key.as_str(), if may_be_secret(key, value) { SECRET } else { value.as_str() }))
}

/// Returns false for names that locate the server, and for numbers, sizes, times and switches of other keys. In a
/// mistyped address, any other text may be a password.
fn may_be_secret(key: &str, value: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || "_-./,".contains(c);
    let of_quantity = value.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    match key {
        "host" | "hostaddr" => {
            !value.split(',').all(|host| host.chars().all(is_name) || host.parse::<IpAddr>().is_ok())
        }
        "port" | "database" | "user" | "username" | "sslmode" => !value.chars().all(is_name),
        _ if ["pass", "secret", "token", "key"].iter().any(|part| key.contains(part)) => true,
        _ => {
            !["", "ns", "us", "ms", "s", "m", "min", "h", "d", "B", "kB", "MB", "GB", "TB"].contains(&of_quantity)
                && !["true", "false", "on", "off"].contains(&value)
        }
    }
}

impl Serialize for LoadDatabase {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.target.parameters() {
            (name, None) => map.serialize_entry(name, &true)?,
            (name, parameters) => map.serialize_entry(name, &redacted(parameters).collect::<BTreeMap<_, _>>())?,
        }
        for (key, statements) in [(TUNING_SQL, &self.tuning_sql), (TUNING_REVERT_SQL, &self.tuning_revert_sql)] {
            if !statements.is_empty() {
                map.serialize_entry(key, statements)?;
            }
        }
        for (key, value) in
            [(HOT_COLD_SPLIT, self.hot_cold_split), (PARTITION_BY_SUBMITTED, self.partition_by_submitted)]
        {
            if value {
                map.serialize_entry(key, &value)?;
            }
        }
        map.end()
    }
}

/// Reads the section and validates it. If the caller opens the store (`external`), the section may be absent, its
/// connection parameters are not validated, and its settings of PostgreSQL and the toggles have no effect.
pub(super) fn read(section: &Value<'_>, toggles: &Value<'_>, external: Option<BackendKind>) -> LoadDatabase {
    let server = |name| Some(section.key(name)).filter(Value::is_set);
    let targets = [
        server("postgres").map(|server| LoadTarget::Postgres(parameters(&server))),
        server("clickHouse").map(|server| LoadTarget::ClickHouse(parameters(&server))),
        section.key("inMemory").read::<bool>().then_some(LoadTarget::Memory),
    ];
    let targets: Vec<_> = targets.into_iter().flatten().collect();
    let count = targets.len();
    if external.is_none() && count != 1 {
        section.key("postgres").problem(format!("clickHouse and inMemory: exactly one must be set, not {count}"));
    }
    let database = LoadDatabase {
        target: external.map(LoadTarget::External).or(targets.into_iter().next()).unwrap_or_default(),
        tuning_sql: section.key(TUNING_SQL).read(),
        tuning_revert_sql: section.key(TUNING_REVERT_SQL).read(),
        hot_cold_split: toggles.key(HOT_COLD_SPLIT).read(),
        partition_by_submitted: toggles.key(PARTITION_BY_SUBMITTED).read(),
    };
    if database.hot_cold_split && database.partition_by_submitted {
        toggles.key(HOT_COLD_SPLIT).problem("and partitionBySubmitted are mutually exclusive");
    } else if external.is_none() && count == 1 {
        check(section, &database);
    }
    section.warn_of_unknown_keys(&["postgres", "clickHouse", "inMemory", TUNING_SQL, TUNING_REVERT_SQL]);
    toggles.warn_of_unknown_keys(&[HOT_COLD_SPLIT, PARTITION_BY_SUBMITTED]);
    if external.is_none() {
        return database;
    }
    section.warn_of_keys(&[TUNING_SQL, TUNING_REVERT_SQL], OPENED_BY_CALLER);
    toggles.warn_of_keys(&[HOT_COLD_SPLIT, PARTITION_BY_SUBMITTED], OPENED_BY_CALLER);
    LoadDatabase { target: database.target, ..LoadDatabase::default() }
}

/// The connection parameters of a server.
fn parameters(server: &Value<'_>) -> BTreeMap<String, String> {
    let key_of = |key: &str| match key.to_ascii_lowercase() {
        key if key == "dbname" => "database".to_owned(),
        key => key,
    };
    let pairs: BTreeMap<_, _> = server.entries().map(|(key, value)| (key_of(key), value.read())).collect();
    for name in ["host", "port", "database"] {
        if pairs.get(name).is_none_or(String::is_empty) {
            server.key(name).problem("must not be empty");
        }
    }
    pairs
}

#[cfg_attr(
    not(any(feature = "memory", feature = "postgres", feature = "clickhouse")),
    allow(irrefutable_let_patterns, reason = "without a backend, no configuration is valid")
)]
fn check(section: &Value<'_>, database: &LoadDatabase) {
    let (name, parameters) = database.target.parameters();
    let Some(parameters) = parameters else { return };
    if ["host", "port"].iter().any(|key| parameters.get(*key).is_none_or(String::is_empty)) {
        return;
    }
    let server = section.key(name);
    if let (LoadTarget::ClickHouse(_), Some(port)) = (&database.target, parameters.get("port"))
        && NATIVE_PORTS.contains(&port.as_str())
    {
        let message = "is a port of ClickHouse's native protocol; use the HTTP port, 8123 or 8443 by default";
        return server.key("port").problem(message);
    }
    // Each parameter is checked separately first, because the error messages contain neither keys nor values.
    let mut all_valid = true;
    for (key, value) in server.entries().filter(|(_, value)| !value.is_refused()) {
        if let Err(error) = database.with_one(&key.to_ascii_lowercase(), &value.read::<String>()).config() {
            value.problem(error.message());
            all_valid = false;
        }
    }
    if all_valid && let Err(error) = database.config() {
        server.problem(format!("cannot be used: {}", error.message()));
    }
    if let LoadTarget::Postgres(_) = database.target {
        server.warn_of_keys(&ONLY_OF_PGX, "has no effect, because it only applies to the driver of Armada");
    }
}

impl LoadDatabase {
    /// A server with one of the parameters. Its other parameters are valid, except for those that depend on each other.
    fn with_one(&self, key: &str, value: &str) -> Self {
        let with_one = |parameters: &BTreeMap<String, String>| {
            let mut one: BTreeMap<_, _> = [("host", "localhost"), ("port", "1"), ("database", "d")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into();
            if let ("port" | "hostaddr", Some(hosts)) = (key, parameters.get("host")) {
                one.insert("host".to_owned(), hosts.split(',').map(|_| "h").collect::<Vec<_>>().join(","));
            }
            one.insert(key.to_owned(), value.to_owned());
            one
        };
        let target = match &self.target {
            LoadTarget::Memory | LoadTarget::External(_) => LoadTarget::Memory,
            LoadTarget::Postgres(parameters) => LoadTarget::Postgres(with_one(parameters)),
            LoadTarget::ClickHouse(parameters) => LoadTarget::ClickHouse(with_one(parameters)),
        };
        Self { target, ..Self::default() }
    }

    /// The configuration of the backend.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if a key is unknown or a value is invalid, or if the build does not include the backend.
    pub fn config(&self) -> Result<DatabaseConfig> {
        match &self.target {
            LoadTarget::Memory => "memory".parse(),
            LoadTarget::External(backend) => backend.name().parse(),
            LoadTarget::Postgres(parameters) => self.postgres(parameters),
            LoadTarget::ClickHouse(parameters) => clickhouse(parameters),
        }
    }

    #[cfg(feature = "postgres")]
    fn postgres(&self, parameters: &BTreeMap<String, String>) -> Result<DatabaseConfig> {
        check_names(parameters)?;
        let mut pairs = BTreeMap::new();
        let mut settings = Vec::new();
        for (key, value) in parameters {
            let ours = match key.as_str() {
                "database" | "dbname" => "dbname",
                "pool_max_conns" => "pool_size",
                "statement_cache_capacity" => "statement_cache",
                "pool_max_conn_lifetime" | "pool_max_conn_idle_time" => {
                    let ours = if key == "pool_max_conn_lifetime" { "max_lifetime" } else { "max_idle_time" };
                    pairs.insert(ours.to_owned(), seconds(value)?);
                    continue;
                }
                key if ONLY_OF_PGX.contains(&key) => continue,
                key if UNSUPPORTED.contains(&key) => return Err(invalid("is not supported")),
                // The backend's key has another unit than the setting of the server.
                key if key != "statement_timeout" && PostgresConfig::has_key(key) => key,
                setting => {
                    settings.push((setting, value));
                    continue;
                }
            };
            pairs.insert(ours.to_owned(), value.clone());
        }
        let mut set = |key: &str, value: String| pairs.insert(key.to_owned(), value);
        if self.hot_cold_split {
            set("hot_cold_split", true.to_string());
        }
        if self.partition_by_submitted {
            set("partition_by_submitted", true.to_string());
        }
        let config = settings
            .into_iter()
            .try_fold(PostgresConfig::from_pairs(&pairs)?, |config, (name, value)| config.with_setting(name, value))?;
        Ok(config.with_tuning_sql(&self.tuning_sql).with_revert_sql(&self.tuning_revert_sql).into())
    }

    #[cfg(not(feature = "postgres"))]
    fn postgres(&self, _parameters: &BTreeMap<String, String>) -> Result<DatabaseConfig> {
        Err(not_in_this_build("postgres"))
    }

    /// The address without secrets.
    pub fn address(&self) -> String {
        let (name, parameters) = self.target.parameters();
        let shown: BTreeMap<_, _> = redacted(parameters).collect();
        let part = |key: &str| shown.get(key).copied().unwrap_or_default();
        match self.target {
            LoadTarget::Memory => "memory".to_owned(),
            LoadTarget::External(backend) => backend.to_string(),
            LoadTarget::Postgres(_) | LoadTarget::ClickHouse(_) => {
                format!("{name} at {}:{}, database {}", part("host"), part("port"), part("database"))
            }
        }
    }
}

/// Converts a duration of pgx, which must have a unit, to a number of seconds.
#[cfg(feature = "postgres")]
fn seconds(duration: &str) -> Result<String> {
    let parsed = parse_duration(duration).ok().filter(|time| time.is_zero() || duration.parse::<u64>().is_err());
    let parsed = parsed.ok_or_else(|| invalid("must be a duration with a unit, such as 30m"))?;
    Ok(parsed.as_secs_f64().to_string())
}

/// Refuses URLs, which may contain a password, as names: the messages of servers contain names.
#[cfg(any(feature = "postgres", feature = "clickhouse"))]
fn check_names(parameters: &BTreeMap<String, String>) -> Result<()> {
    let is_url = |key: &str| parameters.get(key).is_some_and(|value| value.contains("://"));
    match ["host", "hostaddr", "port", "database", "user", "username"].into_iter().find(|key| is_url(key)) {
        Some(_) => Err(invalid("must not be a URL: host, port, database, user and password are keys of their own")),
        None => Ok(()),
    }
}

/// Builds the URL of a ClickHouse server.
#[cfg(feature = "clickhouse")]
fn clickhouse(parameters: &BTreeMap<String, String>) -> Result<DatabaseConfig> {
    check_names(parameters)?;
    let mut parameters = parameters.clone();
    let mut take = |key: &str| parameters.remove(key).unwrap_or_default();
    let scheme = match take("secure").as_str() {
        "" | "false" => "clickhouse+http",
        "true" => "clickhouse+https",
        _ => return Err(invalid("must be true or false")),
    };
    let (host, port, database) = (take("host"), take("port"), take("database"));
    if !is_host(&host) {
        return Err(invalid("must be a host name or an IP address"));
    }
    let port: u16 = port.parse().map_err(|_| invalid("must be a number from 1 to 65535"))?;
    let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host };
    let mut url = url::Url::parse(&format!("{scheme}://{host}:{port}/"))
        .map_err(|error| invalid(format!("the host or the port is invalid: {error}")))?;
    url.set_path(&database);
    let (user, password) = ([take("user"), take("username")], take("password"));
    let user = user.into_iter().find(|user| !user.is_empty());
    if user.is_some() || !password.is_empty() {
        let user = user.as_deref().unwrap_or(DEFAULT_USER);
        let set = url.set_username(user).and_then(|()| url.set_password(Some(&password)));
        set.map_err(|()| invalid("the address does not support user and password"))?;
    }
    for (key, value) in &parameters {
        url.query_pairs_mut().append_pair(key, value);
    }
    url.as_str().parse()
}

#[cfg(not(feature = "clickhouse"))]
fn clickhouse(_parameters: &BTreeMap<String, String>) -> Result<DatabaseConfig> {
    Err(not_in_this_build("clickhouse"))
}

#[cfg(not(all(feature = "postgres", feature = "clickhouse")))]
fn not_in_this_build(backend: &str) -> Error {
    invalid(format!("this build does not include the backend {backend}"))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, Operation::Connect, message)
}
