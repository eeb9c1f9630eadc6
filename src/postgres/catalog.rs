//! Identification of stores by the catalog: their tables, and the layouts in which they can be read and written.

use std::collections::{BTreeMap, BTreeSet};

use super::connection::Client;
use super::error::{Attempt, Failure};
use super::layout::{Layout, Relations};
use super::marker::{self, ACTIVE_JOBS_ONLY, CAN_BE_MARKER, Marker};
use super::statement::identifier;

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

/// The columns of a table of [`LOOKOUT`].
fn columns_of(table: &str) -> impl Iterator<Item = &'static str> {
    LOOKOUT.iter().filter(move |(name, _)| *name == table).flat_map(|(_, columns)| columns.split(", "))
}

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

/// The relations of a schema with one of these names: the kind, whether the user may read it (null if it has been
/// dropped meanwhile), its columns, the collation of its job ids, its partition key, whether it has the constraint of
/// upstream's `hotColdSplit`, whether it can be the marker's, whether the user may use the schema, the columns that alone
/// are a unique key, and those without which no row can be inserted.
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
    EXISTS (SELECT FROM pg_constraint AS s WHERE s.conrelid = c.oid AND s.conname = '{ACTIVE_JOBS_ONLY}'),
    {CAN_BE_MARKER},
    has_schema_privilege(n.oid, 'USAGE'),
    ARRAY(SELECT a.attname::text FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indnatts = 1 AND i.indpred IS NULL),
    ARRAY(SELECT a.attname::text FROM pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = '')
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
    /// The columns that alone are a unique key.
    keys: Vec<String>,
    /// The columns without which no row can be inserted.
    required: Vec<String>,
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
    pub(super) fn has(&self, table: &str, column: &str) -> bool {
        self.relations.get(table).is_some_and(|found| found.columns.contains(column))
    }

    /// Whether a column alone is a unique key of a table.
    pub(super) fn is_key(&self, table: &str, column: &str) -> bool {
        self.relations.get(table).is_some_and(|found| found.keys.iter().any(|key| key == column))
    }

    /// Whether the schema has Lookout's tables with all columns that pass a condition.
    fn is_lookouts(&self, condition: impl Fn(&str, &str) -> bool) -> bool {
        let has_all =
            |table: &str| columns_of(table).all(|column| !condition(table, column) || self.has(table, column));
        LOOKOUT.iter().all(|(table, _)| has_all(table))
    }

    /// The layout in which reads find all jobs; `None` if tables are missing or not Lookout's. The tables need not be
    /// those of a layout of this backend: reads need only know which relation has all jobs.
    fn readable(&self) -> Option<Layout> {
        let is_required =
            |table: &str, column: &str| !OPTIONAL.iter().any(|(of, optional, _)| (*of, *optional) == (table, column));
        if !self.is_lookouts(is_required) {
            return None;
        }
        if !self.relations.contains_key("job_historical") {
            return self.layout().or(Some(Layout::Lookout));
        }
        // A split that was interrupted has no view of all jobs.
        let mut columns = columns_of("job").filter(|column| is_required("job", column));
        columns.all(|column| self.has("job_all", column)).then_some(Layout::HotColdSplit)
    }

    /// The relations that reads of a layout name.
    pub(super) fn relations(&self, layout: Layout) -> Relations {
        let with_nulls = |of: &str, relation: &str| {
            let is_known = |column: &str| !self.relations.contains_key(relation) || self.has(relation, column);
            let (known, missing): (Vec<_>, Vec<_>) = columns_of(of).partition(|column| is_known(column));
            if missing.is_empty() {
                return relation.to_owned();
            }
            let null = |column: &&str| {
                let optional = OPTIONAL.iter().find(|(table, optional, _)| (*table, optional) == (of, column));
                optional.map(|(_, column, kind)| format!(", NULL::{kind} AS {column}"))
            };
            let nulls: String = missing.iter().filter_map(null).collect();
            format!("(SELECT {}{nulls} FROM {relation})", known.join(", "))
        };
        Relations { jobs: with_nulls("job", layout.all_jobs()), runs: with_nulls("job_run", "job_run") }
    }

    /// Whether rows of a table can be written: its ids are unique, and it requires no other columns than Lookout's.
    fn can_be_written(&self, table: &str, id: &str) -> bool {
        let is_known = |column: &String| columns_of(table).any(|known| known == column);
        self.relations.get(table).is_some_and(|table| {
            table.kind == "r" && table.keys.iter().any(|key| key == id) && table.required.iter().all(is_known)
        })
    }

    /// The layout of this backend according to the catalog; `None` if tables or columns are missing or not Lookout's.
    pub(super) fn layout(&self) -> Option<Layout> {
        if !self.is_lookouts(|_, _| true) || self.foreign_layout().is_some() {
            return None;
        }
        let others = [("job_run", "run_id"), ("job_spec", "job_id"), ("job_error", "job_id")];
        if !others.iter().all(|(table, id)| self.can_be_written(table, id)) {
            return None;
        }
        let kind = |name: &str| self.relations.get(name).map(|relation| relation.kind.as_str());
        let is_plain = self.can_be_written("job", "job_id");
        match (kind("job"), kind("job_historical"), kind("job_all"), kind("job_key")) {
            (Some("r"), None, None, None) if is_plain => Some(Layout::Lookout),
            (Some("r"), Some("r"), Some("v"), None) if is_plain => Some(Layout::HotColdSplit),
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

    /// The layout according to the marker, unless another program has converted the tables since.
    fn marked(&self) -> Option<&str> {
        self.marker.as_ref().and_then(Marker::layout).filter(|_| self.foreign_layout().is_none())
    }

    /// Whether Broadside has created the tables.
    pub(super) fn is_initialised(&self) -> bool {
        self.marked().is_some()
    }

    /// Whether Broadside has created the tables in this layout.
    pub(super) fn is_initialised_in(&self, layout: Layout) -> bool {
        self.marked() == Some(layout.name())
    }

    /// The layout according to the marker, or else the catalog.
    pub(super) fn made_in(&self) -> Option<Layout> {
        self.marked().map_or_else(|| self.readable(), Layout::from_name)
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
        if let Some(foreign) = self.foreign_layout().filter(|_| made != layout.name()) {
            return Err(Failure::WrongStore(format!(
                "schema {schema:?} has the layout {foreign}: remove the keys of other layouts from the address"
            )));
        }
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

    fn missing_column(&self) -> Option<String> {
        let optional = OPTIONAL.iter().find(|(table, column, _)| !self.has(table, column));
        optional.map(|(table, column, _)| format!("{table}.{column}"))
    }

    /// Succeeds if Broadside created the tables, there are none, or they are Lookout's and are to be adopted.
    pub(super) fn check_writable(&self, adopt: bool) -> Attempt<()> {
        if self.is_initialised() || !self.has_tables() || (adopt && self.layout().is_some()) {
            return Ok(());
        }
        if self.layout().is_none() && self.readable().is_some() {
            let has = match (self.foreign_layout(), self.missing_column()) {
                (Some(layout), _) => format!("the layout {layout}"),
                (None, Some(column)) => format!("Lookout's tables without the column {column}"),
                (None, None) => "tables with other kinds, keys or required columns than Lookout's".to_owned(),
            };
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
    let catalog = CATALOG.replace("{CAN_BE_MARKER}", CAN_BE_MARKER).replace("{ACTIVE_JOBS_ONLY}", ACTIVE_JOBS_ONLY);
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
            keys: row.try_get(9)?,
            required: row.try_get(10)?,
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
        found.marker = marker::read(client, schema).await?;
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
