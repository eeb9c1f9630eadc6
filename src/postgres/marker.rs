//! Identification of stores: the marker that Broadside writes, and the catalog for schemas without a marker.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use super::connection::Client;
use super::error::{Attempt, Failure};
use super::layout::{Layout, Relations};
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

/// The server's time in the form of the marker.
const NOW: &str = r#"to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;

/// The columns of a job that the statements of this backend use. The table may have more, in any order.
pub(super) const JOB_COLUMNS: &str = "job_id, queue, owner, jobset, cpu, memory, ephemeral_storage, gpu, priority, \
    submitted, cancelled, state, last_transition_time, last_transition_time_seconds, job_spec, duplicate, \
    priority_class, latest_run_id, cancel_reason, namespace, annotations, cancel_user";
/// The columns that Lookout's tables do not have at each migration from 013 on, with their types. They are read as null.
const OPTIONAL: [(&str, &str, &str); 3] =
    [("job", "cancel_user", "varchar"), ("job", "job_spec", "bytea"), ("job_run", "pool", "text")];

/// The columns that the statements of this backend use, by table.
const LOOKOUT: [(&str, &str); 4] = [
    ("job", JOB_COLUMNS),
    (
        "job_run",
        "run_id, job_id, cluster, node, pending, started, finished, job_run_state, error, exit_code, leased, debug, pool",
    ),
    ("job_spec", "job_id, job_spec"),
    ("job_error", "job_id, error"),
];

/// The names of all tables and views of all layouts, and of the marker's table.
const NAMES: [&str; 9] = [
    "job",
    "job_run",
    "job_spec",
    "job_error",
    "job_deduplication",
    "job_historical",
    "job_all",
    "job_key",
    "broadside_store",
];

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

