//! The result file of Armada's Broadside: `broadside-result-YYYYMMDD-HHMMSS.json`.
//!
//! The format allows only these keys, and optional sections are omitted when empty. Measurements that the
//! format does not support are only in the [`RunRecord`]. The latencies of reads are those of the record, measured from
//! the due time; the execution latency of ingestion is the duration of the database call alone, as in Armada's
//! Broadside. Percentiles are required by the format, and by nearest rank for any number of samples.

use std::time::Duration;

use serde_json::{Value, json};

use super::duration::GoDuration;
use super::record::{ActionRecord, ActionType, ErrorRecord, Phase, QueryRecord, RunRecord};
use crate::error::BackendKind;
use crate::measure::LatencyHistogram;
use crate::time::Timestamp;

/// The version of the format.
pub const VERSION: &str = "1.0.0";

/// The filter combinations that the format supports. Other pages and recorded reads are only in the record.
const FILTER_COMBOS: [&str; 7] =
    ["none", "annotations", "running_queue", "queued_jobset", "priority", "errored_time", "cluster_node"];
/// The keys that the format does not allow to be empty.
const OMITTED_IF_EMPTY: [&str; 10] = [
    "actionsConfig",
    "actor",
    "connectionString",
    "errors",
    "historicalJobsConfig",
    "jobSetCancellations",
    "jobSetConfig",
    "jobSetReprioritisations",
    "tuningRevertSql",
    "tuningSql",
];

/// The result file of a run, as JSON.
pub fn result_file(record: &RunRecord) -> String {
    let test = record.phase(Phase::Test).map_or(0, |test| test.end_nanos.saturating_sub(test.start_nanos));
    let mut file = json!({
        "metadata": {
            "timestamp": record.ended,
            "version": VERSION,
            "testDuration": GoDuration::from_nanos(test),
        },
        "configuration": configuration(record),
        "results": {"ingester": ingester(record), "querier": querier(record), "actor": actor(record)},
    });
    omit_empty(&mut file);
    format!("{file:#}\n")
}

/// The names of the two files of a run, derived from the time of its start: the result file and the record.
///
/// ```
/// use broadside::load::upstream::file_names;
///
/// let names = file_names("2026-08-01T09:30:05.25Z".parse()?);
/// assert_eq!(names, ["broadside-result-20260801-093005.json", "broadside-run-20260801-093005.json"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn file_names(started: Timestamp) -> [String; 2] {
    // The digits of YYYY-MM-DDTHH:MM:SS.
    let text = started.to_string();
    let digits: String = text.chars().take(19).filter(char::is_ascii_digit).collect();
    let (day, time) = digits.split_at(digits.len().min(8));
    ["result", "run"].map(|kind| format!("broadside-{kind}-{day}-{time}.json"))
}

/// Removes the optional keys whose values are empty, innermost first.
fn omit_empty(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(omit_empty),
        Value::Object(fields) => {
            fields.values_mut().for_each(omit_empty);
            fields.retain(|key, value| !OMITTED_IF_EMPTY.contains(&key.as_str()) || !is_empty(value));
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        // Historical jobs without a job.
        Value::Object(fields) => fields.is_empty() || fields.get("numberOfJobs").is_some_and(|number| number == 0),
        _ => false,
    }
}

/// The configuration as far as the format supports it.
fn configuration(record: &RunRecord) -> Value {
    let action = json!([{"performAfterTestStartTime": "", "queue": "", "jobSet": ""}]);
    let supported = json!({
        "testDuration": "",
        "warmupDuration": "",
        "queueConfig": [{
            "name": "", "proportion": "",
            "jobSetConfig": [{
                "name": "", "proportion": "",
                "historicalJobsConfig": {
                    "numberOfJobs": "", "proportionSucceeded": "", "proportionErrored": "", "proportionCancelled": "",
                    "proportionPreempted": "",
                },
            }],
        }],
        "ingestionConfig": {
            "batchSize": "", "numWorkers": "", "submissionsPerHour": "",
            "jobStateTransitionConfig": {
                "queueingDuration": "", "leasedDuration": "", "pendingDuration": "", "proportionSucceed": "",
                "runningToSuccessDuration": "", "proportionFail": "", "runningToFailureDuration": "",
            },
        },
        "queryConfig": {
            "getJobsQueriesPerHour": "", "getJobGroupsQueriesPerHour": "", "getJobSpecQueriesPerHour": "",
            "getJobRunErrorQueriesPerHour": "", "getJobRunDebugMessageQueriesPerHour": "",
            "getJobsPageSize": "", "getJobGroupsPageSize": "",
        },
        "actionsConfig": {"jobSetReprioritisations": action, "jobSetCancellations": action},
    });
    let mut configuration = only(&supported, &record.configuration);
    configuration["databaseConfig"] = database(record);
    configuration
}

