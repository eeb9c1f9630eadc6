//! The backends of the tests, and whether they are available.

use std::sync::Arc;

use broadside::{
    CLICKHOUSE_URL_VARIABLE, Database, DatabaseConfig, ManualClock, POSTGRES_URL_VARIABLE, Result, ScratchStore,
};

use super::model::NaiveModel;
use super::server::with;

/// A store on which tests are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend {
    /// The prefix of the names of the tests.
    pub name: &'static str,
    source: Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The naive model.
    Model,
    /// The memory engine.
    Memory,
    /// The server whose address is in an environment variable, with further parameters.
    Server { variable: &'static str, parameters: &'static str },
}

impl Backend {
    /// The naive model, which the scenarios test too.
    pub const MODEL: Self = Self { name: "model", source: Source::Model };
    /// The memory engine.
    pub const MEMORY: Self = Self { name: "memory", source: Source::Memory };
    /// PostgreSQL.
    pub const POSTGRES: Self = Self::server("postgres", POSTGRES_URL_VARIABLE, "");
    /// PostgreSQL with terminal jobs in a separate table.
    pub const POSTGRES_HOT_COLD: Self = Self::server("postgres-hot-cold", POSTGRES_URL_VARIABLE, "hot_cold_split=true");
    /// PostgreSQL with a partition for each day of submission.
    pub const POSTGRES_PARTITIONED: Self =
        Self::server("postgres-partitioned", POSTGRES_URL_VARIABLE, "partition_by_submitted=true");
    /// PostgreSQL, read by statements with the joins and orders of Lookout's own.
    pub const POSTGRES_LOOKOUT: Self = Self::server("postgres-lookout", POSTGRES_URL_VARIABLE, "queries=lookout");
    /// ClickHouse.
    pub const CLICKHOUSE: Self = Self::server("clickhouse", CLICKHOUSE_URL_VARIABLE, "");
    /// ClickHouse with lightweight updates.
    pub const CLICKHOUSE_PATCH: Self = Self::server("clickhouse-patch", CLICKHOUSE_URL_VARIABLE, "layout=patch");
    /// ClickHouse with replicated and sharded tables.
    pub const CLICKHOUSE_CLUSTER: Self = Self::server("clickhouse-cluster", "BROADSIDE_CLICKHOUSE_CLUSTER_URL", "");
    /// The backends, one for each layout of a server's tables.
    pub const ALL: [Self; 7] = [
        Self::MEMORY,
        Self::POSTGRES,
        Self::POSTGRES_HOT_COLD,
        Self::POSTGRES_PARTITIONED,
        Self::CLICKHOUSE,
        Self::CLICKHOUSE_PATCH,
        Self::CLICKHOUSE_CLUSTER,
    ];

    const fn server(name: &'static str, variable: &'static str, parameters: &'static str) -> Self {
        Self { name, source: Source::Server { variable, parameters } }
    }

    /// The environment variable that the backend requires, if it is not set.
    pub fn missing_variable(self) -> Option<&'static str> {
        match self.source {
            Source::Model | Source::Memory => None,
            Source::Server { variable, .. } => std::env::var_os(variable).is_none().then_some(variable),
        }
    }

    /// Whether the backend is a server, whose calls take much longer than those of the memory engine.
    pub fn is_server(self) -> bool {
        matches!(self.source, Source::Server { .. })
    }

    /// The address of the backend.
    pub fn address(self) -> String {
        match self.source {
            Source::Model | Source::Memory => "memory".to_owned(),
            Source::Server { variable, parameters } => with(&std::env::var(variable).unwrap_or_default(), parameters),
        }
    }

    /// Creates a scratch store without a schema for a test.
    pub async fn open(self) -> Result<TestStore> {
        let clock = Arc::new(ManualClock::default());
        if self.source == Source::Model {
            let database = Arc::new(NaiveModel::new(clock.clone()));
            return Ok(TestStore { clock, database, scratch: None });
        }
        let scratch = self.address().parse::<DatabaseConfig>()?.create_scratch(clock.clone()).await?;
        Ok(TestStore { clock, database: scratch.database().clone(), scratch: Some(scratch) })
    }
}

/// The store of a test.
#[derive(Debug)]
pub struct TestStore {
    /// The clock of the store.
    pub clock: Arc<ManualClock>,
    /// A handle to the store.
    pub database: Arc<dyn Database>,
    scratch: Option<ScratchStore>,
}

impl TestStore {
    /// Opens another handle to the store.
    pub async fn another_handle(&self) -> Result<Arc<dyn Database>> {
        self.database.another_handle().await
    }

    /// Removes the store from its server.
    pub async fn remove(self) -> Result<()> {
        match self.scratch {
            Some(scratch) => scratch.remove().await,
            None => self.database.close().await,
        }
    }
}

/// Whether tests fail instead of being ignored if their backend is missing.
pub fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// A runtime for one test.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts")
}
