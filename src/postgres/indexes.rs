//! Deferral of secondary indexes: a bulk load drops them first and recreates them at its end.
//!
//! Maintaining an index costs a search and a write for each row; building it from existing rows costs one sort. The
//! transaction that drops an index records its name in `broadside_deferred_index`, and the transaction that recreates it
//! deletes the record. So the missing indexes are known after any interruption, and concurrent callers recreate each
//! index once. Only indexes with the names of this backend's are dropped; the definitions are those of its migrations.

use futures::{StreamExt, TryStreamExt, stream};

use tracing::{info, warn};

use super::connection::{Client, Connections};
use super::error::{Attempt, Step};
use super::layout::Layout;
use super::marker::{self, Lock};
use super::partitions;
use super::statement::identifier;
use crate::error::Result;
use crate::model::StateSet;

/// Records the secondary indexes of a table that have one of these names.
const RECORD: &str = "INSERT INTO broadside_deferred_index (name, definition)
SELECT c.relname, ''
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE i.indrelid = to_regclass($1) AND c.relname = ANY($2) AND NOT i.indisunique AND NOT i.indisexclusion
ON CONFLICT DO NOTHING
RETURNING name";

/// The number of indexes created concurrently, each on its own connection.
const AT_ONCE: usize = 4;

/// Drops the secondary indexes of a table with at most `max_rows` rows, unless it has more partitions than one
/// transaction can change. It must be called in a transaction of its own, because it locks the table exclusively.
pub(super) async fn defer(client: Client, layout: Layout, table: &str, max_rows: i64) -> Attempt<()> {
    marker::guard(&client, layout, Lock::None).await?;
    if partitions::are_many(&client).await? {
        return Ok(());
    }
    let one_more = format!("SELECT FROM {table} LIMIT 1 OFFSET $1");
    if client.query_opt(&one_more, &[&max_rows]).await?.is_some() {
        return Ok(());
    }
    let known: Vec<String> = layout.secondary_indexes().into_keys().collect();
    let names: Vec<String> = client.column(RECORD, &[&table, &known]).await?;
    if !names.is_empty() {
        info!(target: "broadside::postgres", table, indexes = ?names, "drops the indexes for the duration of the load");
    }
    let drops: String = names.iter().map(|name| format!("DROP INDEX IF EXISTS {};", identifier(name))).collect();
    Ok(client.batch_execute(&drops).await?)
}

/// Recreates all recorded indexes.
pub(super) async fn restore(connections: &Connections, layout: Layout, step: Step) -> Result<()> {
    let names = connections.run(step, deferred).await?;
    stream::iter(names)
        .map(|name| async move {
            let name = &name;
            connections.transact(step, |client| create(client, layout, name)).await
        })
        .buffer_unordered(AT_ONCE.min(connections.max_size()))
        .try_collect()
        .await
}

/// The recorded indexes in order of their names. The index on annotations, whose build takes longest, is among the
/// first.
async fn deferred(client: Client) -> Attempt<Vec<String>> {
    // In a store without the table, no index was dropped.
    let is_missing = "SELECT to_regclass(quote_ident(current_schema()) || '.broadside_deferred_index') IS NULL";
    if client.column::<bool>(is_missing, &[]).await? == [true] {
        return Ok(Vec::new());
    }
    client.column("SELECT name FROM broadside_deferred_index ORDER BY name", &[]).await
}

async fn create(client: Client, layout: Layout, name: &str) -> Attempt<()> {
    let Some(create) = layout.secondary_indexes().remove(name) else {
        warn!(target: "broadside::postgres", index = name, "an index that was dropped is not known: create it");
        return Ok(());
    };
    // Waits for a concurrent transaction that recreates the index, and then finds no row.
    if client.execute("DELETE FROM broadside_deferred_index WHERE name = $1", &[&name]).await? > 0 {
        info!(target: "broadside::postgres", index = name, "recreates an index");
        // The build time depends on the size of the table; the user's timeout could prevent it forever.
        let create = create
            .replacen("CREATE INDEX", "CREATE INDEX IF NOT EXISTS", 1)
            .replace("{active}", &StateSet::ACTIVE.ordinals());
        client.batch_execute(&format!("SET LOCAL statement_timeout = 0; {create}")).await?;
    }
    Ok(())
}