/// The parts of a value that have the keys of `supported`. The one element of a list stands for all elements.
fn only(supported: &Value, value: &Value) -> Value {
    match (supported, value) {
        (Value::Object(keys), Value::Object(fields)) => {
            let part = |(key, keys): (&String, &Value)| Some((key.clone(), only(keys, fields.get(key)?)));
            keys.iter().filter_map(part).collect()
        }
        (Value::Array(element), Value::Array(items)) => items.iter().map(|item| only(&element[0], item)).collect(),
        _ => value.clone(),
    }
}

fn database(record: &RunRecord) -> Value {
    let store = &record.store;
    let is = |kind: BackendKind| store.backend == kind.name();
    let is_server = is(BackendKind::Postgres) || is(BackendKind::ClickHouse);
    let settings = &record.configuration["databaseConfig"];
    json!({
        "type": match store.backend.as_str() {
            name if is_server => name,
            _ if is(BackendKind::Memory) => "inmemory",
            // A store outside this crate, for which Armada's Broadside has no name.
            _ => "other",
        },
        "connectionString": if is_server { &store.address } else { "" },
        "tuningSql": settings["postgresTuningSQL"],
        "tuningRevertSql": settings["postgresTuningRevertSQL"],
    })
}

/// The p50, p95 and p99 by nearest rank; 0 without samples.
fn percentiles(latencies: &LatencyHistogram) -> [GoDuration; 3] {
    let values = latencies.curve([0.5, 0.95, 0.99]);
    std::array::from_fn(|at| GoDuration::from_nanos(values.get(at).copied().unwrap_or_default()))
}

fn max_latency(latencies: &LatencyHistogram) -> GoDuration {
    GoDuration::from_nanos(latencies.max_nanos().unwrap_or_default())
}

fn ingester(record: &RunRecord) -> Value {
    let ingester = &record.ingester;
    let sizes = &ingester.backlog_size;
    let size = |quantile| sizes.quantile(quantile).unwrap_or_default() as f64;
    let [p50_wait, p95_wait, p99_wait] = percentiles(&ingester.backlog_wait);
    let [p50_execution, p95_execution, p99_execution] = percentiles(&ingester.call_time);
    json!({
        "totalQueriesExecuted": ingester.queries_executed,
        "totalBatchesExecuted": ingester.batches_executed,
        "totalBatchesFailed": ingester.batches_failed,
        "peakBacklogSize": sizes.max().unwrap_or_default(),
        "averageBacklogSize": sizes.mean().unwrap_or_default(),
        "p50BacklogSize": size(0.5),
        "p95BacklogSize": size(0.95),
        "p99BacklogSize": size(0.99),
        "p50BacklogWaitTime": p50_wait,
        "p95BacklogWaitTime": p95_wait,
        "p99BacklogWaitTime": p99_wait,
        "maxBacklogWaitTime": max_latency(&ingester.backlog_wait),
        "p50ExecutionLatency": p50_execution,
        "p95ExecutionLatency": p95_execution,
        "p99ExecutionLatency": p99_execution,
    })
}

/// The reads. Those of records that do not exist are successful.
fn querier(record: &RunRecord) -> Value {
    let queries = || record.queries.iter().filter(|query| is_supported(&query.filter_combo));
    let errors = record.errors.iter().filter(|error| error.query_type.is_some() && is_supported(&error.filter_combo));
    json!({
        "totalQueriesExecuted": queries().map(executed).sum::<u64>(),
        "totalQueriesFailed": queries().map(|query| query.failed).sum::<u64>(),
        "statsByQueryType": queries().map(stats).collect::<Vec<_>>(),
        "errors": errors.map(query_error).collect::<Vec<_>>(),
    })
}

fn is_supported(filter_combo: &str) -> bool {
    FILTER_COMBOS.contains(&filter_combo)
}

