//! The schema and how it comes to be: migrations, each applied once.

use super::connection::Client;
use super::error::{Attempt, Failure};
use super::indexes;
use super::layout::Layout;
use super::store::{self, Found};

/// Held while the schema is looked at and changed, so that of several processes one changes it and
/// the others wait. The schema's name is part of it: those of other schemas need not wait.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('broadside ' || $1::text, 0))";

const APPLIED_TABLE: &str = "CREATE TABLE IF NOT EXISTS broadside_migration (
    version integer NOT NULL PRIMARY KEY,
    name text NOT NULL,
    applied timestamptz NOT NULL DEFAULT now()
)";

/// An identifier in double quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Waits until no other transaction changes the schema.
pub(super) async fn lock(client: &Client, schema: &str) -> Attempt<()> {
    let statement = client.prepare(LOCK).await?;
    client.query(&statement, &[&schema]).await?;
    Ok(())
}

/// Applies the migrations that have not been, and marks the store; to be called in a transaction. Tables that nobody
/// has marked are left alone, unless they are Lookout's and to be adopted.
pub(super) async fn migrate(client: Client, schema: &str, layout: Layout, adopt: bool) -> Attempt<()> {
    lock(&client, schema).await?;
    let exists = client.prepare("SELECT FROM pg_namespace WHERE nspname = $1").await?;
    if client.query_opt(&exists, &[&schema]).await?.is_none() {
        client.batch_execute(&format!("CREATE SCHEMA {}", quoted(schema))).await?;
    }
    let found = store::inspect(&client, schema).await?;
    found.check(layout)?;
    if !adopt {
        found.check_writable()?;
    }
    let tables = format!("{APPLIED_TABLE};{};{}", indexes::DEFERRED_TABLE, store::mark(false));
    client.batch_execute(&tables).await?;
    let applied = applied(&client, &found).await?;
    let migrations = layout.migrations();
    if applied.len() > migrations.len() || migrations.iter().zip(&applied).any(|((name, _), found)| name != found) {
        return Err(Failure::WrongStore(format!(
            "the schema is not of this layout or of a later version: it was made by {applied:?}"
        )));
    }
    for (version, (name, statements)) in (1i32..).zip(migrations).skip(applied.len()) {
        client.batch_execute(statements).await?;
        record(&client, version, name).await?;
    }
    Ok(client.batch_execute(&store::record(layout)).await?)
}

/// The migrations that have been applied. For tables that Lookout itself has made they are recorded now.
async fn applied(client: &Client, found: &Found) -> Attempt<Vec<String>> {
    let applied = client.query("SELECT name FROM broadside_migration ORDER BY version", &[]).await?;
    let mut applied = applied.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
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
