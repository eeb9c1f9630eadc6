//! The tables: columns, codecs and indexes, and the statements that create, clear and drop them.

use super::config::ClickHouseConfig;
use super::layout::Layout;
use super::statement::{Statement, Values, identifier, literal};
use crate::model::{JobState, RunState};

/// The table of the marker and of the properties.
pub(super) const STORE: &str = "broadside_store";

/// The tables in the order in which a batch writes them: specs, errors and runs before jobs.
pub(super) const TABLES: [&str; 4] = ["job_spec", "job_error", "job_run", "job"];

/// All columns of `job`, in the order of [`JobRow`](super::row::JobRow).
pub(super) const JOB_COLUMNS: &str = "job_id, version, queue, job_set, owner, namespace, priority, priority_class, \
    submitted, cpu, memory, ephemeral_storage, gpu, annotations, state, last_transition_time, latest_run_id, \
    cancelled, cancel_reason, cancel_user";

/// The columns of `job_run` in a page, in the order of [`RunRow`](super::row::RunRow).
pub(super) const RUN_COLUMNS: &str =
    "run_id, job_id, cluster, node, pool, state, leased, pending, started, finished, exit_code";

/// All columns of `job_run`, in the order of [`StoredRun`](super::row::StoredRun).
pub(super) const STORED_RUN_COLUMNS: &str =
    "run_id, job_id, version, cluster, node, pool, state, leased, pending, started, finished, exit_code, error, debug";

/// The annotations of a job as strings "key NUL value". Neither key nor value can contain a NUL, so the strings are
/// unambiguous, and a bloom filter on them excludes granules without the pair. A filter on the values alone would
/// exclude no granule for `true` or `1`, which every granule contains under some key.
pub(super) const ANNOTATION_PAIRS: &str =
    r"arrayMap((k, v) -> concat(k, '\0', v), mapKeys(annotations), mapValues(annotations))";

const RECORD_COLUMNS: &str = "job_id, version, value";

/// The columns of one of [`TABLES`] that statements use, and one that they compute.
pub(super) fn columns(table: &str) -> impl Iterator<Item = &'static str> {
    let (columns, computed) = match table {
        "job" => (JOB_COLUMNS, Some("last_transition_seconds")),
        "job_run" => (STORED_RUN_COLUMNS, None),
        _ => (RECORD_COLUMNS, None),
    };
    columns.split(", ").chain(computed)
}

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

/// The number of rows per granule: an eighth of the default, because most lookups read few rows.
const GRANULES: &str = "index_granularity = 1024";

/// A table, independent of the layout.
struct Table {
    name: &'static str,
    columns: String,
    key: &'static str,
    /// The sharding key on a cluster.
    shard: &'static str,
}

fn tables() -> [Table; 4] {
    let record = |name| Table { name, columns: RECORD.to_owned(), key: "job_id", shard: "job_id" };
    let job_states = JobState::ALL.map(|state| format!("'{}' = {}", state.name(), state.ordinal())).join(", ");
    let run_states = RunState::ALL.map(|state| format!("'{}' = {}", state.name(), state.ordinal())).join(", ");
    [
        record("job_spec"),
        record("job_error"),
        Table {
            name: "job_run",
            columns: JOB_RUN.replace("<run states>", &run_states),
            key: "job_id, run_id",
            shard: "job_id",
        },
        Table {
            name: "job",
            columns: JOB.replace("<job states>", &job_states).replace("<annotation pairs>", ANNOTATION_PAIRS),
            key: "job_id",
            shard: "job_id",
        },
    ]
}

/// The statements that create the tables, each with IF NOT EXISTS.
pub(super) fn create_tables(layout: Layout, database: &str, cluster: Option<&str>) -> Vec<Statement> {
    let tables = tables();
    let statements = tables.iter().flat_map(|table| match (layout, cluster) {
        (Layout::Replacing, None) => vec![create_table(table)],
        (Layout::Patch, _) => create_patched_table(table),
        (Layout::Replacing, Some(cluster)) => create_distributed_table(table, database, cluster),
    });
    statements.map(Statement::plain).collect()
}

/// The statements that create the table of the properties, with the marker as its comment. The engine is the same in
/// every layout.
pub(super) fn create_store_table(marker: &str, database: &str, cluster: Option<&str>) -> Vec<Statement> {
    let table =
        Table { name: STORE, columns: "key String, value String, version UInt64".to_owned(), key: "key", shard: "key" };
    let statements = match cluster {
        None => vec![create_table(&table)],
        Some(cluster) => create_distributed_table(&table, database, cluster),
    };
    let comment = format!(" COMMENT {}", literal(marker));
    statements.into_iter().map(|statement| Statement::plain(statement + &comment)).collect()
}

fn create_table(table: &Table) -> String {
    let Table { name, columns, key, .. } = table;
    format!(
        "CREATE TABLE IF NOT EXISTS {name} ({columns}\n) \
         ENGINE = ReplacingMergeTree(version) ORDER BY ({key}) SETTINGS {GRANULES}"
    )
}

