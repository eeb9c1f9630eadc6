//! The partitions of jobs by day: a day gets its own before the first job of that day is inserted.

use std::collections::BTreeSet;

use super::connection::{Client, Connections};
use super::error::{Attempt, Step};
use super::layout::Layout;
use super::schema::{self, quoted};
use super::store::{self, Lock};
use crate::error::{Operation, Result};
use crate::time::Timestamp;

const SECONDS_PER_DAY: i64 = 86_400;

/// Those of some partitions that are missing. It reads the catalogue itself, because a session's
/// memory of names may be older than the lock it has just got.
const MISSING: &str = "SELECT name FROM unnest($1::text[]) AS name WHERE NOT EXISTS (
    SELECT FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = to_regclass('job') AND c.relname = name
)";

/// All of them.
const ALL: &str = "SELECT c.relname::text FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass('job') ORDER BY 1";

/// How many are made or dropped in a transaction: each takes some 15 locks, for itself and its indexes, and a
/// server has memory for 6,400 as it comes.
const AT_ONCE: usize = 20;

/// Sees to it that the days of these times have partitions.
///
/// Partitions are made in transactions of their own: one locks all jobs, and a batch should not do that
/// until its end. An empty partition changes nothing for readers.
pub(super) async fn ensure(
    connections: &Connections,
    operation: Operation,
    times: impl Iterator<Item = Timestamp>,
) -> Result<()> {
    let days: BTreeSet<i64> = times.map(|time| time.floor_seconds().div_euclid(SECONDS_PER_DAY)).collect();
    if days.is_empty() {
        return Ok(());
    }
    let days = &days;
    let missing_now = connections.run(operation, |client| async move { missing(&client, days).await }).await?;
    let days: Vec<i64> = days.iter().copied().filter(|&day| missing_now.contains(&name(day))).collect();
    for days in days.chunks(AT_ONCE) {
        let days = &days.iter().copied().collect::<BTreeSet<_>>();
        let make = |client: Client| async move {
            store::guard(&client, Layout::PartitionBySubmitted, Lock::None).await?;
            // Another process may have made them meanwhile, and now cannot.
            schema::lock(&client, connections.schema()).await?;
            let missing = missing(&client, days).await?;
            let statements: String = days.iter().filter(|&&day| missing.contains(&name(day))).map(create).collect();
            Ok(client.batch_execute(&statements).await?)
        };
        connections.transact(operation, make).await?;
    }
    Ok(())
}

/// Whether there are more partitions than one transaction can surely change.
pub(super) async fn are_many(client: &Client) -> Attempt<bool> {
    Ok(all(client).await?.len() > AT_ONCE)
}

/// Drops the partitions with the jobs in them, some at a time.
pub(super) async fn drop_all(connections: &Connections, operation: Operation) -> Result<()> {
    let names = connections.run(operation, |client| async move { all(&client).await }).await?;
    let mut step = Step::from(operation);
    for names in names.chunks(AT_ONCE) {
        let drop_some = |client: Client| async move {
            store::guard(&client, Layout::PartitionBySubmitted, Lock::Reads).await?;
            let statements: String = names.iter().map(|name| drop_with_keys(&quoted(name))).collect();
            Ok(client.batch_execute(&statements).await?)
        };
        connections.transact(step, drop_some).await?;
        step = Step::after(operation, "the jobs of some days were removed");
    }
    Ok(())
}

/// An id whose job is gone must not stay taken.
fn drop_with_keys(name: &str) -> String {
    format!("DELETE FROM job_key AS k USING {name} AS j WHERE k.job_id = j.job_id; DROP TABLE IF EXISTS {name};")
}

async fn all(client: &Client) -> Attempt<Vec<String>> {
    let rows = client.query(&client.prepare(ALL).await?, &[]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// Tells each staged update of a job when the job was submitted, and thereby its partition.
const LOCATE: &str = "WITH located AS (
    UPDATE pg_temp.staged AS u SET submitted = k.submitted FROM job_key AS k
    WHERE u.part = 'job update' AND u.job_id = k.job_id
    RETURNING k.submitted
)
SELECT DISTINCT floor(extract(epoch FROM submitted) / 86400)::bigint FROM located ORDER BY 1";

/// The partitions of the jobs of the staged updates, by day.
pub(super) async fn of_updates(client: &Client) -> Attempt<Vec<String>> {
    let statement = client.prepare(LOCATE).await?;
    let days = client.query(&statement, &[]).await?;
    Ok(days.iter().map(|row| row.try_get(0).map(name)).collect::<Result<_, _>>()?)
}

async fn missing(client: &Client, days: &BTreeSet<i64>) -> Attempt<BTreeSet<String>> {
    let statement = client.prepare(MISSING).await?;
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
