//! Tests of the files of a load test: the result file and the record.

use crate::support::run;
use broadside::load::RunRecord;
use broadside::load::upstream::result_file;
use serde_json::{Value, json};

/// A record whose configuration has all sections that the result file supports, and some that it does not.
fn record() -> RunRecord {
    let at = |after: &str| json!([{"performAfterTestStartTime": after, "queue": "risk", "jobSet": "nightly"}]);
    let mut record = run::record("postgres", 900.0);
    record.configuration = json!({
        "testDuration": "1m0s",
        "warmupDuration": "10s",
        "skipTearDown": false,
        "databaseConfig": {
            "postgres": {"host": "db.example"},
            "postgresTuningSQL": ["ALTER SYSTEM SET work_mem = '64MB'"],
            "postgresTuningRevertSQL": ["ALTER SYSTEM RESET work_mem"],
        },
        "queueConfig": [{
            "name": "risk",
            "proportion": 1.0,
            "jobSetConfig": [{
                "name": "nightly",
                "proportion": 1.0,
                "historicalJobsConfig": {
                    "numberOfJobs": 1000, "proportionSucceeded": 0.7, "proportionErrored": 0.1,
                    "proportionCancelled": 0.1, "proportionPreempted": 0.1, "jobAgeDays": [1],
                },
            }],
        }],
        "ingestionConfig": {
            "batchSize": 1000,
            "numWorkers": 2,
            "submissionsPerHour": 3_600_000,
            "batchTimeout": "1s",
            "jobStateTransitionConfig": {
                "queueingDuration": "1s",
                "leasedDuration": "500000µs",
                "pendingDuration": "500000µs",
                "proportionSucceed": 0.9,
                "runningToSuccessDuration": "1m30s",
                "proportionFail": 0.1,
                "runningToFailureDuration": "3.25s",
            },
        },
        "queryConfig": {
            "getJobRunDebugMessageQueriesPerHour": 100,
            "getJobRunErrorQueriesPerHour": 100,
            "getJobSpecQueriesPerHour": 200,
            "getJobsQueriesPerHour": 180_000,
            "getJobsPageSize": 100,
            "getJobGroupsQueriesPerHour": 180_000,
            "getJobGroupsPageSize": 100,
            "maxConcurrentQueries": 8,
        },
        "lookoutQueryConfig": {"containsQueriesPerHour": 1},
        "actionsConfig": {"jobSetReprioritisations": at("20s"), "jobSetCancellations": at("45s")},
    });
    record
}

/// A record whose configuration has no optional sections.
fn minimal_record() -> RunRecord {
    let mut minimal = run::record("memory", 80.0);
    minimal.configuration = record().configuration;
    minimal.configuration["databaseConfig"] = json!({"inMemory": true, "postgresTuningSQL": []});
    minimal.configuration["queueConfig"][0]["jobSetConfig"][0]["historicalJobsConfig"]["numberOfJobs"] = json!(0);
    minimal.configuration["actionsConfig"] = json!({"jobSetReprioritisations": [], "jobSetCancellations": []});
    minimal
}