/// A table whose rows are updated by patch parts, which require the two block columns to find rows of merged parts. The
/// deduplication window applies to repeated inserts with a token.
///
/// A MergeTree table has no unique key. Jobs and runs are therefore inserted into a Null table, whose materialized view
/// inserts only rows with new ids into the table itself: a late insert of an existing id adds no row.
fn create_patched_table(table: &Table) -> Vec<String> {
    let Table { name, columns, key, .. } = table;
    let own = format!(
        "CREATE TABLE IF NOT EXISTS {name} ({columns}\n) ENGINE = MergeTree ORDER BY ({key}) SETTINGS {GRANULES}, \
         enable_block_number_column = 1, enable_block_offset_column = 1, non_replicated_deduplication_window = 10000"
    );
    let (id, all) = match *name {
        "job" => ("job_id", JOB_COLUMNS),
        "job_run" => ("run_id", STORED_RUN_COLUMNS),
        // Reads select the row with the highest version.
        _ => return vec![own],
    };
    let null_table = null_table(name);
    let plain_columns = columns.split_once(",\n    INDEX").map_or(columns.as_str(), |(columns, _)| columns);
    vec![
        own,
        format!("CREATE TABLE IF NOT EXISTS {null_table} ({plain_columns}\n) ENGINE = Null"),
        format!(
            "CREATE MATERIALIZED VIEW IF NOT EXISTS {null_table}_view TO {name} AS SELECT {all} FROM {null_table} \
             WHERE {id} NOT IN (SELECT {id} FROM {name} WHERE {id} IN (SELECT {id} FROM {null_table}))"
        ),
    ]
}

/// The Null table of a table of `layout=patch`.
pub(super) fn null_table(table: &str) -> String {
    format!("{table}_in")
}

/// A replicated table on every host of a cluster, and a Distributed table on top that shards rows by job id. All
/// versions of a row and all runs of a job are on one shard, so `FINAL` reads them together.
fn create_distributed_table(table: &Table, database: &str, cluster: &str) -> Vec<String> {
    let Table { name, columns, key, shard } = table;
    let on_cluster = on_cluster(cluster);
    vec![
        format!(
            "CREATE TABLE IF NOT EXISTS {name}_local{on_cluster} ({columns}\n) \
             ENGINE = ReplicatedReplacingMergeTree(version) ORDER BY ({key}) SETTINGS {GRANULES}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {name}{on_cluster} AS {name}_local \
             ENGINE = Distributed({}, {}, {name}_local, cityHash64({shard}))",
            identifier(cluster),
            identifier(database)
        ),
    ]
}

/// The table that has the rows, on every host of a cluster.
pub(super) fn local(table: &str, cluster: Option<&str>) -> String {
    cluster.map_or_else(|| table.to_owned(), |cluster| format!("{table}_local{}", on_cluster(cluster)))
}

/// The statements that clear the tables.
pub(super) fn truncate_tables(cluster: Option<&str>) -> Vec<Statement> {
    // An adopted store has no such table until it gets a marker.
    let if_exists = |table: &str| if table == STORE { "IF EXISTS " } else { "" };
    let truncate = |table: &str| {
        let (if_exists, table) = (if_exists(table), local(table, cluster));
        format!("TRUNCATE TABLE {if_exists}{table} SYNC SETTINGS max_table_size_to_drop = 0")
    };
    // Jobs first: until a job is deleted, its runs, spec and error exist.
    TABLES.iter().rev().chain([&STORE]).map(|table| Statement::plain(truncate(table))).collect()
}

/// The statement that reads the server's version, the size of the tables with their indexes, and that of the skip
/// indexes. On a cluster, each shard counts once, whatever its number of replicas.
pub(super) fn store_info(config: &ClickHouseConfig) -> Statement {
    let mut values = Values::default();
    let database = values.text(&config.database);
    let parts = match &config.cluster {
        None => "system.parts".to_owned(),
        Some(cluster) => format!("cluster({}, system.parts)", identifier(cluster)),
    };
    let sql = format!(
        "SELECT concat('ClickHouse ', assumeNotNull((SELECT version()))) AS version, sum(bytes_on_disk) AS bytes, \
         sum(secondary_indices_compressed_bytes) AS index_bytes FROM {parts} WHERE database = {database} AND active"
    );
    Statement { sql, values }
}

/// Creates a database with the engine Atomic, independent of the server's default: its CREATE and DROP are atomic.
pub(super) fn create_database(name: &str, cluster: Option<&str>) -> Statement {
    let on_cluster = cluster.map(on_cluster).unwrap_or_default();
    Statement::plain(format!("CREATE DATABASE IF NOT EXISTS {}{on_cluster} ENGINE = Atomic", identifier(name)))
}

/// Creates a scratch database with its marker as the comment.
pub(super) fn create_scratch_database(name: &str, comment: &str, cluster: Option<&str>) -> Statement {
    let Statement { sql, .. } = create_database(name, cluster);
    Statement::plain(format!("{sql} COMMENT {}", literal(comment)))
}

/// Drops a database with its tables.
pub(super) fn drop_database(name: &str, cluster: Option<&str>) -> Statement {
    let on_cluster = cluster.map(on_cluster).unwrap_or_default();
    Statement::plain(format!("DROP DATABASE IF EXISTS {}{on_cluster} SYNC", identifier(name)))
}

fn on_cluster(cluster: &str) -> String {
    format!(" ON CLUSTER {}", identifier(cluster))
}
