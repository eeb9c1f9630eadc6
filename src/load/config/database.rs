//! The database of a load test: the section `databaseConfig`.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::section::Section;
use crate::connect::DatabaseConfig;
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
#[cfg(feature = "postgres")]
use crate::postgres::PostgresConfig;

/// The default ports of ClickHouse's native protocol.
const NATIVE_PORTS: [&str; 2] = ["9000", "9440"];
/// The warning of a key that only applies to the server of the configuration.
const OPENED_BY_CALLER: &str = "has no effect, because the store is not opened by this configuration";
/// The placeholder for a secret.
const SECRET: &str = "********";

/// The database of a load test.
#[derive(Debug, Clone, PartialEq)]
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
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum LoadTarget {
    /// The memory engine.
    Memory,
    /// PostgreSQL, with the connection parameters of libpq.
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

/// The parameters with secrets replaced by the placeholder.
fn redacted(parameters: Option<&BTreeMap<String, String>>) -> impl Iterator<Item = (&str, &str)> {
    let parameters = parameters.into_iter().flatten();
    parameters.map(|(key, value)| (key.as_str(), if is_secret(key) { SECRET } else { value.as_str() }))
}

/// Returns true if the value of a parameter is a secret.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "secret", "token", "sslkey"].iter().any(|part| key.contains(part))
}

impl Serialize for LoadDatabase {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.target.parameters() {
            (name, None) => map.serialize_entry(name, &true)?,
            (name, parameters) => map.serialize_entry(name, &redacted(parameters).collect::<BTreeMap<_, _>>())?,
        }
        for (key, statements) in
            [("postgresTuningSQL", &self.tuning_sql), ("postgresTuningRevertSQL", &self.tuning_revert_sql)]
        {
            if !statements.is_empty() {
                map.serialize_entry(key, statements)?;
            }
        }
        for (key, value) in
            [("hotColdSplit", self.hot_cold_split), ("partitionBySubmitted", self.partition_by_submitted)]
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
pub(super) fn read(section: &Section<'_>, toggles: &Section<'_>, external: Option<BackendKind>) -> LoadDatabase {
    let targets = [
        section.get("postgres").map(|_| LoadTarget::Postgres(parameters(&section.section("postgres"), postgres_key))),
        section
            .get("clickHouse")
            .map(|_| LoadTarget::ClickHouse(parameters(&section.section("clickHouse"), str::to_owned))),
        section.boolean("inMemory").then_some(LoadTarget::Memory),
    ];
    let targets: Vec<_> = targets.into_iter().flatten().collect();
    let count = targets.len();
    if external.is_none() && count != 1 {
        section.problem("postgres", format!("clickHouse and inMemory: exactly one must be set, not {count}"));
    }
    let database = LoadDatabase {
        target: external.map(LoadTarget::External).or(targets.into_iter().next()).unwrap_or(LoadTarget::Memory),
        tuning_sql: section.texts("postgresTuningSQL"),
        tuning_revert_sql: section.texts("postgresTuningRevertSQL"),
        hot_cold_split: toggles.boolean("hotColdSplit"),
        partition_by_submitted: toggles.boolean("partitionBySubmitted"),
    };
    if database.hot_cold_split && database.partition_by_submitted {
        toggles.problem("hotColdSplit", "and partitionBySubmitted are mutually exclusive");
    } else if external.is_none() && count == 1 {
        check(section, &database);
    }
    section.warn_of_unknown_keys();
    if external.is_none() {
        return database;
    }
    section.warn_of_keys(&["postgresTuningSQL", "postgresTuningRevertSQL"], OPENED_BY_CALLER);
    toggles.warn_of_keys(&["hotColdSplit", "partitionBySubmitted"], OPENED_BY_CALLER);
    LoadDatabase { target: database.target, ..LoadDatabase::memory() }
}

/// The connection parameters of a server, with keys mapped by `key_of`.
fn parameters(section: &Section<'_>, key_of: impl Fn(&str) -> String) -> BTreeMap<String, String> {
    let pairs: BTreeMap<_, _> =
        section.pairs().into_iter().map(|(key, value)| (key_of(&key.to_ascii_lowercase()), value)).collect();
    for (key, name) in [("host", "host"), ("port", "port"), ("database", "database")] {
        if pairs.get(&key_of(key)).is_none_or(String::is_empty) {
            section.problem(name, "must not be empty");
        }
    }
    pairs
}

/// Maps a PostgreSQL key of Armada's Broadside to ours.
fn postgres_key(key: &str) -> String {
    match key {
        "database" => "dbname",
        "pool_max_conns" => "pool_size",
        other => other,
    }
    .to_owned()
}

#[cfg_attr(
    not(any(feature = "memory", feature = "postgres", feature = "clickhouse")),
    allow(irrefutable_let_patterns, reason = "without a backend, no configuration is valid")
)]
fn check(section: &Section<'_>, database: &LoadDatabase) {
    let (name, parameters) = database.target.parameters();
    let Some(parameters) = parameters else { return };
    if ["host", "port"].iter().any(|key| parameters.get(*key).is_none_or(String::is_empty)) {
        return;
    }
    let server = section.section(name);
    if let (LoadTarget::ClickHouse(_), Some(port)) = (&database.target, parameters.get("port"))
        && NATIVE_PORTS.contains(&port.as_str())
    {
        let message = "is a port of ClickHouse's native protocol; use the HTTP port, 8123 or 8443 by default";
        return server.problem("port", message);
    }
    // Each parameter is checked separately first, because the error messages contain neither keys nor values.
    let mut all_known = true;
    for (key, value) in server.pairs() {
        if let Err(error) = database.with_one(&key.to_ascii_lowercase(), &value).config() {
            server.problem(key, error.message());
            all_known = false;
        }
    }
    if all_known && let Err(error) = database.config() {
        section.problem(name, format!("cannot be used: {}", error.message()));
    }
}

