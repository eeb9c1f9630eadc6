//! The measurements in the result file.

use std::time::Duration;

use serde::Serialize;

use super::GoDuration;
use crate::load::record::{ActionRecord, ActionType, QueryRecord, QueryType, RunRecord};
use crate::measure::LatencyHistogram;
use crate::time::Timestamp;

/// The filter combinations that the format supports. Other pages and recorded reads are only in the record.
const FILTER_COMBOS: [&str; 7] =
    ["none", "annotations", "running_queue", "queued_jobset", "priority", "errored_time", "cluster_node"];

/// The measurements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Results {
    /// The ingestion.
    pub ingester: Ingester,
    /// The reads.
    pub querier: Querier,
    /// The actions; `None` if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
}

/// The ingestion.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the keys of the format")]
pub struct Ingester {
    pub total_queries_executed: u64,
    pub total_batches_executed: u64,
    pub total_batches_failed: u64,
    pub peak_backlog_size: u64,
    pub average_backlog_size: f64,
    pub p50_backlog_size: f64,
    pub p95_backlog_size: f64,
    pub p99_backlog_size: f64,
    pub p50_backlog_wait_time: GoDuration,
    pub p95_backlog_wait_time: GoDuration,
    pub p99_backlog_wait_time: GoDuration,
    pub max_backlog_wait_time: GoDuration,
    pub p50_execution_latency: GoDuration,
    pub p95_execution_latency: GoDuration,
    pub p99_execution_latency: GoDuration,
}

/// The reads.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Querier {
    /// The number of successful reads, including those of records that do not exist.
    pub total_queries_executed: u64,
    /// The number of failed reads.
    pub total_queries_failed: u64,
    /// The statistics by kind and filter combination.
    pub stats_by_query_type: Vec<QueryStats>,
    /// The first errors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<QueryError>,
}

/// The statistics of a kind of read with a filter combination.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the keys of the format")]
pub struct QueryStats {
    pub query_type: QueryType,
    pub filter_combo: String,
    pub total_executed: u64,
    pub total_failed: u64,
    pub p50_latency: GoDuration,
    pub p95_latency: GoDuration,
    pub p99_latency: GoDuration,
    pub max_latency: GoDuration,
    pub average_latency: GoDuration,
}

/// A read that failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the keys of the format")]
pub struct QueryError {
    pub query_type: QueryType,
    pub filter_combo: String,
    pub error: String,
    pub timestamp: Timestamp,
}

/// The actions.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the keys of the format")]
pub struct Actor {
    pub total_reprioritisations: u64,
    pub total_cancellations: u64,
    pub total_jobs_reprioritised: u64,
    pub total_jobs_cancelled: u64,
    pub reprioritisation_p50_latency: GoDuration,
    pub reprioritisation_p95_latency: GoDuration,
    pub reprioritisation_p99_latency: GoDuration,
    pub cancellation_p50_latency: GoDuration,
    pub cancellation_p95_latency: GoDuration,
    pub cancellation_p99_latency: GoDuration,
    /// The actions that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ActorError>,
}

/// An action that failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the keys of the format")]
pub struct ActorError {
    pub action: ActionType,
    pub queue: String,
    pub job_set: String,
    pub error: String,
    pub timestamp: Timestamp,
}

impl Results {
    pub(super) fn new(record: &RunRecord) -> Self {
        Self {
            ingester: ingester(record),
            querier: querier(record),
            actor: (!record.actions.is_empty()).then(|| actor(record)),
        }
    }
}

/// The p50, p95 and p99 by nearest rank; 0 without samples.
fn percentiles(latencies: &LatencyHistogram) -> [GoDuration; 3] {
    let values = latencies.curve([0.5, 0.95, 0.99]);
    std::array::from_fn(|at| GoDuration::from_nanos(values.get(at).copied().unwrap_or_default()))
}

fn max_latency(latencies: &LatencyHistogram) -> GoDuration {
    GoDuration::from_nanos(latencies.max_nanos().unwrap_or_default())
}

