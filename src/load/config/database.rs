//! The store of a load test, from the `databaseConfig` section.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::section::Section;
use crate::connect::DatabaseConfig;
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};

/// Ports on which ClickHouse speaks its own protocol.
const NATIVE_PORTS: [&str; 2] = ["9000", "9440"];
/// Stands for a secret.
const SECRET: &str = "********";

/// Which store a load test runs on, by the keys of its configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadDatabase {
    /// The server, or the memory engine.
    pub target: Target,
    /// Statements for PostgreSQL, executed after the schema is there.
    pub tuning_sql: Vec<String>,
    /// Statements that undo them, executed by the tear-down.
    pub tuning_revert_sql: Vec<String>,
    /// Whether PostgreSQL keeps jobs that have ended in a table of their own.
    pub hot_cold_split: bool,
    /// Whether PostgreSQL has a partition for each day of submission.
    pub partition_by_submitted: bool,
}

/// A store by its parameters.
#[derive(Clone, PartialEq)]
pub enum Target {
    /// The memory engine.
    Memory,
    /// PostgreSQL, by libpq's keys.
    Postgres(BTreeMap<String, String>),
    /// ClickHouse, by host, port, database, user, password, secure and the parameters of its URL.
    ClickHouse(BTreeMap<String, String>),
    /// A store that the caller opens, which is not configured here.
    Given(BackendKind),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, parameters) = self.parameters();
        f.debug_struct(name).field("parameters", &shown(parameters).collect::<BTreeMap<_, _>>()).finish()
    }
}

impl Target {
    fn parameters(&self) -> (&'static str, Option<&BTreeMap<String, String>>) {
        match self {
            Self::Memory => ("inMemory", None),
            Self::Postgres(parameters) => ("postgres", Some(parameters)),
            Self::ClickHouse(parameters) => ("clickHouse", Some(parameters)),
            Self::Given(BackendKind::Memory) => ("inMemory", None),
            Self::Given(BackendKind::Postgres) => ("postgres", None),
            Self::Given(BackendKind::ClickHouse) => ("clickHouse", None),
        }
    }
}

/// Parameters as they may be shown.
fn shown(parameters: Option<&BTreeMap<String, String>>) -> impl Iterator<Item = (&str, &str)> {
    let parameters = parameters.into_iter().flatten();
    parameters.map(|(key, value)| (key.as_str(), if is_secret(key) { SECRET } else { value.as_str() }))
}

/// Whether the value of a parameter must not be shown.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "secret", "token", "sslkey"].iter().any(|part| key.contains(part))
}

impl Serialize for LoadDatabase {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.target.parameters() {
            (name, None) => map.serialize_entry(name, &true)?,
            (name, parameters) => map.serialize_entry(name, &shown(parameters).collect::<BTreeMap<_, _>>())?,
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

/// Reads the section and checks that it leads to a store. With a store that the caller opens it may be absent, and its
/// server is not looked at.
pub(super) fn read(section: &Section<'_>, toggles: &Section<'_>, given: Option<BackendKind>) -> LoadDatabase {
    let targets = [
        section.get("postgres").map(|_| Target::Postgres(parameters(&section.section("postgres"), postgres_key))),
        section
            .get("clickHouse")
            .map(|_| Target::ClickHouse(parameters(&section.section("clickHouse"), str::to_owned))),
        section.boolean("inMemory").then_some(Target::Memory),
    ];
    let targets: Vec<_> = targets.into_iter().flatten().collect();
    let count = targets.len();
    if given.is_none() && count != 1 {
        section.problem("postgres", format!("clickHouse and inMemory: exactly one must be set, not {count}"));
    }
    let database = LoadDatabase {
        target: given.map(Target::Given).or(targets.into_iter().next()).unwrap_or(Target::Memory),
        tuning_sql: section.texts("postgresTuningSQL"),
        tuning_revert_sql: section.texts("postgresTuningRevertSQL"),
        hot_cold_split: toggles.boolean("hotColdSplit"),
        partition_by_submitted: toggles.boolean("partitionBySubmitted"),
    };
    if database.hot_cold_split && database.partition_by_submitted {
        toggles.problem("hotColdSplit", "and partitionBySubmitted exclude each other");
    } else if given.is_none() && count == 1 {
        check(section, &database);
    }
    section.warn_of_unknown_keys();
    database
}

/// The parameters of a server, by the keys of its backend.
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

/// Our key of PostgreSQL for one of upstream's.
fn postgres_key(key: &str) -> String {
    match key {
        "database" => "dbname",
        "pool_max_conns" => "pool_size",
        other => other,
    }
    .to_owned()
}

fn check(section: &Section<'_>, database: &LoadDatabase) {
    let (name, parameters) = database.target.parameters();
    let Some(parameters) = parameters else { return };
    if ["host", "port"].iter().any(|key| parameters.get(*key).is_none_or(String::is_empty)) {
        return;
    }
    let server = section.section(name);
    if let (Target::ClickHouse(_), Some(port)) = (&database.target, parameters.get("port"))
        && NATIVE_PORTS.contains(&port.as_str())
    {
        let message = "is a port of ClickHouse's native protocol; give the HTTP port, 8123 or 8443 by default";
        return server.problem("port", message);
    }
    // One by one first, for the messages quote neither keys nor values.
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
    /// The store of the memory engine.
    pub const fn memory() -> Self {
        Self {
            target: Target::Memory,
            tuning_sql: Vec::new(),
            tuning_revert_sql: Vec::new(),
            hot_cold_split: false,
            partition_by_submitted: false,
        }
    }

    /// The same server with one parameter besides its address.
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
            Target::Memory | Target::Given(_) => Target::Memory,
            Target::Postgres(parameters) => Target::Postgres(with_one(parameters, postgres_key(key))),
            Target::ClickHouse(parameters) => Target::ClickHouse(with_one(parameters, key.to_owned())),
        };
        Self { target, ..Self::memory() }
    }

    /// The configuration of the backend.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` naming the key that is unknown or has a bad value, also for a backend that is not part of
    /// this build.
    pub fn config(&self) -> Result<DatabaseConfig> {
        match &self.target {
            Target::Memory => "memory".parse(),
            Target::Given(backend) => backend.name().parse(),
            Target::Postgres(parameters) => self.postgres(parameters),
            Target::ClickHouse(parameters) => clickhouse(parameters),
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
        for (key, statements) in [("tuning_sql", &self.tuning_sql), ("revert_sql", &self.tuning_revert_sql)] {
            if !statements.is_empty() {
                set(key, statements.join(";\n"));
            }
        }
        DatabaseConfig::from_pairs(&pairs)
    }

    #[cfg(not(feature = "postgres"))]
    fn postgres(&self, _parameters: &BTreeMap<String, String>) -> Result<DatabaseConfig> {
        Err(not_in_this_build("postgres"))
    }

    /// The address, without secrets.
    pub fn address(&self) -> String {
        let (name, parameters) = self.target.parameters();
        let part = |key: &str| parameters.and_then(|parameters| parameters.get(key)).map_or("", String::as_str);
        match self.target {
            Target::Memory => "memory".to_owned(),
            Target::Given(backend) => backend.to_string(),
            Target::Postgres(_) => format!("{name} at {}:{}, database {}", part("host"), part("port"), part("dbname")),
            Target::ClickHouse(_) => {
                format!("{name} at {}:{}, database {}", part("host"), part("port"), part("database"))
            }
        }
    }
}

/// ClickHouse by its URL.
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
        set.map_err(|()| invalid("user and password cannot be part of the address"))?;
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
    invalid(format!("the backend {backend} is not part of this build"))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, Operation::Connect, message)
}
