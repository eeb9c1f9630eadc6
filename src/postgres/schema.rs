//! The schema and how it comes to be: migrations, each applied once.

use super::connection::Client;
use super::error::{Attempt, Failure};

/// The migrations, oldest first. One that has been released never changes.
const MIGRATIONS: &[&str] = &[include_str!("schema/0001_lookout.sql")];

/// Held while migrations are looked at and applied, so that of several processes one applies them
/// and the others wait. The schema's name is part of it: tests of other schemas need not wait.
const LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('broadside ' || coalesce($1::text, current_schema(), ''), 0))";

const APPLIED_TABLE: &str = "CREATE TABLE IF NOT EXISTS broadside_migration (
    version integer NOT NULL PRIMARY KEY,
    applied timestamptz NOT NULL DEFAULT now()
)";

const CLEAR: &str = "TRUNCATE job, job_run, job_spec, job_error, job_deduplication";

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

/// Applies the migrations that have not been; to be called in a transaction.
pub(super) async fn migrate(client: Client, schema: Option<&str>) -> Attempt<()> {
    let lock = client.prepare_cached(LOCK).await?;
    client.query(&lock, &[&schema]).await?;
    if let Some(name) = schema {
        client.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(name))).await?;
    }
    client.batch_execute(APPLIED_TABLE).await?;
    let applied = client.query_one("SELECT coalesce(max(version), 0) FROM broadside_migration", &[]).await?;
    let applied: i32 = applied.try_get(0)?;
    let pending = usize::try_from(applied).ok().and_then(|applied| MIGRATIONS.get(applied..)).ok_or_else(|| {
        Failure::Nonsense(format!(
            "the schema has version {applied}, newer than the {} of this build",
            MIGRATIONS.len()
        ))
    })?;
    for (version, migration) in (applied + 1..).zip(pending) {
        client.batch_execute(migration).await?;
        client.execute("INSERT INTO broadside_migration (version) VALUES ($1)", &[&version]).await?;
    }
    Ok(())
}

/// Succeeds if there is a schema to work on.
pub(super) async fn check(client: Client) -> Attempt<()> {
    let statement = client.prepare_cached("SELECT FROM job LIMIT 0").await?;
    client.query(&statement, &[]).await?;
    Ok(())
}

/// Removes every row of every table.
pub(super) async fn clear(client: Client) -> Attempt<()> {
    Ok(client.batch_execute(CLEAR).await?)
}
