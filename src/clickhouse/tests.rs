//! The SQL of each kind of statement, as snapshots.

use std::fmt::Write;

use serde_json::json;

use super::config::ClickHouseConfig;
use super::historical::Chunk;
use super::ingest::{known, newest, update_jobs, update_runs};
use super::layout::Layout;
use super::query::Reads;
use super::record::{JOB_SPEC, RUN_DEBUG_MESSAGE};
use super::row::{JobRow, StoredRun};
use super::statement::Statement;
use super::tables::{self, JOB_COLUMNS, TABLES};
use crate::ingest::IngestionBatch;
use crate::query::{GroupQuery, JobQuery};
use crate::scenario::{GetJobGroupsRequest, GetJobsRequest};
use crate::{HistoricalJobs, HistoricalJobsParams};

/// A statement, followed by its values.
fn with_values(statement: &Statement) -> String {
    let mut text = statement.sql.clone();
    for (name, value) in statement.values.iter() {
        write!(text, "\n{name} = {}", serde_json::to_string(value).unwrap()).unwrap();
    }
    text
}

fn statements_with_values(statements: &[Statement]) -> String {
    statements.iter().map(with_values).collect::<Vec<_>>().join("\n\n")
}

fn config(parameters: &str) -> ClickHouseConfig {
    ClickHouseConfig::from_url(&format!("clickhouse+http://host/jobs?{parameters}")).unwrap()
}

fn reads(parameters: &str) -> Reads {
    Reads::of(&config(parameters))
}

fn jobs(parameters: &str, request: serde_json::Value) -> String {
    let request: GetJobsRequest = serde_json::from_value(request).unwrap();
    with_values(&reads(parameters).jobs(&JobQuery::try_from(request).unwrap()))
}

fn groups(request: serde_json::Value) -> String {
    let request: GetJobGroupsRequest = serde_json::from_value(request).unwrap();
    with_values(&reads("").groups(&GroupQuery::try_from(request).unwrap()))
}