/// The schema of the result file. A key that ends with `?` is optional. The single element of an array is the schema of
/// its elements. A string is `text`, `time`, `duration`, or the allowed values separated by `|`.
fn schema() -> Value {
    let action = json!({"performAfterTestStartTime": "duration", "queue": "text", "jobSet": "text"});
    json!({
        "metadata": {"timestamp": "time", "version": "1.0.0", "testDuration?": "duration"},
        "configuration": {
            "testDuration": "duration",
            "warmupDuration?": "duration",
            "databaseConfig": {
                "type": "postgres|clickhouse|inmemory", "connectionString?": "text",
                "tuningSql?": ["text"], "tuningRevertSql?": ["text"],
            },
            "queueConfig": [{
                "name": "text", "proportion": 0.5,
                "jobSetConfig?": [{
                    "name": "text", "proportion": 0.5,
                    "historicalJobsConfig?": {
                        "numberOfJobs": 1, "proportionSucceeded": 0.5, "proportionErrored": 0.5,
                        "proportionCancelled": 0.5, "proportionPreempted": 0.5,
                    },
                }],
            }],
            "ingestionConfig": {
                "batchSize": 1, "numWorkers": 1, "submissionsPerHour": 1,
                "jobStateTransitionConfig?": {
                    "queueingDuration": "duration", "leasedDuration": "duration", "pendingDuration": "duration",
                    "proportionSucceed": 0.5, "runningToSuccessDuration": "duration",
                    "proportionFail": 0.5, "runningToFailureDuration": "duration",
                },
            },
            "queryConfig": {
                "getJobsQueriesPerHour": 1, "getJobGroupsQueriesPerHour": 1, "getJobSpecQueriesPerHour": 1,
                "getJobRunErrorQueriesPerHour": 1, "getJobRunDebugMessageQueriesPerHour": 1,
                "getJobsPageSize": 1, "getJobGroupsPageSize": 1,
            },
            "actionsConfig?": {"jobSetReprioritisations?": [action], "jobSetCancellations?": [action]},
        },
        "results": {
            "ingester": {
                "totalQueriesExecuted": 1, "totalBatchesExecuted": 1, "totalBatchesFailed": 1,
                "peakBacklogSize": 1, "averageBacklogSize": 0.5,
                "p50BacklogSize": 0.5, "p95BacklogSize": 0.5, "p99BacklogSize": 0.5,
                "p50BacklogWaitTime": "duration", "p95BacklogWaitTime": "duration",
                "p99BacklogWaitTime": "duration", "maxBacklogWaitTime": "duration",
                "p50ExecutionLatency": "duration", "p95ExecutionLatency": "duration",
                "p99ExecutionLatency": "duration",
            },
            "querier": {
                "totalQueriesExecuted": 1, "totalQueriesFailed": 1,
                "statsByQueryType": [{
                    "queryType": "GetJobs|GetJobGroups|GetJobSpec|GetJobRunError|GetJobRunDebugMessage",
                    "filterCombo": "none|annotations|running_queue|queued_jobset|priority|errored_time|cluster_node",
                    "totalExecuted": 1, "totalFailed": 1, "p50Latency": "duration", "p95Latency": "duration",
                    "p99Latency": "duration", "maxLatency": "duration", "averageLatency": "duration",
                }],
                "errors?": [{"queryType": "text", "filterCombo": "text", "error": "text", "timestamp": "time"}],
            },
            "actor?": {
                "totalReprioritisations": 1, "totalCancellations": 1,
                "totalJobsReprioritised": 1, "totalJobsCancelled": 1,
                "reprioritisationP50Latency": "duration", "reprioritisationP95Latency": "duration",
                "reprioritisationP99Latency": "duration", "cancellationP50Latency": "duration",
                "cancellationP95Latency": "duration", "cancellationP99Latency": "duration",
                "errors?": [{
                    "action": "reprioritise|cancel", "queue": "text", "jobSet": "text", "error": "text",
                    "timestamp": "time",
                }],
            },
        },
    })
}

/// Collects the violations of the schema with their paths.
fn violations(schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    match (schema, value) {
        (Value::Object(keys), Value::Object(fields)) => {
            for (key, schema) in keys {
                let name = key.trim_end_matches('?');
                match fields.get(name) {
                    Some(value) => violations(schema, value, &format!("{place}/{name}"), found),
                    None if key.ends_with('?') => {}
                    None => found.push(format!("{place}/{name} is missing")),
                }
            }
            let known = |name: &String| keys.contains_key(name) || keys.contains_key(&format!("{name}?"));
            found.extend(fields.keys().filter(|name| !known(name)).map(|name| format!("{place}/{name} is unknown")));
        }
        (Value::Array(element), Value::Array(values)) => {
            for (at, value) in values.iter().enumerate() {
                violations(&element[0], value, &format!("{place}/{at}"), found);
            }
        }
        (Value::Number(example), Value::Number(number)) if example.is_f64() || number.is_u64() => {}
        (Value::String(kind), Value::String(text)) if is_valid(kind, text) => {}
        _ => found.push(format!("{place} is {value}")),
    }
}