/// The relations of a schema with one of these names: the kind, whether the user may read it (null if it has been
/// dropped meanwhile), its columns, the collation of its job ids, its partition key, whether it has the constraint of
/// upstream's `hotColdSplit`, whether it can be the marker's, and whether the user may use the schema.
const CATALOG: &str = "
SELECT
    c.relname::text,
    c.relkind::text,
    has_table_privilege(c.oid, 'SELECT'),
    (SELECT array_agg(a.attname::text) FROM pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    (SELECT l.collname::text FROM pg_attribute AS a JOIN pg_collation AS l ON l.oid = a.attcollation
        WHERE a.attrelid = c.oid AND a.attname = 'job_id' AND l.collnamespace = 'pg_catalog'::regnamespace),
    pg_get_partkeydef(c.oid),
    EXISTS (SELECT FROM pg_constraint AS s WHERE s.conrelid = c.oid AND s.conname = 'chk_job_active_state'),
    {CAN_BE_MARKER},
    has_schema_privilege(n.oid, 'USAGE')
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = ANY($2) AND (c.relkind IN ('r', 'p', 'v', 'm', 'f') OR c.relname = 'broadside_store')";

/// A relation of the schema.
#[derive(Debug)]
struct Relation {
    kind: String,
    columns: BTreeSet<String>,
    partition_key: Option<String>,
    has_active_jobs_only: bool,
    can_be_marker: bool,
}

/// The marker of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marker(BTreeMap<String, String>);

impl Marker {
    fn layout(&self) -> Option<&str> {
        self.0.get(LAYOUT).map(String::as_str)
    }

    fn version(&self) -> Option<&str> {
        self.0.get(VERSION).map(String::as_str)
    }

    /// The time of creation of a scratch store; `None` if the store is not a scratch store.
    pub(super) fn scratch(&self) -> Option<Timestamp> {
        self.0.get(SCRATCH)?;
        Timestamp::from_str(self.0.get(CREATED)?).ok()
    }
}

/// The content of a schema.
#[derive(Debug)]
pub(super) struct Found {
    schema: String,
    relations: BTreeMap<String, Relation>,
    /// `None` if there is no marker, or the user may not read it.
    pub marker: Option<Marker>,
    /// Whether there may be a marker that the user may not read.
    is_marker_hidden: bool,
    /// Whether the schema has tables that the user may not name.
    is_schema_hidden: bool,
    /// The collation of ids as a quoted identifier; in tables created by Lookout, that of the database.
    pub collation: String,
}

impl Found {
    /// Whether a table has a column.
    fn has(&self, table: &str, column: &str) -> bool {
        self.relations.get(table).is_some_and(|found| found.columns.contains(column))
    }

    /// Whether the schema has Lookout's tables with all columns that pass a condition.
    fn is_lookouts(&self, condition: impl Fn(&str, &str) -> bool) -> bool {
        LOOKOUT.iter().all(|(table, columns)| {
            columns.split(", ").all(|column| !condition(table, column) || self.has(table, column))
        })
    }

    /// The layout in which reads find all jobs; `None` if tables are missing or not Lookout's. The tables need not be
    /// those of a layout of this backend: reads need only know which relation has all jobs.
    fn readable(&self) -> Option<Layout> {
        let is_required =
            |table: &str, column: &str| !OPTIONAL.iter().any(|(of, optional, _)| (*of, *optional) == (table, column));
        if !self.is_lookouts(is_required) {
            return None;
        }
        let is_split = ["job_historical", "job_all"].iter().all(|name| self.relations.contains_key(*name));
        self.layout().or(Some(if is_split { Layout::HotColdSplit } else { Layout::Lookout }))
    }

    /// The relations that reads of a layout name.
    pub(super) fn relations(&self, layout: Layout) -> Relations {
        let with_nulls = |of: &str, relation: &str| {
            let is_missing = |column: &str| self.relations.contains_key(relation) && !self.has(relation, column);
            let missing = OPTIONAL.iter().filter(|(table, column, _)| *table == of && is_missing(column));
            let nulls: String = missing.map(|(_, column, kind)| format!(", NULL::{kind} AS {column}")).collect();
            if nulls.is_empty() { relation.to_owned() } else { format!("(SELECT *{nulls} FROM {relation})") }
        };
        Relations { jobs: with_nulls("job", layout.all_jobs()), runs: with_nulls("job_run", "job_run") }
    }

    /// The layout of this backend according to the catalog; `None` if tables or columns are missing or not Lookout's.
    pub(super) fn layout(&self) -> Option<Layout> {
        if !self.is_lookouts(|_, _| true) || self.foreign_layout().is_some() {
            return None;
        }
        let kind = |name: &str| self.relations.get(name).map(|relation| relation.kind.as_str());
        match (kind("job"), kind("job_historical"), kind("job_all"), kind("job_key")) {
            (Some("r"), None, None, None) => Some(Layout::Lookout),
            (Some("r"), Some("r"), Some("v"), None) => Some(Layout::HotColdSplit),
            (Some("p"), None, None, Some("r")) => Some(Layout::PartitionBySubmitted),
            _ => None,
        }
    }

    /// The name of a layout of another program whose tables have the same names.
    fn foreign_layout(&self) -> Option<&'static str> {
        let job = self.relations.get("job")?;
        match job.partition_key.as_deref() {
            None if job.has_active_jobs_only => Some("hotColdSplit of upstream Broadside (hotcold_up.sql)"),
            Some("LIST (state)") => Some("experimentalHotColdSplit of Lookout"),
            Some("RANGE (submitted)") if !self.relations.contains_key("job_key") => {
                Some("partitionBySubmitted of upstream Broadside (partition_up.sql)")
            }
            _ => None,
        }
    }

    /// Whether the schema has a table with one of the backend's names, other than the marker's.
    fn has_tables(&self) -> bool {
        self.relations.keys().any(|name| name != "broadside_store")
    }

    /// Whether Broadside has created the tables.
    pub(super) fn is_initialised(&self) -> bool {
        self.marker.as_ref().is_some_and(|marker| marker.layout().is_some())
    }

    /// Whether Broadside has created the tables in this layout.
    pub(super) fn is_initialised_in(&self, layout: Layout) -> bool {
        self.marker.as_ref().is_some_and(|marker| marker.layout() == Some(layout.name()))
    }

    /// The layout according to the marker, or else the catalog.
    pub(super) fn made_in(&self) -> Option<Layout> {
        let marked = self.marker.as_ref().and_then(Marker::layout);
        marked.map_or_else(|| self.readable(), Layout::from_name)
    }

    /// Succeeds if a handle with this layout may read the store. A handle with `hot_cold_split` may be opened on an
    /// unsplit store, which `initialise_schema` then splits.
    pub(super) fn check(&self, layout: Layout) -> Attempt<()> {
        let schema = &self.schema;
        if self.is_schema_hidden {
            return Err(Failure::WrongStore(format!("the user may not use schema {schema:?}: grant USAGE on it")));
        }
        if self.relations.get("broadside_store").is_some_and(|table| !table.can_be_marker) {
            return Err(self.not_lookouts());
        }
        let (made, version) = match &self.marker {
            Some(marker) if self.is_initialised() => (marker.layout(), marker.version()),
            _ if !self.has_tables() => return Ok(()),
            _ => (self.readable().map(Layout::name), None),
        };
        let made = made.ok_or_else(|| self.not_lookouts())?;
        if made != layout.name() && !(layout == Layout::HotColdSplit && made == Layout::Lookout.name()) {
            return Err(Failure::WrongStore(format!(
                "schema {schema:?} has the layout {made}, and the configuration has the layout {}",
                layout.name()
            )));
        }
        match version {
            Some(version) if version != layout.version() && made == layout.name() => Err(Failure::WrongStore(format!(
                "schema {schema:?} has version {version} of the tables, and this build supports {}",
                layout.version()
            ))),
            _ => Ok(()),
        }
    }

    fn not_lookouts(&self) -> Failure {
        if self.has("job", "jobset") && !self.relations.contains_key("job_spec") {
            return Failure::WrongStore(format!(
                "schema {:?} has Lookout's tables before its migration 013, which is the first that can be read",
                self.schema
            ));
        }
        let names: Vec<_> = self.relations.keys().map(String::as_str).collect();
        Failure::WrongStore(format!(
            "schema {:?} contains {} but not Lookout's tables: choose another one by the key schema",
            self.schema,
            names.join(", ")
        ))
    }

    /// Succeeds if Broadside created the tables, there are none, or they are Lookout's and are to be adopted.
    pub(super) fn check_writable(&self, adopt: bool) -> Attempt<()> {
        if self.is_initialised() || !self.has_tables() || (adopt && self.layout().is_some()) {
            return Ok(());
        }
        if self.layout().is_none() && self.readable().is_some() {
            let has = self.foreign_layout().map_or_else(
                || "Lookout's tables before its migration 016".to_owned(),
                |layout| format!("the layout {layout}"),
            );
            return Err(Failure::WrongStore(format!("schema {:?} has {has}, which can only be read", self.schema)));
        }
        if self.is_marker_hidden {
            let schema = &self.schema;
            return Err(Failure::WrongStore(format!(
                "the user may not read the marker of schema {schema:?}: grant SELECT on its table broadside_store"
            )));
        }
        Err(Failure::WrongStore(format!(
            "schema {:?} contains tables that Broadside did not create: if they are Lookout's and may be changed, \
             add adopt=true to the address",
            self.schema
        )))
    }
}

