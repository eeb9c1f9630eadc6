//! The limits of queries and requests, implemented independently of the validation of the crate.

use broadside::api;
use broadside::ingest::IngestionQuery;
use broadside::scenario::{Filter, GetJobGroupsRequest, GetJobsRequest, Order};
use chrono::DateTime;
use prost::Message;
use serde_json::Value;

/// 1900-01-01T00:00:00Z and 2300-01-01T00:00:00Z, in microseconds.
const TIMES: std::ops::Range<i64> = -2_208_988_800_000_000..10_413_792_000_000_000;
const TEXT_FIELDS: [&str; 9] =
    ["jobId", "queue", "jobSet", "owner", "namespace", "priorityClass", "cluster", "node", "pool"];
const INTEGER_FIELDS: [&str; 5] = ["cpu", "memory", "ephemeralStorage", "gpu", "priority"];
const TIME_FIELDS: [&str; 2] = ["submitted", "lastTransitionTime"];
const ORDER_FIELDS: [&str; 6] = ["jobId", "queue", "jobSet", "state", "submitted", "lastTransitionTime"];
const GROUP_FIELDS: [&str; 8] = ["queue", "jobSet", "owner", "namespace", "state", "cluster", "node", "pool"];
const STATES: [&str; 9] =
    ["QUEUED", "LEASED", "PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "PREEMPTED", "REJECTED"];
const COMPARISONS: [&str; 5] = ["exact", "greaterThan", "lessThan", "greaterThanOrEqualTo", "lessThanOrEqualTo"];

/// An RFC 3339 time in microseconds. Further digits are truncated toward the past.
pub fn micros(text: &str) -> Option<i64> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    Some(time.timestamp() * 1_000_000 + i64::from(time.timestamp_subsec_nanos() / 1000))
}

/// Whether all queries of a batch are within the limits.
pub fn batch(queries: &[IngestionQuery]) -> bool {
    queries.iter().all(|query| {
        let spec = match query {
            IngestionQuery::InsertJob(query) => query.job_spec.as_ref(),
            IngestionQuery::InsertJobSpec(query) => query.job_spec.as_ref(),
            _ => None,
        };
        spec.is_none_or(|spec| api::Job::decode(spec.clone()).is_ok()) && fields(&serde_json::to_value(query).unwrap())
    })
}

/// Whether the fields of a query, or of its job, are within the limits.
fn fields(object: &Value) -> bool {
    object.as_object().unwrap().iter().all(|(name, value)| match name.as_str() {
        "job" => fields(value),
        "annotations" => value
            .as_object()
            .unwrap()
            .iter()
            .all(|(key, value)| !key.contains('\0') && !value.as_str().unwrap().contains('\0')),
        "jobId" => text(value, 1, 32),
        "runId" | "latestRunId" | "jobRunId" => text(value, 1, 36),
        "queue" | "owner" | "cluster" => text(value, 1, 512),
        "jobSet" => text(value, 1, 1024),
        "namespace" | "node" | "pool" | "cancelReason" | "cancelUser" => text(value, 0, 512),
        "priorityClass" => text(value, 0, 63),
        "time" | "submitted" => {
            value.is_null() || value.as_str().and_then(micros).is_some_and(|micros| TIMES.contains(&micros))
        }
        _ => true,
    })
}

fn text(value: &Value, least: usize, most: usize) -> bool {
    value.as_str().is_none_or(|text| (least..=most).contains(&text.len()) && !text.contains('\0'))
}

/// Whether a request for jobs is valid.
pub fn jobs_request(request: &GetJobsRequest) -> bool {
    let GetJobsRequest { filters, order, skip, take, .. } = request;
    filters.iter().all(filter) && is_order(order, |field| ORDER_FIELDS.contains(&field)) && *skip >= 0 && *take >= 0
}

/// Whether a request for groups is valid.
pub fn groups_request(request: &GetJobGroupsRequest) -> bool {
    let GetJobGroupsRequest { filters, grouped_field: grouped, aggregates, order, skip, take, .. } = request;
    let requested = |name: &str| aggregates.iter().any(|aggregate| aggregate == name);
    let names = |field: &str| match field {
        "count" => true,
        "submitted" | "lastTransitionTime" => requested(field),
        _ => field == grouped.field,
    };
    filters.iter().all(filter)
        && (grouped.is_annotation || GROUP_FIELDS.contains(&grouped.field.as_str()))
        && ["", "average", "earliest", "latest"].contains(&grouped.last_transition_time_aggregate.as_str())
        && aggregates.iter().all(|name| ["state", "submitted", "lastTransitionTime"].contains(&name.as_str()))
        && is_order(order, names)
        && *skip >= 0
        && *take >= 0
}

fn is_order(order: &Order, is_key: impl Fn(&str) -> bool) -> bool {
    let none = order.field.is_empty() && order.direction.is_empty();
    none || is_key(&order.field) && ["ASC", "DESC"].contains(&order.direction.as_str())
}

fn filter(filter: &Filter) -> bool {
    let Filter { field, matcher, value, is_annotation } = filter;
    let (field, matcher) = (field.as_str(), matcher.as_str());
    let is_text = |value: &Value| value.is_string();
    let is_state = |value: &Value| value.as_str().is_some_and(|name| STATES.contains(&name));
    if *is_annotation || TEXT_FIELDS.contains(&field) {
        return match matcher {
            "exists" => *is_annotation,
            "anyOf" => all(value, is_text),
            _ => ["exact", "startsWith", "contains"].contains(&matcher) && is_text(value),
        };
    }
    match matcher {
        "anyOf" if field == "state" => all(value, is_state),
        "exact" if field == "state" => is_state(value),
        "anyOf" => INTEGER_FIELDS.contains(&field) && all(value, Value::is_i64),
        _ if !COMPARISONS.contains(&matcher) => false,
        _ if INTEGER_FIELDS.contains(&field) => value.is_i64(),
        _ => TIME_FIELDS.contains(&field) && value.as_str().and_then(micros).is_some(),
    }
}

fn all(value: &Value, is_valid: impl Fn(&Value) -> bool) -> bool {
    value.as_array().is_some_and(|values| values.iter().all(is_valid))
}
