//! The marker that Broadside writes to identify its stores, and their properties.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use super::connection::Client;
use super::error::{Attempt, Failure};
use super::layout::Layout;
use super::statement::{identifier, literal};
use crate::time::Timestamp;

/// The table of the marker and of the properties: strings by key.
pub(super) const TABLE: &str = r#"CREATE TABLE IF NOT EXISTS broadside_store (
    key text COLLATE "C" NOT NULL PRIMARY KEY,
    value text NOT NULL
)"#;

/// The prefix of the keys of properties; no key of the marker has it.
const PROPERTY: &str = "property.";

const LAYOUT: &str = "layout";
const VERSION: &str = "version";
const MADE_BY: &str = "made_by";
const CREATED: &str = "created";
const SCRATCH: &str = "scratch";

/// The constraint of `job` in `hotColdSplit` of upstream Broadside.
pub(super) const ACTIVE_JOBS_ONLY: &str = "chk_job_active_state";

/// The server's time in the form of the marker.
const NOW: &str = r#"to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;

/// The condition that the table `c` can be that of a marker.
///
/// Another program may have a table of the same name, and whoever owns a table can make its readers execute functions
/// with their own rights: by casts of the types of its columns, policies of its rows, and expressions of its indexes and
/// checks. Such tables are not read.
pub(super) const CAN_BE_MARKER: &str = "
    c.relkind = 'r' AND NOT c.relrowsecurity AND c.relchecks = 0
    AND 2 = (SELECT count(*) FROM pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attname IN ('key', 'value') AND a.atttypid = 'text'::regtype)
    AND 1 = (SELECT count(*) FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'key'
        WHERE i.indrelid = c.oid AND i.indisprimary AND i.indnatts = 1 AND i.indkey[0] = a.attnum)
    AND NOT EXISTS (SELECT FROM pg_index AS i
        WHERE i.indrelid = c.oid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL))";

/// The marker of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marker(BTreeMap<String, String>);

impl Marker {
    pub(super) fn layout(&self) -> Option<&str> {
        self.0.get(LAYOUT).map(String::as_str)
    }

    pub(super) fn version(&self) -> Option<&str> {
        self.0.get(VERSION).map(String::as_str)
    }

    /// The time of creation of a scratch store; `None` if the store is not a scratch store.
    pub(super) fn scratch(&self) -> Option<Timestamp> {
        self.0.get(SCRATCH)?;
        Timestamp::from_str(self.0.get(CREATED)?).ok()
    }
}

/// Reads the marker of a schema, whose table can be that of a marker.
pub(super) async fn read(client: &Client, schema: &str) -> Attempt<Option<Marker>> {
    let keys = [LAYOUT, VERSION, MADE_BY, CREATED, SCRATCH].as_slice();
    let table = format!("{}.broadside_store", identifier(schema));
    // Without the tables that inherit from it, which another user may own.
    let select = format!("SELECT key, value FROM ONLY {table} WHERE key = ANY($1) AND value IS NOT NULL");
    let rows = client.query(&client.prepare(&select).await?, &[&keys]).await?;
    let pairs: BTreeMap<String, String> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Attempt<_>>()?;
    // Without this key the table is not a marker of Broadside.
    Ok(pairs.contains_key(MADE_BY).then_some(Marker(pairs)))
}

/// The statements that write the marker of this build.
pub(super) fn mark(is_scratch: bool) -> String {
    let made_by = literal(concat!("broadside ", env!("CARGO_PKG_VERSION")));
    let scratch = if is_scratch { format!(", ('{SCRATCH}', 'true')") } else { String::new() };
    format!(
        "{TABLE}; INSERT INTO broadside_store (key, value) VALUES ('{MADE_BY}', {made_by}), ('{CREATED}', {NOW}){scratch}
        ON CONFLICT DO NOTHING"
    )
}

/// The statement that adds the layout of the tables to the marker.
pub(super) fn record(layout: Layout) -> String {
    format!(
        "INSERT INTO broadside_store (key, value) VALUES ('{LAYOUT}', '{}'), ('{VERSION}', '{}')
        ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        layout.name(),
        layout.version()
    )
}

