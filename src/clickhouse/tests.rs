//! The SQL of each kind of statement, as snapshots.

use std::fmt::Write;

use serde_json::json;

use super::config::ClickHouseConfig;
use super::historical::Chunk;
use super::ingest::{known, newest, update_jobs, update_runs};
use super::layout::Layout;
use super::query::{self, Reads};
use super::record;
use super::row::{JobRow, StoredRun};
use super::statement::Statement;
use super::tables::{self, JOB_COLUMNS, TABLES};
use crate::ingest::IngestionBatch;
use crate::record::Record;
use crate::scenario::samples::{group_queries, group_query, job_queries, job_query};
use crate::{HistoricalJobs, HistoricalJobsParams};

/// A statement, followed by its values.
fn with_values(statement: &Statement) -> String {
    let mut text = statement.sql.clone();
    for (name, value) in statement.values.iter() {
        write!(text, "\n{name} = {}", serde_json::to_string(value).unwrap()).unwrap();
    }
    text
}

fn config(parameters: &str) -> ClickHouseConfig {
    ClickHouseConfig::from_url(&format!("clickhouse+http://host/jobs?{parameters}")).unwrap()
}

fn reads(parameters: &str) -> Reads {
    Reads::of(&config(parameters))
}

#[test]
fn pages_of_jobs() {
    for (name, query) in job_queries() {
        insta::assert_snapshot!(name, with_values(&query::jobs(reads(""), &query)));
    }
}

#[test]
fn pages_of_groups() {
    for (name, query) in group_queries() {
        insta::assert_snapshot!(name, with_values(&query::groups(reads(""), &query)));
    }
}

/// Rows of patched tables have one version.
#[test]
fn pages_of_patched_rows_are_read_without_final() {
    for (_, query) in job_queries() {
        let [replacing, patch] = ["", "layout=patch"].map(|layout| query::jobs(reads(layout), &query).sql);
        assert_eq!(patch, replacing.replace(" FINAL", ""));
    }
}

