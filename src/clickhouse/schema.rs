//! The tables: what each column is, and what of it the engine is told.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::change::Change;
use super::config::ClickHouseConfig;
use super::connection::Connection;
use super::marker::{self, Content, Marker};
use super::row::IdRow;
use super::statement::{Statement, identifier, literal};
use crate::error::{Operation, Result};
use crate::model::{JobState, RunState};

/// How updates are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Layout {
    /// Whole rows on ReplacingMergeTree: an update inserts the row again under a higher version.
    Replacing,
    /// One row on MergeTree: an update is a lightweight UPDATE, kept as a patch part.
    Patch,
}

impl Layout {
    /// The name by which the address and the marker know the layout.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Replacing => "replacing",
            Self::Patch => "patch",
        }
    }
}

impl FromStr for Layout {
    type Err = ();

    fn from_str(name: &str) -> std::result::Result<Self, ()> {
        match name {
            "replacing" => Ok(Self::Replacing),
            "patch" => Ok(Self::Patch),
            _ => Err(()),
        }
    }
}

/// The tables in the order in which a batch is written: what needs another comes after it.
pub(super) const TABLES: [&str; 4] = ["job_spec", "job_error", "job_run", "job"];

/// Every column of `job`, in the order of [`JobRow`](super::row::JobRow).
pub(super) const JOB_COLUMNS: &str = "job_id, version, queue, job_set, owner, namespace, priority, priority_class, \
    submitted, cpu, memory, ephemeral_storage, gpu, annotations, state, last_transition_time, latest_run_id, \
    cancelled, cancel_reason, cancel_user";

/// The columns of `job_run` that a page shows, in the order of [`RunRow`](super::row::RunRow).
pub(super) const RUN_COLUMNS: &str =
    "run_id, job_id, cluster, node, pool, state, leased, pending, started, finished, exit_code";

/// Every column of `job_run`, in the order of [`StoredRun`](super::row::StoredRun).
pub(super) const STORED_RUN_COLUMNS: &str =
    "run_id, job_id, version, cluster, node, pool, state, leased, pending, started, finished, exit_code, error, debug";

/// A job's annotations as texts "key NUL value". Neither key nor value can hold a NUL, so a
/// text stands for one pair alone, and one bloom filter over these texts knows which granules
/// can hold a pair. A filter over the values would be useless for `true` or `1`, which every
/// granule has under some key.
pub(super) const ANNOTATION_PAIRS: &str =
    r"arrayMap((k, v) -> concat(k, '\0', v), mapKeys(annotations), mapValues(annotations))";

const JOB: &str = r"
    job_id String CODEC(ZSTD(1)),
    version UInt64 CODEC(T64, ZSTD(1)),
    queue LowCardinality(String),
    job_set LowCardinality(String),
    owner LowCardinality(String),
    namespace LowCardinality(String),
    priority Int64 CODEC(T64, ZSTD(1)),
    priority_class LowCardinality(String),
    submitted DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    cpu Int64 CODEC(T64, ZSTD(1)),
    memory Int64 CODEC(ZSTD(1)),
    ephemeral_storage Int64 CODEC(ZSTD(1)),
    gpu Int64 CODEC(T64, ZSTD(1)),
    annotations Map(String, String) CODEC(ZSTD(1)),
    state Enum8(<job states>),
    last_transition_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    last_transition_seconds Int64 ALIAS intDiv(toUnixTimestamp64Micro(last_transition_time) + 2208988800000000, 1000000) - 2208988800,
    latest_run_id String CODEC(ZSTD(1)),
    cancelled Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD(1)),
    cancel_reason LowCardinality(String),
    cancel_user LowCardinality(String),
    INDEX annotation_pairs <annotation pairs> TYPE bloom_filter(0.01) GRANULARITY 1";

const JOB_RUN: &str = r"
    run_id String CODEC(ZSTD(1)),
    job_id String CODEC(ZSTD(1)),
    version UInt64 CODEC(T64, ZSTD(1)),
    cluster LowCardinality(String),
    node LowCardinality(String),
    pool LowCardinality(String),
    state Enum8(<run states>),
    leased DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    pending Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD(1)),
    started Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD(1)),
    finished Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD(1)),
    exit_code Nullable(Int32),
    error String CODEC(ZSTD(3)),
    debug String CODEC(ZSTD(3)),
    INDEX run_id_range run_id TYPE minmax GRANULARITY 1,
    INDEX run_id_filter run_id TYPE bloom_filter(0.0001) GRANULARITY 1";

const RECORD: &str = r"
    job_id String CODEC(ZSTD(1)),
    version UInt64 CODEC(T64, ZSTD(1)),
    value String CODEC(ZSTD(3))";

