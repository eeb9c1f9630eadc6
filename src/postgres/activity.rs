//! The activity of the server, from its statistics views.
//!
//! The statistics of `pg_stat_database` are those of the database, the others without a schema those of the server.
//! Before version 15 a view may be half a second old, and sessions report their transactions at most once a second.

use super::connection::Client;
use super::error::{Attempt, Failure};
use crate::Activity;

/// The statistics views. Which of them exist depends on the version.
const VIEWS: [&str; 8] = [
    "pg_stat_activity",
    "pg_stat_all_tables",
    "pg_stat_bgwriter",
    "pg_stat_checkpointer",
    "pg_stat_database",
    "pg_stat_io",
    "pg_stat_progress_vacuum",
    "pg_stat_wal",
];

/// What the server has, and what the user may read of it.
const READABLE: &str = "
    SELECT current_setting('server_version_num')::integer, current_setting('track_io_timing')::boolean,
        pg_has_role('pg_read_all_stats', 'USAGE'),
        NOT pg_is_in_recovery() AND has_function_privilege('pg_catalog.pg_current_wal_insert_lsn()', 'EXECUTE'),
        ARRAY(SELECT v FROM unnest($1::text[]) AS v WHERE has_table_privilege(to_regclass('pg_catalog.' || v), 'SELECT')),
        ARRAY(SELECT v FROM unnest($1::text[]) AS v
            WHERE NOT has_table_privilege(to_regclass('pg_catalog.' || v), 'SELECT'))";

/// The statistics that are current values; the others are totals.
const GAUGES: [&str; 4] = ["autovacuumWorkers", "deadRows", "lockWaits", "runningVacuums"];

const DATABASE: &str = r#"
    SELECT xact_commit AS "commits", xact_rollback AS "rollbacks", blks_read AS "blocksRead", blks_hit AS "blocksHit",
        temp_bytes AS "tempBytes", deadlocks AS "deadlocks"
    FROM pg_stat_database WHERE datname = current_database()"#;
/// 0 without `track_io_timing`.
const BLOCK_TIMES: &str = r#"
    SELECT (blk_read_time * 1000)::bigint AS "blockReadMicros", (blk_write_time * 1000)::bigint AS "blockWriteMicros"
    FROM pg_stat_database WHERE datname = current_database()"#;
/// The position is exact in every version. The total of `pg_stat_wal` lacks what sessions have not reported yet.
const WAL_POSITION: &str = r#"SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint AS "walBytes""#;
const WAL: &str = r#"SELECT wal_fpi AS "walFullPages", wal_buffers_full AS "walBuffersFull" FROM pg_stat_wal"#;
/// A checkpoint is counted at its start, its blocks while it writes them.
const CHECKPOINTS: &str = r#"
    SELECT num_timed + num_requested AS "checkpoints", buffers_written AS "checkpointBlocks" FROM pg_stat_checkpointer"#;
const CHECKPOINTS_BEFORE_17: &str = r#"
    SELECT checkpoints_timed + checkpoints_req AS "checkpoints", buffers_checkpoint AS "checkpointBlocks"
    FROM pg_stat_bgwriter"#;
/// From version 18 on, the view has the WAL as well, whose operations have no fixed size.
const IO: &str = r#"
    SELECT coalesce(sum(read_bytes), 0)::bigint AS "ioReadBytes",
        coalesce(sum(coalesce(write_bytes, 0) + coalesce(extend_bytes, 0)), 0)::bigint AS "ioWriteBytes",
        coalesce(sum(coalesce(write_bytes, 0) + coalesce(extend_bytes, 0))
            FILTER (WHERE backend_type = 'client backend'), 0)::bigint AS "ioClientWriteBytes",
        coalesce(sum(fsyncs), 0)::bigint AS "ioFsyncs"
    FROM pg_stat_io WHERE object IN ('relation', 'temp relation')"#;
const VACUUMS: &str =
    r#"SELECT count(*) AS "runningVacuums" FROM pg_stat_progress_vacuum WHERE datname = current_database()"#;