#[test]
fn the_runs_of_a_page() {
    insta::assert_snapshot!(with_values(&query::runs(reads(""), ["a", "b"])), @r#"
SELECT run_id, job_id, cluster, node, pool, state, leased, pending, started, finished, exit_code FROM job_run FINAL WHERE job_id IN {p0:Array(String)}
p0 = ["a","b"]
"#);
}

#[test]
fn single_records() {
    insta::assert_snapshot!(with_values(&record::statement(Record::JobSpec, "a")), @r#"
SELECT value FROM job_spec WHERE job_id = {p0:String} AND (SELECT count() FROM job WHERE job_id = {p0:String}) > 0 ORDER BY version DESC LIMIT 1
p0 = "a"
"#);
    insta::assert_snapshot!(with_values(&record::statement(Record::RunDebugMessage, "r")), @r#"
SELECT debug AS value FROM job_run WHERE run_id = {p0:String} ORDER BY version DESC LIMIT 1
p0 = "r"
"#);
}

fn batch() -> IngestionBatch {
    let job = |id: &str| {
        json!({"type": "insertJob", "job": {"jobId": id, "queue": "q", "jobSet": "s", "owner": "o", "priority": 1,
            "submitted": "2026-01-01T00:00:00Z", "cpu": 1, "memory": 1, "ephemeralStorage": 1, "gpu": 0}})
    };
    let run =
        json!({"type": "insertJobRun", "jobRunId": "r", "jobId": "a", "cluster": "c", "time": "2026-01-01T00:00:01Z"});
    let error = json!({"type": "insertJobError", "jobId": "a", "error": "ZQ=="});
    let queries = [job("a"), job("b"), run, error].map(|query| serde_json::from_value(query).unwrap());
    IngestionBatch::new(queries).unwrap()
}

#[test]
fn a_batch_reads_by_key() {
    insta::assert_snapshot!(with_values(&known("job_error", batch().errors())), @r#"
SELECT job_id FROM job_error WHERE job_id IN {p0:Array(String)}
p0 = ["a"]
"#);
    insta::assert_snapshot!(with_values(&newest("job", JOB_COLUMNS, "job_id", &["a", "b"])), @r#"
SELECT job_id, version, queue, job_set, owner, namespace, priority, priority_class, submitted, cpu, memory, ephemeral_storage, gpu, annotations, state, last_transition_time, latest_run_id, cancelled, cancel_reason, cancel_user FROM job WHERE job_id IN {p0:Array(String)} ORDER BY version DESC LIMIT 1 BY job_id
p0 = ["a","b"]
"#);
}

#[test]
fn lightweight_updates() {
    let jobs: Vec<_> = batch().jobs().iter().map(JobRow::from).collect();
    insta::assert_snapshot!(with_values(&update_jobs(&jobs)), @r#"
UPDATE job SET version = {p8:UInt64}, priority = transform(job_id, {p0:Array(String)}, {p1:Array(Int64)}, toInt64(0)), state = transform(job_id, {p0:Array(String)}, {p2:Array(String)}, ''), last_transition_time = fromUnixTimestamp64Micro(transform(job_id, {p0:Array(String)}, {p3:Array(Int64)}, toInt64(0)), 'UTC'), latest_run_id = transform(job_id, {p0:Array(String)}, {p4:Array(String)}, ''), cancelled = fromUnixTimestamp64Micro(nullIf(transform(job_id, {p0:Array(String)}, {p5:Array(Int64)}, toInt64(0)), -4611686018427387904), 'UTC'), cancel_reason = transform(job_id, {p0:Array(String)}, {p6:Array(String)}, ''), cancel_user = transform(job_id, {p0:Array(String)}, {p7:Array(String)}, '') WHERE job_id IN {p0:Array(String)} AND version < {p8:UInt64}
p0 = ["a","b"]
p1 = [1,1]
p2 = ["QUEUED","QUEUED"]
p3 = [1767225600000000,1767225600000000]
p4 = ["",""]
p5 = [-4611686018427387904,-4611686018427387904]
p6 = ["",""]
p7 = ["",""]
p8 = 0
"#);
    let runs: Vec<_> = batch().runs().iter().map(StoredRun::from).collect();
    insta::assert_snapshot!(with_values(&update_runs(&runs)), @r#"
UPDATE job_run SET version = {p9:UInt64}, node = transform(run_id, {p0:Array(String)}, {p1:Array(String)}, ''), state = transform(run_id, {p0:Array(String)}, {p2:Array(String)}, ''), pending = fromUnixTimestamp64Micro(nullIf(transform(run_id, {p0:Array(String)}, {p3:Array(Int64)}, toInt64(0)), -4611686018427387904), 'UTC'), started = fromUnixTimestamp64Micro(nullIf(transform(run_id, {p0:Array(String)}, {p4:Array(Int64)}, toInt64(0)), -4611686018427387904), 'UTC'), finished = fromUnixTimestamp64Micro(nullIf(transform(run_id, {p0:Array(String)}, {p5:Array(Int64)}, toInt64(0)), -4611686018427387904), 'UTC'), exit_code = nullIf(transform(run_id, {p0:Array(String)}, {p6:Array(Int64)}, toInt64(0)), -4611686018427387904), error = unhex(transform(run_id, {p0:Array(String)}, {p7:Array(String)}, '')), debug = unhex(transform(run_id, {p0:Array(String)}, {p8:Array(String)}, '')) WHERE run_id IN {p0:Array(String)} AND version < {p9:UInt64}
p0 = ["r"]
p1 = [""]
p2 = ["RUN_LEASED"]
p3 = [-4611686018427387904]
p4 = [-4611686018427387904]
p5 = [-4611686018427387904]
p6 = [-4611686018427387904]
p7 = [""]
p8 = [""]
p9 = 0
"#);
}

#[test]
fn chunks_of_historical_jobs_have_bounded_bytes() {
    let params: HistoricalJobsParams = serde_json::from_value(json!({
        "queueIdx": 1, "jobSetIdx": 2, "queueName": "q", "jobSetName": "s", "nJobs": 25, "chunkSize": 10,
        "jobAgeDays": [0, 30], "referenceTime": "2026-01-01T00:00:00Z",
    }))
    .unwrap();
    let ends = |params: HistoricalJobsParams| {
        let jobs = HistoricalJobs::try_from(params).unwrap();
        Chunk::all(&jobs).map(Chunk::end).collect::<Vec<_>>()
    };
    assert_eq!(ends(params.clone()), [10, 20, 25]);
    let long = |bytes: usize| Some(vec![b'x'; bytes].into());
    let runs = HistoricalJobsParams { error_bytes: long(10 << 20), debug_bytes: long(6 << 20), ..params.clone() };
    assert_eq!(ends(runs), [7, 14, 21, 25]);
    let huge = HistoricalJobsParams { preemption_bytes: long(200 << 20), n_jobs: 2, ..params };
    assert_eq!(ends(huge), [1, 2]);
}

/// Statements without the columns, which are the same in every layout.
fn outlines(statements: &[Statement]) -> String {
    let outline = |statement: &Statement| {
        statement.sql.lines().filter(|line| !line.starts_with(' ')).collect::<Vec<_>>().join(" … ")
    };
    statements.iter().map(outline).collect::<Vec<_>>().join("\n")
}

#[test]
fn tables_of_whole_rows() {
    insta::assert_snapshot!(outlines(&tables::create_tables(Layout::Replacing, "jobs", None)), @r#"
CREATE TABLE IF NOT EXISTS job_spec ( … ) ENGINE = ReplacingMergeTree(version) ORDER BY (job_id) SETTINGS index_granularity = 1024
CREATE TABLE IF NOT EXISTS job_error ( … ) ENGINE = ReplacingMergeTree(version) ORDER BY (job_id) SETTINGS index_granularity = 1024
CREATE TABLE IF NOT EXISTS job_run ( … ) ENGINE = ReplacingMergeTree(version) ORDER BY (job_id, run_id) SETTINGS index_granularity = 1024
CREATE TABLE IF NOT EXISTS job ( … ) ENGINE = ReplacingMergeTree(version) ORDER BY (job_id) SETTINGS index_granularity = 1024
"#);
}

#[test]
fn tables_of_patched_rows() {
    insta::assert_snapshot!(outlines(&tables::create_tables(Layout::Patch, "jobs", None)), @r#"
CREATE TABLE IF NOT EXISTS job_spec ( … ) ENGINE = MergeTree ORDER BY (job_id) SETTINGS index_granularity = 1024, enable_block_number_column = 1, enable_block_offset_column = 1, non_replicated_deduplication_window = 10000
CREATE TABLE IF NOT EXISTS job_error ( … ) ENGINE = MergeTree ORDER BY (job_id) SETTINGS index_granularity = 1024, enable_block_number_column = 1, enable_block_offset_column = 1, non_replicated_deduplication_window = 10000
CREATE TABLE IF NOT EXISTS job_run ( … ) ENGINE = MergeTree ORDER BY (job_id, run_id) SETTINGS index_granularity = 1024, enable_block_number_column = 1, enable_block_offset_column = 1, non_replicated_deduplication_window = 10000
CREATE TABLE IF NOT EXISTS job_run_in ( … ) ENGINE = Null
CREATE MATERIALIZED VIEW IF NOT EXISTS job_run_in_view TO job_run AS SELECT run_id, job_id, version, cluster, node, pool, state, leased, pending, started, finished, exit_code, error, debug FROM job_run_in WHERE run_id NOT IN (SELECT run_id FROM job_run WHERE run_id IN (SELECT run_id FROM job_run_in))
CREATE TABLE IF NOT EXISTS job ( … ) ENGINE = MergeTree ORDER BY (job_id) SETTINGS index_granularity = 1024, enable_block_number_column = 1, enable_block_offset_column = 1, non_replicated_deduplication_window = 10000
CREATE TABLE IF NOT EXISTS job_in ( … ) ENGINE = Null
CREATE MATERIALIZED VIEW IF NOT EXISTS job_in_view TO job AS SELECT job_id, version, queue, job_set, owner, namespace, priority, priority_class, submitted, cpu, memory, ephemeral_storage, gpu, annotations, state, last_transition_time, latest_run_id, cancelled, cancel_reason, cancel_user FROM job_in WHERE job_id NOT IN (SELECT job_id FROM job WHERE job_id IN (SELECT job_id FROM job_in))
"#);
}

#[test]
fn tables_of_a_cluster() {
    let cluster = Some("my-cluster");
    insta::assert_snapshot!(with_values(&tables::create_database("jobs", cluster)), @"CREATE DATABASE IF NOT EXISTS `jobs` ON CLUSTER `my-cluster` ENGINE = Atomic");
    insta::assert_snapshot!(outlines(&tables::create_tables(Layout::Replacing, "jobs", cluster)), @r#"
CREATE TABLE IF NOT EXISTS job_spec_local ON CLUSTER `my-cluster` ( … ) ENGINE = ReplicatedReplacingMergeTree(version) ORDER BY (job_id) SETTINGS index_granularity = 1024
CREATE TABLE IF NOT EXISTS job_spec ON CLUSTER `my-cluster` AS job_spec_local ENGINE = Distributed(`my-cluster`, `jobs`, job_spec_local, cityHash64(job_id))
CREATE TABLE IF NOT EXISTS job_error_local ON CLUSTER `my-cluster` ( … ) ENGINE = ReplicatedReplacingMergeTree(version) ORDER BY (job_id) SETTINGS index_granularity = 1024
CREATE TABLE IF NOT EXISTS job_error ON CLUSTER `my-cluster` AS job_error_local ENGINE = Distributed(`my-cluster`, `jobs`, job_error_local, cityHash64(job_id))
CREATE TABLE IF NOT EXISTS job_run_local ON CLUSTER `my-cluster` ( … ) ENGINE = ReplicatedReplacingMergeTree(version) ORDER BY (job_id, run_id) SETTINGS index_granularity = 1024
CREATE TABLE IF NOT EXISTS job_run ON CLUSTER `my-cluster` AS job_run_local ENGINE = Distributed(`my-cluster`, `jobs`, job_run_local, cityHash64(job_id))
CREATE TABLE IF NOT EXISTS job_local ON CLUSTER `my-cluster` ( … ) ENGINE = ReplicatedReplacingMergeTree(version) ORDER BY (job_id) SETTINGS index_granularity = 1024
CREATE TABLE IF NOT EXISTS job ON CLUSTER `my-cluster` AS job_local ENGINE = Distributed(`my-cluster`, `jobs`, job_local, cityHash64(job_id))
"#);
    insta::assert_snapshot!(outlines(&tables::truncate_tables(cluster)), @r#"
TRUNCATE TABLE job_local ON CLUSTER `my-cluster` SYNC SETTINGS max_table_size_to_drop = 0
TRUNCATE TABLE job_run_local ON CLUSTER `my-cluster` SYNC SETTINGS max_table_size_to_drop = 0
TRUNCATE TABLE job_error_local ON CLUSTER `my-cluster` SYNC SETTINGS max_table_size_to_drop = 0
TRUNCATE TABLE job_spec_local ON CLUSTER `my-cluster` SYNC SETTINGS max_table_size_to_drop = 0
TRUNCATE TABLE IF EXISTS broadside_store_local ON CLUSTER `my-cluster` SYNC SETTINGS max_table_size_to_drop = 0
"#);
    insta::assert_snapshot!(with_values(&tables::drop_database("jobs", cluster)), @"DROP DATABASE IF EXISTS `jobs` ON CLUSTER `my-cluster` SYNC");
}

/// The latest run and the job set of a job may be on other shards, its spec and its error are not.
#[test]
fn subqueries_of_a_cluster_read_all_shards() {
    let filters = json!([{"field": "cluster", "match": "exact", "value": "c"}]);
    let selection = job_query(json!({"filters": filters, "activeJobSets": true}));
    let selection = with_values(&query::jobs(reads("cluster=c"), &selection));
    assert_eq!(selection.matches(" GLOBAL IN (SELECT ").count(), 2, "{selection}");
    let groups = group_query(json!({"filters": filters, "activeJobSets": true, "groupedField": {"field": "node"}}));
    let groups = with_values(&query::groups(reads("cluster=c"), &groups));
    assert_eq!(groups.matches(" GLOBAL ANY LEFT JOIN (SELECT ").count(), 1, "{groups}");
    assert_eq!(groups.matches(" GLOBAL IN (SELECT ").count(), 2, "{groups}");
    for text in [selection, groups, with_values(&record::statement(Record::JobSpec, "a"))] {
        for local in text.match_indices(" IN (SELECT ").chain(text.match_indices(" ANY LEFT JOIN ")) {
            assert!(text[..local.0].ends_with(" GLOBAL"), "{text}");
        }
    }
}

#[test]
fn all_rows_of_a_job_are_on_one_shard() {
    let statements = tables::create_tables(Layout::Replacing, "jobs", Some("c"));
    for table in TABLES {
        let on_shards = format!("{table}_local, cityHash64(job_id))");
        assert_eq!(statements.iter().filter(|statement| statement.sql.contains(&on_shards)).count(), 1, "{table}");
        assert!(tables::columns(table).any(|column| column == "job_id"), "{table}");
    }
}

#[test]
fn the_size_of_a_store_is_that_of_all_shards() {
    insta::assert_snapshot!(with_values(&tables::store_info(&config("cluster=c"))), @r#"
SELECT concat('ClickHouse ', assumeNotNull((SELECT version()))) AS version, sum(bytes_on_disk) AS bytes, sum(secondary_indices_compressed_bytes) AS index_bytes FROM cluster(`c`, system.parts) WHERE database = {p0:String} AND active
p0 = "jobs"
"#);
}
