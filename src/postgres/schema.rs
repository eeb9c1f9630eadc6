//! The schema and how it comes to be: migrations, each applied once.

use super::connection::Client;
use super::error::{Attempt, Failure};
use super::indexes;
use super::layout::Layout;

/// Held while the schema is looked at and changed, so that of several processes one changes it and
/// the others wait. The schema's name is part of it: those of other schemas need not wait.
const LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('broadside ' || coalesce($1::text, current_schema(), ''), 0))";

const APPLIED_TABLE: &str = "CREATE TABLE IF NOT EXISTS broadside_migration (
    version integer NOT NULL PRIMARY KEY,
    name text NOT NULL,
    applied timestamptz NOT NULL DEFAULT now()
)";

/// An identifier in double quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Makes a schema, which must not exist.
pub(super) fn create(name: &str) -> String {
    format!("CREATE SCHEMA {}", quoted(name))
}

/// Drops a schema with all that is in it.
pub(super) fn drop(name: &str) -> String {
    format!("DROP SCHEMA {} CASCADE", quoted(name))
}

/// Waits until no other transaction changes the schema.
pub(super) async fn lock(client: &Client, schema: Option<&str>) -> Attempt<()> {
    let statement = client.prepare_cached(LOCK).await?;
    client.query(&statement, &[&schema]).await?;
    Ok(())
}

/// Applies the migrations that have not been; to be called in a transaction.
pub(super) async fn migrate(client: Client, schema: Option<&str>, layout: Layout) -> Attempt<()> {
    lock(&client, schema).await?;
    if let Some(name) = schema {
        client.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(name))).await?;
    }
    client.batch_execute(&format!("{APPLIED_TABLE};{}", indexes::DEFERRED_TABLE)).await?;
    let applied = client.query("SELECT name FROM broadside_migration ORDER BY version", &[]).await?;
    let applied = applied.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    let migrations = layout.migrations();
    if applied.len() > migrations.len() || migrations.iter().zip(&applied).any(|((name, _), found)| name != found) {
        let message = format!("the schema is not of this layout or of a later version: it was made by {applied:?}");
        return Err(Failure::Nonsense(message));
    }
    for (version, (name, statements)) in (1i32..).zip(migrations).skip(applied.len()) {
        client.batch_execute(statements).await?;
        let record = "INSERT INTO broadside_migration (version, name) VALUES ($1, $2)";
        client.execute(record, &[&version, name]).await?;
    }
    Ok(())
}

/// Succeeds if there is a schema to work on.
pub(super) async fn check(client: Client) -> Attempt<()> {
    let statement = client.prepare_cached("SELECT FROM job LIMIT 0").await?;
    client.query(&statement, &[]).await?;
    Ok(())
}