/// Reads the marker and the catalog of a schema.
pub(super) async fn inspect(client: &Client, schema: &str) -> Attempt<Found> {
    let catalog = CATALOG.replace("{CAN_BE_MARKER}", CAN_BE_MARKER);
    let rows = client.query(&client.prepare(&catalog).await?, &[&schema, &NAMES.as_slice()]).await?;
    let mut found = Found {
        schema: schema.to_owned(),
        relations: BTreeMap::new(),
        marker: None,
        is_marker_hidden: false,
        is_schema_hidden: false,
        collation: r#""C""#.to_owned(),
    };
    let mut is_readable = false;
    for row in rows {
        let (name, readable): (String, Option<bool>) = (row.try_get(0)?, row.try_get(2)?);
        let Some(readable) = readable else { continue };
        let relation = Relation {
            kind: row.try_get(1)?,
            columns: row.try_get::<_, Option<Vec<String>>>(3)?.into_iter().flatten().collect(),
            partition_key: row.try_get(5)?,
            has_active_jobs_only: row.try_get(6)?,
            can_be_marker: row.try_get(7)?,
        };
        found.is_schema_hidden |= !row.try_get::<_, bool>(8)?;
        match (name.as_str(), row.try_get::<_, Option<String>>(4)?) {
            ("broadside_store", _) if relation.can_be_marker => {
                (is_readable, found.is_marker_hidden) = (readable, !readable);
            }
            ("job", Some(collation)) => found.collation = identifier(&collation),
            _ => {}
        }
        found.relations.insert(name, relation);
    }
    if is_readable && !found.is_schema_hidden {
        let keys = [LAYOUT, VERSION, MADE_BY, CREATED, SCRATCH].as_slice();
        let table = format!("{}.broadside_store", identifier(schema));
        // Without the tables that inherit from it, which another user may own.
        let select = format!("SELECT key, value FROM ONLY {table} WHERE key = ANY($1) AND value IS NOT NULL");
        let rows = client.query(&client.prepare(&select).await?, &[&keys]).await?;
        let pairs: BTreeMap<String, String> =
            rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Attempt<_>>()?;
        // Without this key the table is not a marker of Broadside.
        found.marker = pairs.contains_key(MADE_BY).then_some(Marker(pairs));
    }
    Ok(found)
}

/// The number of jobs in the layout of the catalog, which may differ from the handle's; 0 without tables.
pub(super) async fn job_count(client: Client, schema: &str) -> Attempt<u64> {
    let found = inspect(&client, schema).await?;
    if !found.has_tables() {
        return Ok(0);
    }
    let layout = found.readable().ok_or_else(|| found.not_lookouts())?;
    let row = client.query_one(&format!("SELECT count(*) FROM {}", layout.all_jobs()), &[]).await?;
    Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
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

/// Succeeds if Broadside created the store in this layout. Every writing transaction calls it first.
pub(super) async fn guard(client: &Client, layout: Layout, lock: Lock) -> Attempt<()> {
    let marker = format!("SELECT key, value FROM broadside_store WHERE key IN ('{LAYOUT}', '{VERSION}')");
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
/// A client of a pooler may have left a temporary table with this name.
pub(super) const UNSPLIT: &str = "SELECT to_regclass(quote_ident(current_schema()) || '.job_historical') IS NULL";

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
