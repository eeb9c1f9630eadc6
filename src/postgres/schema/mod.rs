//! The schema: migrations, each applied once.

use super::catalog::{self, Found};
use super::connection::Client;
use super::error::{Attempt, Failure};
use super::layout::{Layout, historical_indexes, move_jobs};
use super::marker;
use super::statement::identifier;
use crate::model::StateSet;

/// The advisory lock under which one process at a time inspects and changes a schema. Its key depends on the schema's
/// name, so changes of other schemas do not wait.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('broadside ' || $1::text, 0))";

const APPLIED_TABLE: &str = "CREATE TABLE IF NOT EXISTS broadside_migration (
    version integer NOT NULL PRIMARY KEY,
    name text NOT NULL,
    applied timestamptz NOT NULL DEFAULT now()
)";

/// The names of the indexes that a bulk load has dropped and not yet recreated. The definitions are empty: whoever could
/// write them would execute statements with the rights of the user who recreates the indexes.
const DEFERRED_TABLE: &str = "CREATE TABLE IF NOT EXISTS broadside_deferred_index (
    name text COLLATE \"C\" NOT NULL PRIMARY KEY,
    definition text NOT NULL
)";

/// Waits until no other transaction changes the schema.
pub(super) async fn lock(client: &Client, schema: &str) -> Attempt<()> {
    let statement = client.prepare(LOCK).await?;
    client.query(&statement, &[&schema]).await?;
    Ok(())
}

/// Applies the missing migrations and writes the marker. It must be called in a transaction. Tables without a marker
/// are changed only if they are Lookout's and `adopt` is set.
pub(super) async fn migrate(client: Client, schema: &str, layout: Layout, adopt: bool) -> Attempt<()> {
    lock(&client, schema).await?;
    let exists = client.prepare("SELECT FROM pg_namespace WHERE nspname = $1").await?;
    if client.query_opt(&exists, &[&schema]).await?.is_none() {
        client.batch_execute(&format!("CREATE SCHEMA {}", identifier(schema))).await?;
    }
    let found = catalog::inspect(&client, schema).await?;
    found.check(layout)?;
    found.check_writable(adopt)?;
    let tables = format!("{APPLIED_TABLE};{};{}", DEFERRED_TABLE, marker::mark(false));
    client.batch_execute(&tables).await?;
    let applied = applied(&client, &found).await?;
    let migrations = layout.migrations();
    if applied.len() > migrations.len() || migrations.iter().zip(&applied).any(|((name, _), found)| name != found) {
        return Err(Failure::WrongStore(format!(
            "the schema has another layout or a later version: its migrations are {applied:?}"
        )));
    }
    for (version, (name, statements)) in (1i32..).zip(migrations).skip(applied.len()) {
        let statements = statements
            .replace("{historical_indexes}", &historical_indexes())
            .replace("{columns}", catalog::JOB_COLUMNS)
            .replace("{limited_wait}", marker::LIMITED_WAIT)
            .replace("{move_jobs}", &move_jobs("", "TRUE"))
            .replace("{active}", &StateSet::ACTIVE.ordinals());
        client.batch_execute(&statements).await?;
        record(&client, version, name).await?;
    }
    Ok(client.batch_execute(&marker::record(layout)).await?)
}

/// The applied migrations. Those of tables that Lookout created are recorded now.
async fn applied(client: &Client, found: &Found) -> Attempt<Vec<String>> {
    let mut applied: Vec<String> = client.column("SELECT name FROM broadside_migration ORDER BY version", &[]).await?;
    let made = found.layout().filter(|_| applied.is_empty());
    for (version, (name, _)) in (1i32..).zip(made.map(Layout::migrations).unwrap_or_default()) {
        record(client, version, name).await?;
        applied.push((*name).to_owned());
    }
    Ok(applied)
}

async fn record(client: &Client, version: i32, name: &str) -> Attempt<()> {
    client.execute("INSERT INTO broadside_migration (version, name) VALUES ($1, $2)", &[&version, &name]).await?;
    Ok(())
}