/// Rows to a granule: an eighth of the engine's default, since most look-ups want few rows.
const GRANULES: &str = "index_granularity = 1024";

/// A table as every layout has it.
struct Table {
    name: &'static str,
    columns: String,
    /// The version column.
    version: &'static str,
    key: &'static str,
    /// The column by which a cluster spreads the rows.
    shard: &'static str,
}

fn tables() -> [Table; 4] {
    let record = |name| Table { name, columns: RECORD.to_owned(), version: "version", key: "job_id", shard: "job_id" };
    let job_states = JobState::ALL.map(|state| format!("'{}' = {}", state.name(), state.ordinal())).join(", ");
    let run_states = RunState::ALL.map(|state| format!("'{}' = {}", state.name(), state.ordinal())).join(", ");
    [
        record("job_spec"),
        record("job_error"),
        Table {
            name: "job_run",
            columns: JOB_RUN.replace("<run states>", &run_states),
            version: "version",
            key: "job_id, run_id",
            shard: "job_id",
        },
        Table {
            name: "job",
            columns: JOB.replace("<job states>", &job_states).replace("<annotation pairs>", ANNOTATION_PAIRS),
            version: "version",
            key: "job_id",
            shard: "job_id",
        },
    ]
}

/// Makes the database, the marker and the tables, as far as they are not there.
pub(super) async fn initialise(connection: &Connection, config: &ClickHouseConfig) -> Result<()> {
    let operation = Operation::InitialiseSchema;
    let ClickHouseConfig { database, layout, cluster, .. } = config;
    let cluster = cluster.as_deref();
    // Making a database that is there already would still need the right to make one.
    let comment = marker::database_comment(connection, operation, database).await?;
    let mut change = Change::default();
    if comment.is_none() {
        let statement = create_database(database, cluster);
        change.write(connection.execute_on_server(operation, &statement).await)?;
    }
    match change.read(Content::read(connection, operation, config).await)? {
        Content::Store(_) => {}
        Content::Unmarked if !config.adopt => return change.read(Err(marker::unmarked(operation))),
        Content::Unmarked | Content::Nothing => {
            let scratch = comment.as_deref().and_then(marker::scratch_created).is_some();
            let id = change.read(marker::new_id(connection, operation).await)?;
            for statement in create_store_table(&Marker::new(id, *layout, scratch), database, cluster) {
                change.write(connection.execute(operation, &statement).await)?;
            }
            // Another process may have made the table with another marker meanwhile.
            change.read(Content::read(connection, operation, config).await)?;
        }
    }
    for statement in create_tables(*layout, database, cluster) {
        change.write(connection.execute(operation, &statement).await)?;
    }
    Ok(())
}

/// The statements that make the tables, each of which does nothing if its table is there.
pub(super) fn create_tables(layout: Layout, database: &str, cluster: Option<&str>) -> Vec<Statement> {
    let tables = tables();
    let statements = tables.iter().flat_map(|table| match (layout, cluster) {
        (Layout::Replacing, None) => vec![create_table(table)],
        (Layout::Patch, _) => create_patched_table(table),
        (Layout::Replacing, Some(cluster)) => create_distributed_table(table, database, cluster),
    });
    statements.map(Statement::plain).collect()
}

/// The statements that make the table of the marker and of the properties. Its engine is the same in every
/// layout.
pub(super) fn create_store_table(marker: &Marker, database: &str, cluster: Option<&str>) -> Vec<Statement> {
    let table = Table {
        name: marker::TABLE,
        columns: "key String, value String, version UInt64".to_owned(),
        version: "version",
        key: "key",
        shard: "key",
    };
    let statements = match cluster {
        None => vec![create_table(&table)],
        Some(cluster) => create_distributed_table(&table, database, cluster),
    };
    let comment = format!(" COMMENT {}", literal(&marker.text()));
    statements.into_iter().map(|statement| Statement::plain(statement + &comment)).collect()
}

fn create_table(table: &Table) -> String {
    let Table { name, columns, version, key, .. } = table;
    format!(
        "CREATE TABLE IF NOT EXISTS {name} ({columns}\n) \
         ENGINE = ReplacingMergeTree({version}) ORDER BY ({key}) SETTINGS {GRANULES}"
    )
}