fn executed(query: &QueryRecord) -> u64 {
    query.executed + query.not_found
}

fn stats(query: &QueryRecord) -> Value {
    let [p50, p95, p99] = percentiles(&query.latency);
    json!({
        "queryType": query.query_type,
        "filterCombo": query.filter_combo,
        "totalExecuted": executed(query),
        "totalFailed": query.failed,
        "p50Latency": p50,
        "p95Latency": p95,
        "p99Latency": p99,
        "maxLatency": max_latency(&query.latency),
        "averageLatency": GoDuration::from_nanos(query.latency.mean_nanos().unwrap_or_default().round() as u64),
    })
}

fn query_error(error: &ErrorRecord) -> Value {
    json!({
        "queryType": error.query_type,
        "filterCombo": error.filter_combo,
        "error": error.error,
        "timestamp": error.timestamp,
    })
}

fn actor(record: &RunRecord) -> Option<Value> {
    let actions = |kind: ActionType| record.actions.iter().filter(move |record| record.action == kind);
    let jobs = |kind| actions(kind).map(|record| record.jobs).sum::<u64>();
    let latencies = |kind| -> LatencyHistogram {
        actions(kind)
            .filter_map(|record| record.end_nanos?.checked_sub(record.due_nanos))
            .map(Duration::from_nanos)
            .collect()
    };
    let [p50_reprioritisation, p95_reprioritisation, p99_reprioritisation] =
        percentiles(&latencies(ActionType::Reprioritise));
    let [p50_cancellation, p95_cancellation, p99_cancellation] = percentiles(&latencies(ActionType::Cancel));
    let failed = record.actions.iter().filter_map(|action| action_error(record.started, action));
    let actor = json!({
        "totalReprioritisations": actions(ActionType::Reprioritise).count(),
        "totalCancellations": actions(ActionType::Cancel).count(),
        "totalJobsReprioritised": jobs(ActionType::Reprioritise),
        "totalJobsCancelled": jobs(ActionType::Cancel),
        "reprioritisationP50Latency": p50_reprioritisation,
        "reprioritisationP95Latency": p95_reprioritisation,
        "reprioritisationP99Latency": p99_reprioritisation,
        "cancellationP50Latency": p50_cancellation,
        "cancellationP95Latency": p95_cancellation,
        "cancellationP99Latency": p99_cancellation,
        "errors": failed.collect::<Vec<_>>(),
    });
    (!record.actions.is_empty()).then_some(actor)
}

fn action_error(started: Timestamp, action: &ActionRecord) -> Option<Value> {
    let micros = action.end_nanos.unwrap_or(action.due_nanos) / 1000;
    Some(json!({
        "action": action.action,
        "queue": action.queue,
        "jobSet": action.job_set,
        "error": action.error.as_ref()?,
        "timestamp": Timestamp::from_micros(started.as_micros().saturating_add_unsigned(micros)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::fixtures::{config, reads, run};
    use crate::load::record::QueryType;

    #[test]
    fn a_read_of_a_missing_record_is_executed_and_an_unfinished_one_is_not() {
        let specs = reads(QueryType::GetJobSpec, "none", [1; 5]);
        let mut record = run();
        record.queries = vec![QueryRecord { not_found: 2, failed: 3, unfinished: 4, ..specs }];
        let querier = querier(&record);
        assert_eq!([&querier["totalQueriesExecuted"], &querier["totalQueriesFailed"]], [7, 3]);
    }

    #[test]
    fn actions_are_left_out_if_there_are_none() {
        let actions = |overrides: &str| {
            let configuration = serde_json::to_value(config(overrides)).unwrap();
            let file = result_file(&RunRecord { configuration, ..run() });
            serde_json::from_str::<Value>(&file).unwrap()["configuration"].get("actionsConfig").cloned()
        };
        assert_eq!(actions(""), None);
        for kind in ["jobSetReprioritisations", "jobSetCancellations"] {
            let action = "[{performAfterTestStartTime: 1500ms, queue: q, jobSet: s}]";
            let expected = json!({kind: [{"performAfterTestStartTime": "1.5s", "queue": "q", "jobSet": "s"}]});
            assert_eq!(actions(&format!("actionsConfig: {{{kind}: {action}}}")), Some(expected));
        }
    }
}