const TABLES: &str = r#"
    SELECT coalesce(sum(vacuum_count + autovacuum_count), 0)::bigint AS "vacuums",
        coalesce(sum(analyze_count + autoanalyze_count), 0)::bigint AS "analyses",
        coalesce(sum(n_dead_tup), 0)::bigint AS "deadRows"
    FROM pg_stat_all_tables WHERE schemaname = $1"#;
/// Without `pg_read_all_stats` the view has the waits of the user's own sessions, which are those of a load …
const LOCKS: &str = r#"
    SELECT count(*) AS "lockWaits" FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database()"#;
/// … but not the type of other processes.
const WORKERS: &str = r#"
    SELECT count(*) AS "autovacuumWorkers" FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"#;
const WORKERS_UNREADABLE: &str = "pg_stat_activity (autovacuum workers: requires the role pg_read_all_stats)";

/// Reads the statistics that the server has and the user may read.
pub(super) async fn read(client: Client, schema: &str) -> Attempt<Activity> {
    let statement = client.prepare(READABLE).await?;
    let row = client.query_one(&statement, &[&VIEWS.as_slice()]).await?;
    let readable: Vec<String> = row.try_get(4)?;
    let mut activity = Activity { unreadable: row.try_get(5)?, ..Activity::default() };
    if !row.try_get(2)? {
        activity.unreadable.push(WORKERS_UNREADABLE.to_owned());
    }
    let sources = Sources {
        version: row.try_get(0)?,
        times_blocks: row.try_get(1)?,
        reads_all: row.try_get(2)?,
        has_wal_position: row.try_get(3)?,
        readable,
    };
    let statement = client.prepare(&sources.statement()).await?;
    let row = client.query_one(&statement, &[&schema]).await?;
    for (at, column) in row.columns().iter().enumerate().skip(1) {
        let values = if GAUGES.contains(&column.name()) { &mut activity.gauges } else { &mut activity.counters };
        if let Some(value) = row.try_get::<_, Option<i64>>(at)?.and_then(|value| u64::try_from(value).ok()) {
            values.insert(column.name().to_owned(), value);
        }
    }
    Ok::<_, Failure>(activity)
}

/// What can be read.
struct Sources {
    version: i32,
    times_blocks: bool,
    reads_all: bool,
    has_wal_position: bool,
    readable: Vec<String>,
}

impl Sources {
    fn can_read(&self, view: &str) -> bool {
        self.readable.iter().any(|readable| readable == view)
    }

    /// One statement, so that all statistics are of the same moment. The first column has the parameter, which may
    /// otherwise not occur.
    fn statement(&self) -> String {
        let has_checkpointer = self.can_read("pg_stat_checkpointer");
        let sources = [
            (self.can_read("pg_stat_database"), DATABASE.to_owned()),
            (self.can_read("pg_stat_database") && self.times_blocks, BLOCK_TIMES.to_owned()),
            (self.has_wal_position, WAL_POSITION.to_owned()),
            (self.can_read("pg_stat_wal"), WAL.to_owned()),
            (has_checkpointer, CHECKPOINTS.to_owned()),
            (self.version < 170_000 && self.can_read("pg_stat_bgwriter"), CHECKPOINTS_BEFORE_17.to_owned()),
            (self.can_read("pg_stat_io"), self.io()),
            (self.can_read("pg_stat_progress_vacuum"), VACUUMS.to_owned()),
            (self.can_read("pg_stat_all_tables"), TABLES.to_owned()),
            (self.can_read("pg_stat_activity"), LOCKS.to_owned()),
            (self.can_read("pg_stat_activity") && self.reads_all, WORKERS.to_owned()),
        ];
        let sources = sources.into_iter().filter(|(is_readable, _)| *is_readable).enumerate();
        let joined: String = sources.map(|(at, (_, sql))| format!("\nCROSS JOIN ({sql}) AS s{at}")).collect();
        format!("SELECT * FROM (SELECT $1::text) AS parameter{joined}")
    }

    /// Before version 18 the view has numbers of operations and their size.
    fn io(&self) -> String {
        if self.version >= 180_000 {
            return IO.to_owned();
        }
        ["read", "write", "extend"].into_iter().fold(IO.to_owned(), |sql, operation| {
            sql.replace(&format!("{operation}_bytes"), &format!("{operation}s * op_bytes"))
        })
    }
}