/// The statement that limits the wait for a lock behind which all later reads and writes wait, unless the user has set a
/// limit.
pub(super) const LIMITED_WAIT: &str =
    "SELECT 'lock_timeout', set_config('lock_timeout', '5s', true) WHERE current_setting('lock_timeout') = '0';";

/// The lock of a writing transaction on the table of jobs, named by what it prevents in other transactions.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lock {
    /// No lock.
    None,
    /// Prevents changes of the layout.
    Layout,
    /// Prevents writes.
    Writes,
    /// Prevents reads and writes.
    Reads,
}

impl Lock {
    fn statement(self) -> String {
        match self {
            Self::None => String::new(),
            Self::Layout => "LOCK TABLE ONLY job IN ROW EXCLUSIVE MODE;".to_owned(),
            Self::Writes => "LOCK TABLE ONLY job IN SHARE MODE;".to_owned(),
            Self::Reads => format!("{LIMITED_WAIT}LOCK TABLE ONLY job IN ACCESS EXCLUSIVE MODE;"),
        }
    }
}

/// Succeeds if Broadside created the store in this layout, and no other program has converted `job` since. Every writing
/// transaction calls it first.
pub(super) async fn guard(client: &Client, layout: Layout, lock: Lock) -> Attempt<()> {
    let kind = if layout == Layout::PartitionBySubmitted { 'p' } else { 'r' };
    let marker = format!(
        "SELECT key, value FROM broadside_store WHERE key IN ('{LAYOUT}', '{VERSION}') AND EXISTS (
            SELECT FROM pg_class AS c WHERE c.oid = to_regclass('job') AND c.relkind = '{kind}' AND NOT EXISTS (
                SELECT FROM pg_constraint AS s WHERE s.conrelid = c.oid AND s.conname = '{ACTIVE_JOBS_ONLY}'))"
    );
    let messages = client.simple_query(&format!("{}{marker}", lock.statement())).await?;
    let mut expected = BTreeSet::from([(LAYOUT, layout.name().to_owned()), (VERSION, layout.version())]);
    for message in &messages {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            expected.retain(|(key, value)| row.get(0) != Some(key) || row.get(1) != Some(value));
        }
    }
    if expected.is_empty() {
        return Ok(());
    }
    Err(Failure::WrongStore(format!("the store has no marker of the layout {} in this version", layout.name())))
}

/// Whether all jobs are in `job`, as a handle with Lookout's layout assumes. The check is sent after the read that it
/// covers, because a split cannot be undone.
///
/// A client of a pooler may have left a temporary table with this name, and an index or a sequence may have it.
pub(super) const UNSPLIT: &str = "SELECT NOT EXISTS (
    SELECT FROM pg_class WHERE oid = to_regclass(quote_ident(current_schema()) || '.job_historical') AND relkind IN ('r', 'p'))";

/// The failure of a read that misses the jobs of a split store.
pub(super) fn split() -> Failure {
    Failure::WrongStore("the store has been split: add hot_cold_split=true to the address".to_owned())
}

/// A property of the store.
pub(super) async fn property(client: Client, key: &str) -> Attempt<Option<String>> {
    let key = format!("{PROPERTY}{key}");
    Ok(client.column("SELECT value FROM broadside_store WHERE key = $1", &[&key]).await?.pop())
}

/// Sets or removes a property of the store.
pub(super) async fn set_property(client: &Client, key: &str, value: Option<&str>) -> Attempt<()> {
    let key = format!("{PROPERTY}{key}");
    let Some(value) = value else {
        client.execute("DELETE FROM broadside_store WHERE key = $1", &[&key]).await?;
        return Ok(());
    };
    let upsert = "INSERT INTO broadside_store (key, value) VALUES ($1, $2)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    let statement = client.prepare(upsert).await?;
    client.execute(&statement, &[&key, &value]).await?;
    Ok(())
}

/// The statement that deletes all properties and keeps the marker.
pub(super) fn clear_properties() -> String {
    format!("DELETE FROM broadside_store WHERE starts_with(key, '{PROPERTY}')")
}