fn is_valid(kind: &str, text: &str) -> bool {
    match kind {
        "text" => true,
        "time" => text.parse::<broadside::Timestamp>().is_ok(),
        "duration" => is_viewer_duration(text),
        words => words.split('|').any(|word| word == text),
    }
}

/// Returns true if the viewer supports a duration: numbers with the units s, m, h and µs, without exponents.
fn is_viewer_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.trim_start_matches(|character: char| character.is_ascii_digit() || character == '.');
        if rest[..rest.len() - number.len()].parse::<f64>().is_err() {
            return false;
        }
        let end = number.find(|character: char| character.is_ascii_digit()).unwrap_or(number.len());
        if !["h", "m", "s", "µs"].contains(&&number[..end]) {
            return false;
        }
        rest = &number[end..];
    }
    !text.is_empty()
}

fn checked(record: &RunRecord) -> (String, Vec<String>) {
    let text = result_file(record);
    let mut found = Vec::new();
    violations(&schema(), &serde_json::from_str(&text).unwrap(), "", &mut found);
    (text, found)
}

#[test]
fn the_schema_check_finds_violations() {
    for text in ["18.5ms", "850ns", "1e3s", "5", "", "s", "1m30"] {
        assert!(!is_viewer_duration(text), "{text}");
    }
    for text in ["0s", "18500µs", "0.85µs", "1h2m3.5s"] {
        assert!(is_viewer_duration(text), "{text}");
    }
    let mut json: Value = serde_json::from_str(&result_file(&record())).unwrap();
    json["metadata"]["more"] = json!(1);
    json["results"]["ingester"]["peakBacklogSize"] = json!(1.5);
    json["results"]["querier"].as_object_mut().unwrap().remove("statsByQueryType");
    let mut found = Vec::new();
    violations(&schema(), &json, "", &mut found);
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn the_result_file_matches_the_snapshot() {
    let (text, found) = checked(&record());
    assert_eq!(found, [""; 0]);
    insta::assert_snapshot!(text);
}

#[test]
fn empty_sections_are_omitted() {
    let mut record = minimal_record();
    record.actions.clear();
    record.errors.clear();
    let (text, found) = checked(&record);
    assert_eq!(found, [""; 0]);
    for key in ["actor", "actionsConfig", "errors", "tuning", "historicalJobs", "connectionString", "null"] {
        assert!(!text.contains(key), "{key}: {text}");
    }
}

#[test]
fn unsupported_reads_are_only_in_the_record() {
    let record = minimal_record();
    let file: Value = serde_json::from_str(&result_file(&record)).unwrap();
    let querier = &file["results"]["querier"];
    let stats = querier["statsByQueryType"].as_array().unwrap();
    let combos: Vec<_> = stats.iter().map(|stats| stats["filterCombo"].as_str().unwrap()).collect();
    assert!(!combos.contains(&"deep_offset") && combos.contains(&"errored_time"), "{combos:?}");
    let total: u64 = stats.iter().map(|stats| stats["totalExecuted"].as_u64().unwrap()).sum();
    assert_eq!(querier["totalQueriesExecuted"], total);
    assert!(record.to_json().unwrap().contains("deep_offset"));
}

#[test]
fn a_run_without_calls_has_a_result_file() {
    let mut record = record();
    record.ingester = Default::default();
    record.queries.clear();
    record.actions.iter_mut().for_each(|action| action.end_nanos = None);
    let (text, found) = checked(&record);
    assert_eq!(found, [""; 0]);
    assert!(text.contains(r#""p99ExecutionLatency": "0s""#), "{text}");
}

#[test]
fn a_record_is_parsed_back() {
    let record = run::record("postgres", 900.0);
    let text = record.to_json().unwrap();
    let read = RunRecord::from_json(text.as_bytes()).unwrap();
    assert_eq!(read, record);
    assert_eq!(read.to_json().unwrap(), text);
    let mut other: Value = serde_json::from_str(&text).unwrap();
    other["unknown"] = json!(1);
    assert!(RunRecord::from_json(other.to_string().as_bytes()).is_err());
}