impl LoadDatabase {
    /// The memory engine.
    pub const fn memory() -> Self {
        Self {
            target: LoadTarget::Memory,
            tuning_sql: Vec::new(),
            tuning_revert_sql: Vec::new(),
            hot_cold_split: false,
            partition_by_submitted: false,
        }
    }

    /// The same server with only its address and one other parameter.
    fn with_one(&self, key: &str, value: &str) -> Self {
        let with_one = |parameters: &BTreeMap<String, String>, key: String| {
            let address = ["host", "port", "user", "database", "dbname"];
            let mut one: BTreeMap<_, _> = parameters
                .iter()
                .filter(|(key, _)| address.contains(&key.as_str()))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            one.insert(key, value.to_owned());
            one
        };
        let target = match &self.target {
            LoadTarget::Memory | LoadTarget::External(_) => LoadTarget::Memory,
            LoadTarget::Postgres(parameters) => LoadTarget::Postgres(with_one(parameters, postgres_key(key))),
            LoadTarget::ClickHouse(parameters) => LoadTarget::ClickHouse(with_one(parameters, key.to_owned())),
        };
        Self { target, ..Self::memory() }
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
        let mut pairs = parameters.clone();
        let mut set = |key: &str, value: String| pairs.insert(key.to_owned(), value);
        if self.hot_cold_split {
            set("hot_cold_split", true.to_string());
        }
        if self.partition_by_submitted {
            set("partition_by_submitted", true.to_string());
        }
        let config = PostgresConfig::from_pairs(&pairs)?;
        Ok(config.with_tuning_sql(&self.tuning_sql).with_revert_sql(&self.tuning_revert_sql).into())
    }

    #[cfg(not(feature = "postgres"))]
    fn postgres(&self, _parameters: &BTreeMap<String, String>) -> Result<DatabaseConfig> {
        Err(not_in_this_build("postgres"))
    }

    /// The address without secrets.
    pub fn address(&self) -> String {
        let (name, parameters) = self.target.parameters();
        let part = |key: &str| parameters.and_then(|parameters| parameters.get(key)).map_or("", String::as_str);
        match self.target {
            LoadTarget::Memory => "memory".to_owned(),
            LoadTarget::External(backend) => backend.to_string(),
            LoadTarget::Postgres(_) => {
                format!("{name} at {}:{}, database {}", part("host"), part("port"), part("dbname"))
            }
            LoadTarget::ClickHouse(_) => {
                format!("{name} at {}:{}, database {}", part("host"), part("port"), part("database"))
            }
        }
    }
}

/// Builds the URL of a ClickHouse server.
#[cfg(feature = "clickhouse")]
fn clickhouse(parameters: &BTreeMap<String, String>) -> Result<DatabaseConfig> {
    let mut parameters = parameters.clone();
    let mut take = |key: &str| parameters.remove(key).unwrap_or_default();
    let scheme = match take("secure").as_str() {
        "" | "false" => "clickhouse+http",
        "true" => "clickhouse+https",
        _ => return Err(invalid("secure must be true or false")),
    };
    let (host, port, database) = (take("host"), take("port"), take("database"));
    let user = Some(take("user")).filter(|user| !user.is_empty()).unwrap_or_else(|| take("username"));
    let password = take("password");
    let mut url = url::Url::parse(&format!("{scheme}://{host}:{port}/"))
        .map_err(|error| invalid(format!("host {host:?} and port {port:?}: {error}")))?;
    url.set_path(&database);
    if !user.is_empty() {
        let set = url.set_username(&user).and_then(|()| url.set_password(Some(&password)));
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
