//! Opening handles; creating, listing and removing scratch stores.

use tracing::info;

use super::config::PostgresConfig;
use super::connection::{Client, Connections};
use super::database::PostgresDatabase;
use super::error::{Attempt, Failure, Step};
use super::layout::Layout;
use super::marker::CAN_BE_MARKER;
use super::statement::identifier;
use super::{catalog, marker, partitions};
use crate::connect::ScratchInfo;
use crate::error::{Operation, Result};
use crate::time::SharedClock;

/// The schemas with a table that can be a marker, which the user may read. The owner of the table owns the schema:
/// nobody can have a schema of another user removed by a marker in it.
const MARKED: &str = "
SELECT n.nspname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relname = 'broadside_store' AND c.relowner = n.nspowner
    AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AND ";

/// The maximum time for which the removal of a store waits for the lock of another session.
const LOCK_TIMEOUT: &str = "5s";

const OPERATION: Operation = Operation::Connect;

impl PostgresConfig {
    /// Opens a handle. The server must answer; the schema need not exist.
    pub(crate) async fn connect(&self, clock: SharedClock) -> Result<PostgresDatabase> {
        let connections = Connections::open(self).await?;
        let schema = connections.schema();
        let found = connections.run(OPERATION, |client| async move { catalog::inspect(&client, schema).await }).await?;
        let layout = match self.layout {
            Layout::Lookout if self.adopt || !found.is_initialised() => found.made_in().unwrap_or_default(),
            layout => layout,
        };
        found.check(layout).map_err(|failure| failure.into_error(OPERATION.into()))?;
        Ok(PostgresDatabase::new(self, connections, layout, &found, clock))
    }

    /// The scratch stores in the database that the user may read, oldest first. They are identified by their markers.
    pub(crate) async fn scratch_stores(&self) -> Result<Vec<ScratchInfo>> {
        let connections = self.lone_connection(self.schema.as_deref()).await?;
        let marked = format!("{MARKED}{CAN_BE_MARKER}");
        let marked = &marked;
        let names =
            connections.run(OPERATION, |client| async move { client.column::<String>(marked, &[]).await }).await?;
        let mut stores = Vec::new();
        for name in names {
            let name = name.as_str();
            let created = connections.run(OPERATION, |client| scratch_marker(client, name)).await?;
            stores.extend(created.map(|created| ScratchInfo { name: name.to_owned(), created }));
        }
        stores.sort_by(|one, other| (one.created, &one.name).cmp(&(other.created, &other.name)));
        Ok(stores)
    }

    /// Removes a scratch store, in several transactions. After a failure, part of the store may remain with its marker,
    /// and another call can remove it.
    pub(crate) async fn remove_scratch(&self, name: &str) -> Result<()> {
        let connections = self.lone_connection(Some(name)).await?;
        connections.run(OPERATION, |client| check_scratch(client, name)).await?;
        partitions::drop_all(&connections, OPERATION, partitions::drop_only).await?;
        let step = Step::after(OPERATION, "the store may be removed in part");
        connections.transact(step, |client| drop_schema(client, name)).await?;
        info!(target: "broadside::postgres", store = name, "removed a scratch store");
        Ok(())
    }

    /// Creates a schema that contains only the marker of a scratch store, and returns its configuration. The outcome of
    /// an error tells whether the schema may have been created.
    pub(crate) async fn create_scratch(&self, name: &str) -> Result<Self> {
        let connections = self.lone_connection(Some(name)).await?;
        let statements = format!("CREATE SCHEMA {}; {}", identifier(name), marker::mark(true));
        let statements = statements.as_str();
        let create = |client: Client| async move { Ok(client.batch_execute(statements).await?) };
        connections.transact(OPERATION, create).await?;
        Ok(Self { schema: Some(name.to_owned()), adopt: false, ..self.clone() })
    }

    async fn lone_connection(&self, schema: Option<&str>) -> Result<Connections> {
        let mut settings = vec![("lock_timeout".to_owned(), LOCK_TIMEOUT.to_owned())];
        settings.extend(self.settings.iter().cloned());
        Connections::open(&Self { pool_size: 1, schema: schema.map(str::to_owned), settings, ..self.clone() }).await
    }
}

/// The time of creation of a scratch store; `None` if the schema is not one, no longer exists, or another session has
/// locked its marker.
async fn scratch_marker(client: Client, name: &str) -> Attempt<Option<crate::Timestamp>> {
    match catalog::inspect(&client, name).await {
        Ok(found) => Ok(found.marker.and_then(|marker| marker.scratch())),
        Err(failure) if failure.is_undefined() || failure.is_forbidden() || failure.is_locked() => Ok(None),
        Err(failure) => Err(failure),
    }
}

async fn drop_schema(client: Client, name: &str) -> Attempt<()> {
    let exists = client.prepare("SELECT FROM pg_namespace WHERE nspname = $1").await?;
    if client.query_opt(&exists, &[&name]).await?.is_none() {
        // An earlier attempt or another process has dropped the schema.
        return Ok(());
    }
    check_scratch(Client::clone(&client), name).await?;
    Ok(client.batch_execute(&format!("DROP SCHEMA {} CASCADE", identifier(name))).await?)
}

async fn check_scratch(client: Client, name: &str) -> Attempt<()> {
    let marked = client.query_opt(&format!("{MARKED}{CAN_BE_MARKER} AND n.nspname = $1"), &[&name]).await?;
    let found = catalog::inspect(&client, name).await?;
    match found.marker.filter(|_| marked.is_some()).and_then(|marker| marker.scratch()) {
        Some(_) => Ok(()),
        None => Err(Failure::WrongStore(format!("schema {name:?} has no marker of a scratch store"))),
    }
}