/// A table whose rows are updated in place by patch parts, which need the two block columns to
/// find the rows of a part that was merged since, and a window in which an insert that comes
/// twice is known by its token.
///
/// Nothing keeps two rows of one id out of a MergeTree, so rows of jobs and runs come in by an entrance: a
/// table without rows of its own, whose view passes on what is not there yet. An insert that the server
/// executes later than another of the same id then adds nothing.
fn create_patched_table(table: &Table) -> Vec<String> {
    let Table { name, columns, key, .. } = table;
    let own = format!(
        "CREATE TABLE IF NOT EXISTS {name} ({columns}\n) ENGINE = MergeTree ORDER BY ({key}) SETTINGS {GRANULES}, \
         enable_block_number_column = 1, enable_block_offset_column = 1, non_replicated_deduplication_window = 10000"
    );
    let (id, all) = match *name {
        "job" => ("job_id", JOB_COLUMNS),
        "job_run" => ("run_id", STORED_RUN_COLUMNS),
        // Of several rows of a record the one of the highest version is read.
        _ => return vec![own],
    };
    let entrance = entrance(name);
    let plain_columns = columns.split_once(",\n    INDEX").map_or(columns.as_str(), |(columns, _)| columns);
    vec![
        own,
        format!("CREATE TABLE IF NOT EXISTS {entrance} ({plain_columns}\n) ENGINE = Null"),
        format!(
            "CREATE MATERIALIZED VIEW IF NOT EXISTS {entrance}_view TO {name} AS SELECT {all} FROM {entrance} \
             WHERE {id} NOT IN (SELECT {id} FROM {name} WHERE {id} IN (SELECT {id} FROM {entrance}))"
        ),
    ]
}

/// The table by which rows come into a table of `layout=patch`.
pub(super) fn entrance(table: &str) -> String {
    format!("{table}_in")
}

/// Replicated tables on every host of a cluster, and over them a table that spreads rows by
/// job id: all versions of a row, and a job's runs with each other, stay on one shard, so
/// `FINAL` sees them together.
fn create_distributed_table(table: &Table, database: &str, cluster: &str) -> Vec<String> {
    let Table { name, columns, version, key, shard } = table;
    let on_cluster = on_cluster(cluster);
    vec![
        format!(
            "CREATE TABLE IF NOT EXISTS {name}_local{on_cluster} ({columns}\n) \
             ENGINE = ReplicatedReplacingMergeTree({version}) ORDER BY ({key}) SETTINGS {GRANULES}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {name}{on_cluster} AS {name}_local \
             ENGINE = Distributed({}, {}, {name}_local, cityHash64({shard}))",
            identifier(cluster),
            identifier(database)
        ),
    ]
}

/// Whether the tables are there, for calls that may have nothing to ask of them.
pub(super) async fn check(connection: &Connection, operation: Operation) -> Result<()> {
    let statement = Statement::plain("SELECT job_id AS id FROM job WHERE false");
    connection.fetch::<IdRow>(operation, &statement).await.map(drop)
}

/// The statements that empty the tables.
pub(super) fn truncate_tables(cluster: Option<&str>) -> Vec<Statement> {
    // A store that was adopted without its marker has no such table.
    let if_exists = |table: &str| if table == marker::TABLE { "IF EXISTS " } else { "" };
    let truncate = |table: &str| match cluster {
        None => format!("TRUNCATE TABLE {}{table} SYNC SETTINGS max_table_size_to_drop = 0", if_exists(table)),
        Some(cluster) => format!(
            "TRUNCATE TABLE {}{table}_local{} SYNC SETTINGS max_table_size_to_drop = 0",
            if_exists(table),
            on_cluster(cluster)
        ),
    };
    // Jobs go first: while a truncation lasts, a job that is still there has all that is its own.
    TABLES.iter().rev().chain([&marker::TABLE]).map(|table| Statement::plain(truncate(table))).collect()
}

/// Atomic, because its CREATE and DROP are not seen half done, whatever the server's default is.
pub(super) fn create_database(name: &str, cluster: Option<&str>) -> Statement {
    let on_cluster = cluster.map(on_cluster).unwrap_or_default();
    Statement::plain(format!("CREATE DATABASE IF NOT EXISTS {}{on_cluster} ENGINE = Atomic", identifier(name)))
}

/// A database with the comment of a scratch store.
pub(super) fn create_scratch_database(name: &str, comment: &str, cluster: Option<&str>) -> Statement {
    let Statement { sql, .. } = create_database(name, cluster);
    Statement::plain(format!("{sql} COMMENT {}", literal(comment)))
}

pub(super) fn drop_database(name: &str, cluster: Option<&str>) -> Statement {
    let on_cluster = cluster.map(on_cluster).unwrap_or_default();
    Statement::plain(format!("DROP DATABASE IF EXISTS {}{on_cluster} SYNC", identifier(name)))
}

fn on_cluster(cluster: &str) -> String {
    format!(" ON CLUSTER {}", identifier(cluster))
}
