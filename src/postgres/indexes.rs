//! The secondary indexes that a bulk load does without: dropped before it and made again after it.
//!
//! To keep an index up costs a load a search and a write at another place for each row; to make it from the rows
//! that are there costs one sort. An index is put on record in the transaction that drops it, and taken off
//! the record in the one that makes it again. So it is always known what is missing, whoever was interrupted, and
//! of several who make it again one does. Primary keys are never dropped, for inserts rely on them.

use futures::{StreamExt, TryStreamExt, stream};

use tracing::info;

use super::connection::{Client, Connections};
use super::error::{Attempt, Step};
use super::layout::Layout;
use super::partitions;
use super::schema::quoted;
use super::store::{self, Lock};
use crate::error::Result;

/// The record, which `initialise_schema` makes beside the tables.
pub(super) const DEFERRED_TABLE: &str = "CREATE TABLE IF NOT EXISTS broadside_deferred_index (
    name text COLLATE \"C\" NOT NULL PRIMARY KEY,
    definition text NOT NULL
)";

/// Puts a table's secondary indexes on record. The definition of one that is partitioned is given as of the table
/// without its partitions, each of which would have to get its own.
const RECORD: &str = "INSERT INTO broadside_deferred_index (name, definition)
SELECT
    c.relname,
    replace(
        replace(pg_get_indexdef(c.oid), 'CREATE INDEX ', 'CREATE INDEX IF NOT EXISTS '),
        ' ON ONLY ', ' ON '
    )
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE i.indrelid = to_regclass($1) AND NOT i.indisunique AND NOT i.indisexclusion
ON CONFLICT DO NOTHING
RETURNING name";

/// How many indexes are made at once, each on its own connection.
const AT_ONCE: usize = 4;

/// Drops the secondary indexes of a table if it has no more than this number of rows, nor so many partitions that
/// one transaction could not drop all of theirs; to be called in a transaction of its own, for it keeps everybody from
/// the table until the end.
pub(super) async fn defer(client: Client, layout: Layout, table: &str, most_rows: i64) -> Attempt<()> {
    store::guard(&client, layout, Lock::None).await?;
    if partitions::are_many(&client).await? {
        return Ok(());
    }
    let one_more = format!("SELECT FROM {table} LIMIT 1 OFFSET $1");
    if client.query_opt(&one_more, &[&most_rows]).await?.is_some() {
        return Ok(());
    }
    let recorded = client.query(RECORD, &[&table]).await?;
    let names = recorded.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    if !names.is_empty() {
        info!(target: "broadside::postgres", table, indexes = ?names, "drops indexes until the load ends");
    }
    let drops: String = names.iter().map(|name| format!("DROP INDEX IF EXISTS {};", quoted(name))).collect();
    Ok(client.batch_execute(&drops).await?)
}

/// Makes all indexes on record again.
pub(super) async fn restore(connections: &Connections, step: Step) -> Result<()> {
    let names = connections.run(step, deferred).await?;
    stream::iter(names)
        .map(|name| async move {
            let name = &name;
            connections.transact(step, |client| create(client, name)).await
        })
        .buffer_unordered(AT_ONCE.min(connections.max_size()))
        .try_collect()
        .await
}

/// In the order of names, which has the one that takes longest, that of annotations, near the front.
async fn deferred(client: Client) -> Attempt<Vec<String>> {
    // Who made a store without the record has dropped nothing.
    let exists = client.query_one("SELECT to_regclass('broadside_deferred_index') IS NOT NULL", &[]).await?;
    if !exists.try_get::<_, bool>(0)? {
        return Ok(Vec::new());
    }
    let rows = client.query("SELECT name FROM broadside_deferred_index ORDER BY name", &[]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

async fn create(client: Client, name: &str) -> Attempt<()> {
    // Whoever else is making it has its row locked, and then there is none.
    let take = "DELETE FROM broadside_deferred_index WHERE name = $1 RETURNING definition";
    if let Some(row) = client.query_opt(take, &[&name]).await? {
        // It takes as long as the table is large, and must be made some day.
        let definition: String = row.try_get(0)?;
        info!(target: "broadside::postgres", index = name, "makes an index again");
        client.batch_execute(&format!("SET LOCAL statement_timeout = 0; {definition}")).await?;
    }
    Ok(())
}