fn ingester(record: &RunRecord) -> Ingester {
    let ingester = &record.ingester;
    let sizes = &ingester.backlog_size;
    let size = |quantile| sizes.quantile(quantile).unwrap_or_default() as f64;
    let [p50_backlog_wait_time, p95_backlog_wait_time, p99_backlog_wait_time] = percentiles(&ingester.backlog_wait);
    let [p50_execution_latency, p95_execution_latency, p99_execution_latency] = percentiles(&ingester.call_time);
    Ingester {
        total_queries_executed: ingester.queries_executed,
        total_batches_executed: ingester.batches_executed,
        total_batches_failed: ingester.batches_failed,
        peak_backlog_size: sizes.max().unwrap_or_default(),
        average_backlog_size: sizes.mean().unwrap_or_default(),
        p50_backlog_size: size(0.5),
        p95_backlog_size: size(0.95),
        p99_backlog_size: size(0.99),
        p50_backlog_wait_time,
        p95_backlog_wait_time,
        p99_backlog_wait_time,
        max_backlog_wait_time: max_latency(&ingester.backlog_wait),
        p50_execution_latency,
        p95_execution_latency,
        p99_execution_latency,
    }
}

fn querier(record: &RunRecord) -> Querier {
    let queries: Vec<_> = record.queries.iter().filter(|query| is_supported(&query.filter_combo)).map(stats).collect();
    let errors = record.errors.iter().filter(|error| is_supported(&error.filter_combo)).filter_map(|error| {
        Some(QueryError {
            query_type: error.query_type?,
            filter_combo: error.filter_combo.clone(),
            error: error.error.clone(),
            timestamp: error.timestamp,
        })
    });
    Querier {
        total_queries_executed: queries.iter().map(|query| query.total_executed).sum(),
        total_queries_failed: queries.iter().map(|query| query.total_failed).sum(),
        errors: errors.collect(),
        stats_by_query_type: queries,
    }
}

fn is_supported(filter_combo: &str) -> bool {
    FILTER_COMBOS.contains(&filter_combo)
}

fn stats(query: &QueryRecord) -> QueryStats {
    let [p50_latency, p95_latency, p99_latency] = percentiles(&query.latency);
    QueryStats {
        query_type: query.query_type,
        filter_combo: query.filter_combo.clone(),
        total_executed: query.executed + query.not_found,
        total_failed: query.failed,
        p50_latency,
        p95_latency,
        p99_latency,
        max_latency: max_latency(&query.latency),
        average_latency: GoDuration::from_nanos(query.latency.mean_nanos().unwrap_or_default().round() as u64),
    }
}

fn actor(record: &RunRecord) -> Actor {
    let actions = |kind: ActionType| record.actions.iter().filter(move |record| record.action == kind);
    let total = |kind| actions(kind).count() as u64;
    let jobs = |kind| actions(kind).map(|record| record.jobs).sum();
    let latencies = |kind| -> LatencyHistogram {
        actions(kind)
            .filter_map(|record| record.end_nanos?.checked_sub(record.due_nanos))
            .map(Duration::from_nanos)
            .collect()
    };
    let [reprioritisation_p50_latency, reprioritisation_p95_latency, reprioritisation_p99_latency] =
        percentiles(&latencies(ActionType::Reprioritise));
    let [cancellation_p50_latency, cancellation_p95_latency, cancellation_p99_latency] =
        percentiles(&latencies(ActionType::Cancel));
    Actor {
        total_reprioritisations: total(ActionType::Reprioritise),
        total_cancellations: total(ActionType::Cancel),
        total_jobs_reprioritised: jobs(ActionType::Reprioritise),
        total_jobs_cancelled: jobs(ActionType::Cancel),
        reprioritisation_p50_latency,
        reprioritisation_p95_latency,
        reprioritisation_p99_latency,
        cancellation_p50_latency,
        cancellation_p95_latency,
        cancellation_p99_latency,
        errors: record.actions.iter().filter_map(|action| actor_error(record.started, action)).collect(),
    }
}

fn actor_error(started: Timestamp, action: &ActionRecord) -> Option<ActorError> {
    let micros = action.end_nanos.unwrap_or(action.due_nanos) / 1000;
    Some(ActorError {
        action: action.action,
        queue: action.queue.clone(),
        job_set: action.job_set.clone(),
        error: action.error.clone()?,
        timestamp: Timestamp::from_micros(started.as_micros().saturating_add_unsigned(micros)),
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::fixtures::{reads, run};
    use super::*;

    #[test]
    fn a_read_of_a_missing_record_is_executed_and_an_unfinished_one_is_not() {
        let specs = reads(QueryType::GetJobSpec, "none", [1; 5]);
        let mut record = run();
        record.queries = vec![QueryRecord { not_found: 2, failed: 3, unfinished: 4, ..specs }];
        let querier = querier(&record);
        assert_eq!((querier.total_queries_executed, querier.total_queries_failed), (7, 3));
    }
}
