//! The partitions of jobs by day of submission, each created before the first job of its day is inserted.

use std::collections::BTreeSet;

use super::connection::{Client, Connections};
use super::error::{Attempt, Step};
use super::layout::Layout;
use super::marker::{self, Lock};
use super::schema;
use super::statement::identifier;
use crate::error::{Operation, Result};
use crate::time::Timestamp;

const SECONDS_PER_DAY: i64 = 86_400;

/// The missing ones of the given partitions. It reads the catalog, because the session's catalog cache may be older
/// than the lock that the session has acquired.
const MISSING: &str = "SELECT name FROM unnest($1::text[]) AS name WHERE NOT EXISTS (
    SELECT FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = to_regclass('job') AND c.relname = name
)";

/// All partitions.
const ALL: &str = "SELECT c.relname::text FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass('job') ORDER BY 1";

/// The number of partitions that are created or dropped in one transaction. Each requires about 15 locks, for itself
/// and its indexes; a server has 6,400 by default.
const CHUNK: usize = 20;

/// Creates the missing partitions of the days of these times.
///
/// They are created in transactions of their own, because creation locks all jobs, and a batch would hold that lock
/// until its end. An empty partition does not change any result.
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
    for days in days.chunks(CHUNK) {
        let days = &days.iter().copied().collect::<BTreeSet<_>>();
        let make = |client: Client| async move {
            marker::guard(&client, Layout::PartitionBySubmitted, Lock::None).await?;
            // Under the lock no other process creates partitions; some may have been created since the first check.
            schema::lock(&client, connections.schema()).await?;
            let missing = missing(&client, days).await?;
            let statements: String = days.iter().filter(|&&day| missing.contains(&name(day))).map(create).collect();
            Ok(client.batch_execute(&statements).await?)
        };
        connections.transact(operation, make).await?;
    }
    Ok(())
}

/// Whether there are more partitions than one transaction can change.
pub(super) async fn are_many(client: &Client) -> Attempt<bool> {
    Ok(all(client).await?.len() > CHUNK)
}

/// Drops all partitions with their jobs, each by a statement, in several transactions.
pub(super) async fn drop_all(
    connections: &Connections,
    operation: Operation,
    statement: fn(&str) -> String,
) -> Result<()> {
    let names = connections.run(operation, |client| async move { all(&client).await }).await?;
    let mut step = Step::from(operation);
    for names in names.chunks(CHUNK) {
        let drop_some = |client: Client| async move {
            marker::guard(&client, Layout::PartitionBySubmitted, Lock::Reads).await?;
            // Another process may have dropped some of them before this one got the lock.
            let left = all(&client).await?;
            let names = names.iter().filter(|name| left.contains(name));
            let statements: String = names.map(|name| statement(&identifier(name))).collect();
            Ok(client.batch_execute(&statements).await?)
        };
        connections.transact(step, drop_some).await?;
        step = Step::after(operation, "the jobs of some days are removed");
    }
    Ok(())
}

/// Drops a partition of a scratch store. The keys of its jobs are dropped with the store, and are not deleted: a trigger
/// would execute the functions of the owner of the tables with the rights of the caller.
pub(super) fn drop_only(name: &str) -> String {
    format!("DROP TABLE {name};")
}

/// Drops a partition and deletes the keys of its jobs.
pub(super) fn drop_with_keys(name: &str) -> String {
    format!("DELETE FROM job_key AS k USING {name} AS j WHERE k.job_id = j.job_id; DROP TABLE {name};")
}

async fn all(client: &Client) -> Attempt<Vec<String>> {
    client.column(ALL, &[]).await
}

/// Sets the submission time in each staged update, which determines the partition. Returns the partitions, in order of
/// days. A day whose partition an administrator has dropped has no jobs, although their ids remain in `job_key`.
const LOCATE: &str = "WITH located AS (
    UPDATE pg_temp.broadside_staged AS u SET submitted = k.submitted FROM job_key AS k
    WHERE u.target = 'job update' AND u.job_id = k.job_id
    RETURNING k.submitted
)
SELECT DISTINCT c.relname::text FROM located
JOIN pg_class AS c ON c.relname = to_char(submitted, '\"job_\"YYYY_MM_DD')
JOIN pg_inherits AS i ON i.inhrelid = c.oid AND i.inhparent = to_regclass('job')
ORDER BY 1";

/// The partitions of the jobs of the staged updates.
pub(super) async fn of_updates(client: &Client) -> Attempt<Vec<String>> {
    client.column(LOCATE, &[]).await
}

async fn missing(client: &Client, days: &BTreeSet<i64>) -> Attempt<BTreeSet<String>> {
    let names: Vec<String> = days.iter().copied().map(name).collect();
    Ok(client.column(MISSING, &[&names]).await?.into_iter().collect())
}

fn create(&day: &i64) -> String {
    let (name, start, end) = (name(day), date(day), date(day + 1));
    // Unlike PARTITION OF, ATTACH does not wait for reads, such as a long export.
    format!(
        "CREATE TABLE {name} (LIKE job INCLUDING ALL EXCLUDING INDEXES) WITH (fillfactor = 70);
        ALTER TABLE job ATTACH PARTITION {name} FOR VALUES FROM ('{start}') TO ('{end}');"
    )
}

fn name(day: i64) -> String {
    format!("job_{}", date(day).replace('-', "_"))
}

/// The date of a day, counted from 1970-01-01.
fn date(day: i64) -> String {
    let text = Timestamp::from_seconds(day.saturating_mul(SECONDS_PER_DAY)).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}
