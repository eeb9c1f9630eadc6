//! Tests of the files of a load test: the result file and the record.

use crate::support::run;
use broadside::load::RunRecord;
use broadside::load::upstream::{
    ActionConfig, ActionsConfig, Configuration, DatabaseConfig, DatabaseType, GoDuration, HistoricalJobsConfig,
    IngestionConfig, JobSetConfig, JobStateTransitionConfig, QueryConfig, QueueConfig, ResultFile,
};
use serde_json::{Value, json};
use std::time::Duration;

fn seconds(seconds: f64) -> GoDuration {
    GoDuration(Duration::from_secs_f64(seconds))
}

fn configuration() -> Configuration {
    let at = |after: f64| ActionConfig {
        perform_after_test_start_time: seconds(after),
        queue: "risk".to_owned(),
        job_set: "nightly".to_owned(),
    };
    let historical = HistoricalJobsConfig {
        number_of_jobs: 1000,
        proportion_succeeded: 0.7,
        proportion_errored: 0.1,
        proportion_cancelled: 0.1,
        proportion_preempted: 0.1,
    };
    Configuration {
        test_duration: seconds(60.0),
        warmup_duration: seconds(10.0),
        database_config: DatabaseConfig {
            database_type: DatabaseType::Postgres,
            connection_string: "postgres://db.example:5432/lookout".to_owned(),
            tuning_sql: vec!["ALTER SYSTEM SET work_mem = '64MB'".to_owned()],
            tuning_revert_sql: vec!["ALTER SYSTEM RESET work_mem".to_owned()],
        },
        queue_config: vec![QueueConfig {
            name: "risk".to_owned(),
            proportion: 1.0,
            job_set_config: vec![JobSetConfig {
                name: "nightly".to_owned(),
                proportion: 1.0,
                historical_jobs_config: Some(historical),
            }],
        }],
        ingestion_config: IngestionConfig {
            batch_size: 1000,
            num_workers: 2,
            submissions_per_hour: 3_600_000,
            job_state_transition_config: Some(JobStateTransitionConfig {
                queueing_duration: seconds(1.0),
                leased_duration: seconds(0.5),
                pending_duration: seconds(0.5),
                proportion_succeed: 0.9,
                running_to_success_duration: seconds(90.0),
                proportion_fail: 0.1,
                running_to_failure_duration: seconds(3.25),
            }),
        },
        query_config: QueryConfig {
            get_job_run_debug_message_queries_per_hour: 100,
            get_job_run_error_queries_per_hour: 100,
            get_job_spec_queries_per_hour: 200,
            get_jobs_queries_per_hour: 180_000,
            get_jobs_page_size: 100,
            get_job_groups_queries_per_hour: 180_000,
            get_job_groups_page_size: 100,
        },
        actions_config: Some(ActionsConfig {
            job_set_reprioritisations: vec![at(20.0)],
            job_set_cancellations: vec![at(45.0)],
        }),
    }
}

/// The configuration without optional sections.
fn minimal_configuration() -> Configuration {
    let mut configuration = configuration();
    configuration.database_config = DatabaseConfig {
        database_type: DatabaseType::InMemory,
        connection_string: String::new(),
        tuning_sql: Vec::new(),
        tuning_revert_sql: Vec::new(),
    };
    configuration.queue_config[0].job_set_config[0].historical_jobs_config = None;
    configuration.ingestion_config.job_state_transition_config = None;
    configuration.actions_config = None;
    configuration
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

fn checked(file: &ResultFile) -> (String, Vec<String>) {
    let text = file.to_json().unwrap();
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
    let file = ResultFile::new(&run::record("postgres", 900.0), configuration());
    let mut json = serde_json::to_value(&file).unwrap();
    json["metadata"]["more"] = json!(1);
    json["results"]["ingester"]["peakBacklogSize"] = json!(1.5);
    json["results"]["querier"].as_object_mut().unwrap().remove("statsByQueryType");
    let mut found = Vec::new();
    violations(&schema(), &json, "", &mut found);
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn the_result_file_matches_the_snapshot() {
    let (text, found) = checked(&ResultFile::new(&run::record("postgres", 900.0), configuration()));
    assert_eq!(found, [""; 0]);
    insta::assert_snapshot!(text);
}

#[test]
fn empty_sections_are_omitted() {
    let mut record = run::record("memory", 80.0);
    record.actions.clear();
    record.errors.clear();
    let (text, found) = checked(&ResultFile::new(&record, minimal_configuration()));
    assert_eq!(found, [""; 0]);
    for key in ["actor", "actionsConfig", "errors", "tuning", "historicalJobs", "connectionString", "null"] {
        assert!(!text.contains(key), "{key}: {text}");
    }
}

#[test]
fn unsupported_reads_are_only_in_the_record() {
    let record = run::record("memory", 80.0);
    let file = ResultFile::new(&record, minimal_configuration());
    let combos: Vec<_> = file.results.querier.stats_by_query_type.iter().map(|stats| &stats.filter_combo[..]).collect();
    assert!(!combos.contains(&"deep_offset") && combos.contains(&"errored_time"), "{combos:?}");
    let total: u64 = file.results.querier.stats_by_query_type.iter().map(|stats| stats.total_executed).sum();
    assert_eq!(file.results.querier.total_queries_executed, total);
    assert!(record.to_json().unwrap().contains("deep_offset"));
}

#[test]
fn a_run_without_calls_has_a_result_file() {
    let mut record = run::record("memory", 80.0);
    record.ingester = Default::default();
    record.queries.clear();
    record.actions.iter_mut().for_each(|action| action.end_nanos = None);
    let (text, found) = checked(&ResultFile::new(&record, configuration()));
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
