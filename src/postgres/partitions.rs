//! The partitions of jobs by day: a day gets its own before the first job of that day is inserted.

use std::collections::BTreeSet;

use super::connection::{Client, Connections};
use super::error::Attempt;
use super::schema;
use crate::error::{Operation, Result};
use crate::time::Timestamp;

const SECONDS_PER_DAY: i64 = 86_400;

/// Those of some partitions that are missing. It reads the catalogue itself, because a session's
/// memory of names may be older than the lock it has just got.
const MISSING: &str = "SELECT name FROM unnest($1::text[]) AS name WHERE NOT EXISTS (
    SELECT FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = to_regclass('job') AND c.relname = name
)";

/// Sees to it that the days of these times have partitions.
///
/// A partition is made in a transaction of its own: it locks all jobs, and a batch should not do that
/// until its end. An empty partition changes nothing for readers.
pub(super) async fn ensure(
    connections: &Connections,
    operation: Operation,
    schema: Option<&str>,
    times: impl Iterator<Item = Timestamp>,
) -> Result<()> {
    let days: BTreeSet<i64> = times.map(|time| time.floor_seconds().div_euclid(SECONDS_PER_DAY)).collect();
    if days.is_empty() {
        return Ok(());
    }
    let days = &days;
    if connections.run(operation, |client| async move { missing(&client, days).await }).await?.is_empty() {
        return Ok(());
    }
    connections
        .transact(operation, |client| async move {
            // Another process may have made them meanwhile, and now cannot.
            schema::lock(&client, schema).await?;
            let missing = missing(&client, days).await?;
            let statements: String = days.iter().filter(|&&day| missing.contains(&name(day))).map(create).collect();
            Ok(client.batch_execute(&statements).await?)
        })
        .await
}

async fn missing(client: &Client, days: &BTreeSet<i64>) -> Attempt<BTreeSet<String>> {
    let statement = client.prepare_cached(MISSING).await?;
    let names: Vec<String> = days.iter().copied().map(name).collect();
    let rows = client.query(&statement, &[&names]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

fn create(&day: &i64) -> String {
    let (name, start, end) = (name(day), date(day), date(day + 1));
    format!("CREATE TABLE {name} PARTITION OF job FOR VALUES FROM ('{start}') TO ('{end}') WITH (fillfactor = 70);")
}

fn name(day: i64) -> String {
    format!("job_{}", date(day).replace('-', "_"))
}

/// The date of a day, counted from 1970-01-01.
fn date(day: i64) -> String {
    let text = Timestamp::from_seconds(day.saturating_mul(SECONDS_PER_DAY)).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}
