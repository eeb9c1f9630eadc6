//! What was measured, in the terms of the result file.

use std::time::Duration;

use serde::Serialize;

use super::GoDuration;
use crate::load::record::{ActionRecord, ActionType, QueryRecord, QueryType, RunRecord};
use crate::measure::LatencyHistogram;
use crate::time::Timestamp;

/// The filters of pages that the format knows. Pages by other filters and recorded reads are in the record alone.
const FILTER_COMBOS: [&str; 7] =
    ["none", "annotations", "running_queue", "queued_jobset", "priority", "errored_time", "cluster_node"];

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Results {
    /// The ingestion.
    pub ingester: Ingester,
    /// The reads.
    pub querier: Querier,
    /// The actions; none if none was due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
}

/// The ingestion.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the keys of the format")]
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
    /// The reads that the store answered, NotFound included.
    pub total_queries_executed: u64,
    /// The reads that failed.
    pub total_queries_failed: u64,
    /// By kind and filter.
    pub stats_by_query_type: Vec<QueryStats>,
    /// The first errors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<QueryError>,
}

/// The reads of a kind and filter.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the keys of the format")]
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
#[expect(missing_docs, reason = "the keys of the format")]
pub struct QueryError {
    pub query_type: QueryType,
    pub filter_combo: String,
    pub error: String,
    pub timestamp: Timestamp,
}

/// The actions.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the keys of the format")]
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
#[expect(missing_docs, reason = "the keys of the format")]
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

/// The latencies at the 50th, 95th and 99th percentile by nearest rank; 0 without samples.
fn percentiles(latencies: &LatencyHistogram) -> [GoDuration; 3] {
    let values = latencies.curve([0.5, 0.95, 0.99]);
    std::array::from_fn(|at| GoDuration::from_nanos(values.get(at).copied().unwrap_or_default()))
}

fn longest(latencies: &LatencyHistogram) -> GoDuration {
    GoDuration::from_nanos(latencies.max_nanos().unwrap_or_default())
}

fn ingester(record: &RunRecord) -> Ingester {
    let ingester = &record.ingester;
    let sizes = &ingester.backlog_size;
    let size = |quantile| sizes.quantile(quantile).unwrap_or_default() as f64;
    let [p50_backlog_wait_time, p95_backlog_wait_time, p99_backlog_wait_time] = percentiles(&ingester.backlog_wait);
    let [p50_execution_latency, p95_execution_latency, p99_execution_latency] = percentiles(&ingester.latency);
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
        max_backlog_wait_time: longest(&ingester.backlog_wait),
        p50_execution_latency,
        p95_execution_latency,
        p99_execution_latency,
    }
}

fn querier(record: &RunRecord) -> Querier {
    let queries: Vec<_> = record.queries.iter().filter(|query| known(&query.filter_combo)).map(stats).collect();
    let errors = record.errors.iter().filter(|error| known(&error.filter_combo)).filter_map(|error| {
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

fn known(filter_combo: &str) -> bool {
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
        max_latency: longest(&query.latency),
        average_latency: GoDuration::from_nanos(query.latency.mean_nanos().unwrap_or_default().round() as u64),
    }
}

fn actor(record: &RunRecord) -> Actor {
    let of = |action: ActionType| record.actions.iter().filter(move |record| record.action == action);
    let total = |action| of(action).count() as u64;
    let jobs = |action| of(action).map(|record| record.jobs).sum();
    let latencies = |action| -> LatencyHistogram {
        of(action)
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