#[test]
fn a_page_of_jobs() {
    let request = json!({
        "filters": [
            {"field": "queue", "match": "exact", "value": "a'; DROP TABLE job"},
            {"field": "state", "match": "anyOf", "value": ["RUNNING", "QUEUED"]},
        ],
        "order": {"field": "jobId", "direction": "DESC"}, "skip": 20, "take": 10,
    });
    insta::assert_snapshot!(jobs("", request.clone()), @r#"
SELECT job_id, version, queue, job_set, owner, namespace, priority, priority_class, submitted, cpu, memory, ephemeral_storage, gpu, annotations, state, last_transition_time, latest_run_id, cancelled, cancel_reason, cancel_user FROM job FINAL WHERE queue = {p0:String} AND state IN {p1:Array(String)} ORDER BY job_id DESC LIMIT {p2:UInt64} OFFSET {p3:UInt64}
p0 = "a'; DROP TABLE job"
p1 = ["QUEUED","RUNNING"]
p2 = 10
p3 = 20
"#);
    insta::assert_snapshot!(jobs("layout=patch", request), @r#"
SELECT job_id, version, queue, job_set, owner, namespace, priority, priority_class, submitted, cpu, memory, ephemeral_storage, gpu, annotations, state, last_transition_time, latest_run_id, cancelled, cancel_reason, cancel_user FROM job WHERE queue = {p0:String} AND state IN {p1:Array(String)} ORDER BY job_id DESC LIMIT {p2:UInt64} OFFSET {p3:UInt64}
p0 = "a'; DROP TABLE job"
p1 = ["QUEUED","RUNNING"]
p2 = 10
p3 = 20
"#);
}

#[test]
fn every_kind_of_filter() {
    insta::assert_snapshot!(jobs("", json!({"filters": [
        {"field": "jobSet", "match": "startsWith", "value": "100%"},
        {"field": "owner", "match": "contains", "value": "_"},
        {"field": "namespace", "match": "startsWith", "value": ""},
        {"field": "priorityClass", "match": "exact", "value": ""},
        {"field": "jobId", "match": "anyOf", "value": ["a", "b", ""]},
        {"field": "cpu", "match": "anyOf", "value": [1, 2]},
        {"field": "priority", "match": "greaterThanOrEqualTo", "value": -1},
        {"field": "submitted", "match": "lessThan", "value": "0001-01-01T00:00:00Z"},
        {"field": "lastTransitionTime", "match": "exact", "value": "2026-01-01T00:00:00.000001Z"},
    ]})), @r#"
SELECT job_id, version, queue, job_set, owner, namespace, priority, priority_class, submitted, cpu, memory, ephemeral_storage, gpu, annotations, state, last_transition_time, latest_run_id, cancelled, cancel_reason, cancel_user FROM job FINAL WHERE startsWith(job_set, {p0:String}) AND position(owner, {p1:String}) > 0 AND namespace != '' AND false AND job_id IN {p2:Array(String)} AND cpu IN {p3:Array(Int64)} AND priority >= {p4:Int64} AND toUnixTimestamp64Micro(submitted) < {p5:Int64} AND toUnixTimestamp64Micro(last_transition_time) = {p6:Int64}
p0 = "100%"
p1 = "_"
p2 = ["a","b"]
p3 = [1,2]
p4 = -1
p5 = -62135596800000000
p6 = 1767225600000001
"#);
}

#[test]
fn annotations_are_tested_after_versions_are_merged() {
    insta::assert_snapshot!(jobs("", json!({"filters": [
        {"field": "k", "match": "exact", "value": "v", "isAnnotation": true},
        {"field": "k", "match": "anyOf", "value": ["v", ""], "isAnnotation": true},
        {"field": "k", "match": "startsWith", "value": "v", "isAnnotation": true},
        {"field": "k", "match": "contains", "value": "v", "isAnnotation": true},
        {"field": "k", "match": "exists", "isAnnotation": true},
        {"field": "queue", "match": "exact", "value": "q"},
    ]})), @r#"
SELECT job_id, version, queue, job_set, owner, namespace, priority, priority_class, submitted, cpu, memory, ephemeral_storage, gpu, annotations, state, last_transition_time, latest_run_id, cancelled, cancel_reason, cancel_user FROM job FINAL WHERE has(arrayMap((k, v) -> concat(k, '\0', v), mapKeys(annotations), mapValues(annotations)), {p0:String}) AND hasAny(arrayMap((k, v) -> concat(k, '\0', v), mapKeys(annotations), mapValues(annotations)), {p1:Array(String)}) AND mapContains(annotations, {p2:String}) AND startsWith(annotations[{p3:String}], {p4:String}) AND mapContains(annotations, {p5:String}) AND position(annotations[{p6:String}], {p7:String}) > 0 AND mapContains(annotations, {p8:String}) AND queue = {p9:String}
p0 = "k\u0000v"
p1 = ["k\u0000v","k\u0000"]
p2 = "k"
p3 = "k"
p4 = "v"
p5 = "k"
p6 = "k"
p7 = "v"
p8 = "k"
p9 = "q"
"#);
}

#[test]
fn latest_runs_and_active_job_sets() {
    insta::assert_snapshot!(jobs("", json!({
        "filters": [
            {"field": "cluster", "match": "exact", "value": "c"},
            {"field": "node", "match": "startsWith", "value": "n"},
        ],
        "activeJobSets": true,
        "order": {"field": "lastTransitionTime", "direction": "ASC"},
    })), @r#"
SELECT job_id, version, queue, job_set, owner, namespace, priority, priority_class, submitted, cpu, memory, ephemeral_storage, gpu, annotations, state, last_transition_time, latest_run_id, cancelled, cancel_reason, cancel_user FROM job FINAL WHERE latest_run_id IN (SELECT run_id FROM job_run FINAL WHERE cluster = {p0:String} AND startsWith(node, {p1:String})) AND (queue, job_set) IN (SELECT queue, job_set FROM job FINAL WHERE state IN {p2:Array(String)} GROUP BY queue, job_set) ORDER BY last_transition_seconds ASC
p0 = "c"
p1 = "n"
p2 = ["QUEUED","LEASED","PENDING","RUNNING"]
"#);
}

#[test]
fn the_runs_of_a_page() {
    insta::assert_snapshot!(with_values(&reads("").runs(["a", "b"])), @r#"
SELECT run_id, job_id, cluster, node, pool, state, leased, pending, started, finished, exit_code FROM job_run FINAL WHERE job_id IN {p0:Array(String)}
p0 = ["a","b"]
"#);
}

#[test]
fn groups_with_every_aggregate() {
    insta::assert_snapshot!(groups(json!({
        "filters": [{"field": "state", "match": "anyOf", "value": ["QUEUED", "FAILED"]}],
        "groupedField": {"field": "queue"},
        "aggregates": ["state", "submitted", "lastTransitionTime"],
        "order": {"field": "lastTransitionTime", "direction": "DESC"}, "take": 10,
    })), @r#"
SELECT queue AS name, count() AS count, [countIf(state = 'QUEUED'), countIf(state = 'FAILED')] AS states, toUnixTimestamp64Micro(min(submitted)) AS earliest, sum(toInt128(last_transition_seconds)) AS transition FROM job FINAL WHERE state IN {p0:Array(String)} GROUP BY name ORDER BY intDiv(bitShiftLeft(toUInt256(transition + toInt128(count) * 2208988800), 64), count) DESC LIMIT {p1:UInt64}
p0 = ["QUEUED","FAILED"]
p1 = 10
"#);
}

#[test]
fn groups_by_state_by_the_latest_run_and_by_an_annotation() {
    insta::assert_snapshot!(groups(json!({
        "groupedField": {"field": "state"}, "order": {"field": "state", "direction": "ASC"},
    })), @"SELECT toString(state) AS name, count() AS count, emptyArrayUInt64() AS states, toInt64(0) AS earliest, toInt128(0) AS transition FROM job FINAL GROUP BY state ORDER BY state ASC");
    insta::assert_snapshot!(groups(json!({
        "groupedField": {"field": "node", "lastTransitionTimeAggregate": "latest"},
        "aggregates": ["lastTransitionTime"], "order": {"field": "node", "direction": "ASC"},
    })), @"SELECT node AS name, count() AS count, emptyArrayUInt64() AS states, toInt64(0) AS earliest, toInt128(max(last_transition_seconds)) AS transition FROM job FINAL ANY LEFT JOIN (SELECT run_id, node FROM job_run FINAL) AS run ON run.run_id = job.latest_run_id GROUP BY name ORDER BY name ASC");
    insta::assert_snapshot!(groups(json!({
        "groupedField": {"field": "k", "isAnnotation": true}, "order": {"field": "count", "direction": "DESC"},
    })), @r#"
SELECT annotations[{p0:String}] AS name, count() AS count, emptyArrayUInt64() AS states, toInt64(0) AS earliest, toInt128(0) AS transition FROM job FINAL WHERE mapContains(annotations, {p1:String}) GROUP BY name ORDER BY count DESC
p0 = "k"
p1 = "k"
"#);
}

#[test]
fn single_records() {
    insta::assert_snapshot!(with_values(&(JOB_SPEC.statement)("a")), @r#"
SELECT value FROM job_spec WHERE job_id = {p0:String} AND (SELECT count() FROM job WHERE job_id = {p0:String}) > 0 ORDER BY version DESC LIMIT 1
p0 = "a"
"#);
    insta::assert_snapshot!(with_values(&(RUN_DEBUG_MESSAGE.statement)("r")), @r#"
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
SELECT job_id AS id FROM job_error WHERE job_id IN {p0:Array(String)}
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
fn historical_jobs_are_made_in_the_server() {
    let params: HistoricalJobsParams = serde_json::from_value(json!({
        "queueIdx": 1, "jobSetIdx": 2, "queueName": "q", "jobSetName": "s", "nJobs": 25, "chunkSize": 10,
        "succeededThreshold": 500, "erroredThreshold": 700, "cancelledThreshold": 800, "jobAgeDays": [0, 30],
        "jobSpecBytes": "CgFh", "errorBytes": "ZQ==", "referenceTime": "2026-01-01T00:00:00Z",
    }))
    .unwrap();
    let jobs = HistoricalJobs::try_from(params).unwrap();
    let chunks: Vec<_> = Chunk::all(&jobs).collect();
    assert_eq!(chunks.iter().map(|chunk| chunk.end()).collect::<Vec<_>>(), [10, 20, 25]);
    insta::assert_snapshot!(statements_with_values(&chunks[2].statements(&jobs)), @r#"
INSERT INTO job_spec (job_id, version, value) WITH concat({p2:String}, leftPad(toString(number), greatest(10, length(toString(number))), '0')) AS new_job_id, concat({p2:String}, leftPad(toString(number), greatest(10, length(toString(number))), '0'), '00') AS new_run_id SELECT new_job_id, 1, unhex({p7:String}) FROM numbers({p0:UInt64}, {p1:UInt64}) WHERE new_job_id NOT IN (SELECT job_id FROM job WHERE job_id IN (SELECT concat({p2:String}, leftPad(toString(number), greatest(10, length(toString(number))), '0')) FROM numbers({p0:UInt64}, {p1:UInt64}))) AND new_job_id NOT IN (SELECT job_id FROM job_spec WHERE job_id IN (SELECT concat({p2:String}, leftPad(toString(number), greatest(10, length(toString(number))), '0')) FROM numbers({p0:UInt64}, {p1:UInt64})))
p0 = 20
p1 = 5
p2 = "00010002"
p3 = [1767225600000000,1764633600000000]
p4 = 500
p5 = 700
p6 = 800
p7 = "0a0161"

INSERT INTO job_error (job_id, version, value) WITH concat({p2:String}, leftPad(toString(number), greatest(10, length(toString(number))), '0')) AS new_job_id, concat({p2:String}, leftPad(toString(number), greatest(10, length(toString(number))), '0'), '00') AS new_run_id SELECT new_job_id, 1, unhex({p7:String}) FROM numbers({p0:UInt64}, {p1:UInt64}) WHERE new_job_id NOT IN (SELECT job_id FROM job WHERE job_id IN (SELECT concat({p2:String}, leftPad(toString(number), greatest(10, length(toString(number))), '0')) FROM numbers({p0:UInt64}, {p1:UInt64}))) AND multiIf(number % 1000 < {p4:UInt64}, false, number % 1000 < {p5:UInt64}, true, number % 1000 < {p6:UInt64}, false, false) AND new_job_id NOT IN (SELECT job_id FROM job_error WHERE job_id IN (SELECT concat({p2:String}, leftPad(toString(number), greatest(10, length(toString(number))), '0')) FROM numbers({p0:UInt64}, {p1:UInt64})))
p0 = 20
p1 = 5
p2 = "00010002"
p3 = [1767225600000000,1764633600000000]
p4 = 500
p5 = 700
p6 = 800
p7 = "65"

INSERT INTO job_run (run_id, job_id, version, cluster, node, pool, state, leased, pending, started, finished, exit_code, error, debug) WITH concat({p2:String}, leftPad(toString(number), greatest(10, length(toString(number))), '0')) AS new_job_id, concat({p2:String}, leftPad(toString(number), greatest(10, length(toString(number))), '0'), '00') AS new_run_id SELECT new_run_id, new_job_id, 1, concat('broadside-cluster-', toString(number % 40 + 1)) AS new_cluster, concat(new_cluster, '-node-', toString(number % 80 + 1)), {p7:Array(String)}[number % 4 + 1], multiIf(number % 1000 < {p4:UInt64}, {p8:String}, number % 1000 < {p5:UInt64}, {p9:String}, number % 1000 < {p6:UInt64}, {p10:String}, {p11:String}), fromUnixTimestamp64Micro({p3:Array(Int64)}[number % length({p3:Array(Int64)}) + 1] + 1000000, 'UTC'), fromUnixTimestamp64Micro({p3:Array(Int64)}[number % length({p3:Array(Int64)}) + 1] + 2000000, 'UTC'), fromUnixTimestamp64Micro({p3:Array(Int64)}[number % length({p3:Array(Int64)}) + 1] + 3000000, 'UTC'), fromUnixTimestamp64Micro({p3:Array(Int64)}[number % length({p3:Array(Int64)}) + 1] + 10000000, 'UTC'), multiIf(number % 1000 < {p4:UInt64}, 0, number % 1000 < {p5:UInt64}, 0, number % 1000 < {p6:UInt64}, NULL, NULL), multiIf(number % 1000 < {p4:UInt64}, '', number % 1000 < {p5:UInt64}, unhex({p12:String}), number % 1000 < {p6:UInt64}, '', ''), multiIf(number % 1000 < {p4:UInt64}, '', number % 1000 < {p5:UInt64}, '', number % 1000 < {p6:UInt64}, '', '') FROM numbers({p0:UInt64}, {p1:UInt64}) WHERE new_job_id NOT IN (SELECT job_id FROM job WHERE job_id IN (SELECT concat({p2:String}, leftPad(toString(number), greatest(10, length(toString(number))), '0')) FROM numbers({p0:UInt64}, {p1:UInt64}))) AND new_run_id NOT IN (SELECT run_id FROM job_run WHERE run_id IN (SELECT concat({p2:String}, leftPad(toString(number), greatest(10, length(toString(number))), '0'), '00') FROM numbers({p0:UInt64}, {p1:UInt64})))
p0 = 20
p1 = 5
p2 = "00010002"
p3 = [1767225600000000,1764633600000000]
p4 = 500
p5 = 700
p6 = 800
p7 = ["general-purpose","high-memory","high-cpu","gpu"]
p8 = "RUN_SUCCEEDED"
p9 = "RUN_FAILED"
p10 = "RUN_CANCELLED"
p11 = "RUN_PREEMPTED"
p12 = "65"

INSERT INTO job (job_id, version, queue, job_set, owner, namespace, priority, priority_class, submitted, cpu, memory, ephemeral_storage, gpu, annotations, state, last_transition_time, latest_run_id, cancelled, cancel_reason, cancel_user) WITH concat({p2:String}, leftPad(toString(number), greatest(10, length(toString(number))), '0')) AS new_job_id, concat({p2:String}, leftPad(toString(number), greatest(10, length(toString(number))), '0'), '00') AS new_run_id SELECT new_job_id, 1, {p7:String}, {p9:String}, {p7:String}, {p10:Array(String)}[number % 7 + 1], number % 2000 + 1, {p11:Array(String)}[number % 4 + 1], fromUnixTimestamp64Micro({p3:Array(Int64)}[number % length({p3:Array(Int64)}) + 1] + 0, 'UTC'), {p12:Array(Int64)}[number % 6 + 1], {p13:Array(Int64)}[number % 4 + 1], {p14:Array(Int64)}[number % 5 + 1], {p15:Array(Int64)}[number % 8 + 1], map({p16:String}, concat('value-', toString(number % 10)), {p17:String}, concat('value-', toString(number % 100)), {p18:String}, concat('value-', toString(number % 1000)), {p19:String}, concat('value-', toString(number % 10000)), {p20:String}, concat('value-', toString(number % 100000))), multiIf(number % 1000 < {p4:UInt64}, {p21:String}, number % 1000 < {p5:UInt64}, {p22:String}, number % 1000 < {p6:UInt64}, {p23:String}, {p24:String}), fromUnixTimestamp64Micro({p3:Array(Int64)}[number % length({p3:Array(Int64)}) + 1] + 10000000, 'UTC'), new_run_id, multiIf(number % 1000 < {p4:UInt64}, NULL, number % 1000 < {p5:UInt64}, NULL, number % 1000 < {p6:UInt64}, fromUnixTimestamp64Micro({p3:Array(Int64)}[number % length({p3:Array(Int64)}) + 1] + 10000000, 'UTC'), NULL), multiIf(number % 1000 < {p4:UInt64}, '', number % 1000 < {p5:UInt64}, '', number % 1000 < {p6:UInt64}, {p8:String}, ''), multiIf(number % 1000 < {p4:UInt64}, '', number % 1000 < {p5:UInt64}, '', number % 1000 < {p6:UInt64}, {p7:String}, '') FROM numbers({p0:UInt64}, {p1:UInt64}) WHERE new_job_id NOT IN (SELECT job_id FROM job WHERE job_id IN (SELECT concat({p2:String}, leftPad(toString(number), greatest(10, length(toString(number))), '0')) FROM numbers({p0:UInt64}, {p1:UInt64})))
p0 = 20
p1 = 5
p2 = "00010002"
p3 = [1767225600000000,1764633600000000]
p4 = 500
p5 = 700
p6 = 800
p7 = "q"
p8 = "user requested"
p9 = "s"
p10 = ["default","dev","staging","research-red","research-blue","research-green","research-yellow"]
p11 = ["armada-default","armada-resilient","armada-high","armada-custom"]
p12 = [1,2,4,8,16,32]
p13 = [1073741824,4294967296,68719476736,1099511627776]
p14 = [536870912,2147483648,10737418240,1099511627776,32985348833280]
p15 = [0,0,0,1,0,0,0,8]
p16 = "example.com/broadside-alpha"
p17 = "example.com/broadside-beta"
p18 = "example.com/broadside-charlie"
p19 = "example.com/broadside-delta"
p20 = "example.com/broadside-echo"
p21 = "SUCCEEDED"
p22 = "FAILED"
p23 = "CANCELLED"
p24 = "PREEMPTED"
"#);
}

#[test]
fn tables_of_whole_rows() {
    insta::assert_snapshot!(statements_with_values(&tables::create_tables(Layout::Replacing, "jobs", None)), @r#"
CREATE TABLE IF NOT EXISTS job_spec (
    job_id String CODEC(ZSTD(1)),
    version UInt64 CODEC(T64, ZSTD(1)),
    value String CODEC(ZSTD(3))
) ENGINE = ReplacingMergeTree(version) ORDER BY (job_id) SETTINGS index_granularity = 1024

CREATE TABLE IF NOT EXISTS job_error (
    job_id String CODEC(ZSTD(1)),
    version UInt64 CODEC(T64, ZSTD(1)),
    value String CODEC(ZSTD(3))
) ENGINE = ReplacingMergeTree(version) ORDER BY (job_id) SETTINGS index_granularity = 1024

CREATE TABLE IF NOT EXISTS job_run (
    run_id String CODEC(ZSTD(1)),
    job_id String CODEC(ZSTD(1)),
    version UInt64 CODEC(T64, ZSTD(1)),
    cluster LowCardinality(String),
    node LowCardinality(String),
    pool LowCardinality(String),
    state Enum8('RUN_LEASED' = 11, 'RUN_PENDING' = 1, 'RUN_RUNNING' = 2, 'RUN_SUCCEEDED' = 3, 'RUN_FAILED' = 4, 'RUN_TERMINATED' = 5, 'RUN_PREEMPTED' = 6, 'RUN_UNABLE_TO_SCHEDULE' = 7, 'RUN_LEASE_RETURNED' = 8, 'RUN_LEASE_EXPIRED' = 9, 'RUN_MAX_RUNS_EXCEEDED' = 10, 'RUN_CANCELLED' = 12),
    leased DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    pending Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD(1)),
    started Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD(1)),
    finished Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD(1)),
    exit_code Nullable(Int32),
    error String CODEC(ZSTD(3)),
    debug String CODEC(ZSTD(3)),
    INDEX run_id_range run_id TYPE minmax GRANULARITY 1,
    INDEX run_id_filter run_id TYPE bloom_filter(0.0001) GRANULARITY 1
) ENGINE = ReplacingMergeTree(version) ORDER BY (job_id, run_id) SETTINGS index_granularity = 1024

CREATE TABLE IF NOT EXISTS job (
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
    state Enum8('QUEUED' = 1, 'LEASED' = 8, 'PENDING' = 2, 'RUNNING' = 3, 'SUCCEEDED' = 4, 'FAILED' = 5, 'CANCELLED' = 6, 'PREEMPTED' = 7, 'REJECTED' = 9),
    last_transition_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    last_transition_seconds Int64 ALIAS intDiv(toUnixTimestamp64Micro(last_transition_time) + 2208988800000000, 1000000) - 2208988800,
    latest_run_id String CODEC(ZSTD(1)),
    cancelled Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD(1)),
    cancel_reason LowCardinality(String),
    cancel_user LowCardinality(String),
    INDEX annotation_pairs arrayMap((k, v) -> concat(k, '\0', v), mapKeys(annotations), mapValues(annotations)) TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = ReplacingMergeTree(version) ORDER BY (job_id) SETTINGS index_granularity = 1024
"#);
}

/// Statements without the columns, which are the same in every layout.
fn outlines(statements: &[Statement]) -> String {
    let outline = |statement: &Statement| {
        statement.sql.lines().filter(|line| !line.starts_with(' ')).collect::<Vec<_>>().join(" … ")
    };
    statements.iter().map(outline).collect::<Vec<_>>().join("\n")
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
    let selection = jobs("cluster=c", json!({"filters": filters, "activeJobSets": true}));
    assert_eq!(selection.matches(" GLOBAL IN (SELECT ").count(), 2, "{selection}");
    let group: GetJobGroupsRequest = serde_json::from_value(json!({
        "filters": filters, "activeJobSets": true, "groupedField": {"field": "node"},
    }))
    .unwrap();
    let groups = with_values(&reads("cluster=c").groups(&GroupQuery::try_from(group).unwrap()));
    assert_eq!(groups.matches(" GLOBAL ANY LEFT JOIN (SELECT ").count(), 1, "{groups}");
    assert_eq!(groups.matches(" GLOBAL IN (SELECT ").count(), 2, "{groups}");
    for text in [selection, groups, with_values(&(JOB_SPEC.statement)("a"))] {
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
