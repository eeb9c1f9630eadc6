//! Requests in JSON before validation, with any field, match operator and value.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::matcher::Match;
use crate::ingest::null_as_default;

/// A filter of jobs before validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Filter {
    /// The field, or the annotation key.
    pub field: String,
    /// The name of the match operator.
    #[serde(rename = "match")]
    pub matcher: String,
    /// The value to compare with: a string, an integer, an RFC 3339 time or a list, depending on the field.
    #[serde(default)]
    pub value: Value,
    /// Whether `field` is an annotation key.
    #[serde(default, deserialize_with = "null_as_default")]
    pub is_annotation: bool,
}

impl Filter {
    /// Creates a filter on a field.
    pub fn new(field: impl Into<String>, matcher: Match, value: impl Into<Value>) -> Self {
        Self { field: field.into(), matcher: matcher.name().to_owned(), value: value.into(), is_annotation: false }
    }

    /// Creates a filter on an annotation.
    pub fn annotation(key: impl Into<String>, matcher: Match, value: impl Into<Value>) -> Self {
        Self { is_annotation: true, ..Self::new(key, matcher, value) }
    }
}

/// A sort order before validation. If both parts are empty, the order is undefined.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Order {
    /// The field to sort by.
    #[serde(default, deserialize_with = "null_as_default")]
    pub field: String,
    /// `ASC` or `DESC`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub direction: String,
}

impl Order {
    /// Creates an ascending order by a field.
    pub fn ascending(field: impl Into<String>) -> Self {
        Self { field: field.into(), direction: "ASC".to_owned() }
    }

    /// Creates a descending order by a field.
    pub fn descending(field: impl Into<String>) -> Self {
        Self { field: field.into(), direction: "DESC".to_owned() }
    }
}

/// A request for jobs before validation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetJobsRequest {
    /// The filters, which are combined by AND.
    #[serde(default, deserialize_with = "null_as_default")]
    pub filters: Vec<Filter>,
    /// Whether to select only jobs whose job set contains an active job.
    #[serde(default, deserialize_with = "null_as_default")]
    pub active_job_sets: bool,
    /// The sort order of the jobs.
    #[serde(default, deserialize_with = "null_as_default")]
    pub order: Order,
    /// The offset: the number of jobs to skip.
    #[serde(default, deserialize_with = "null_as_default")]
    pub skip: i64,
    /// The limit: the maximum number of jobs to return; 0 for no limit.
    #[serde(default, deserialize_with = "null_as_default")]
    pub take: i64,
}

/// The field or annotation to group jobs by, before validation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupedField {
    /// The field, or the annotation key.
    pub field: String,
    /// Whether `field` is an annotation key.
    #[serde(default, deserialize_with = "null_as_default")]
    pub is_annotation: bool,
    /// The aggregate function of transition times: `average` (the default), `earliest` or `latest`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub last_transition_time_aggregate: String,
}

impl GroupedField {
    /// Groups by a field of the job or of its latest run.
    pub fn field(field: impl Into<String>) -> Self {
        Self { field: field.into(), ..Self::default() }
    }

    /// Groups by an annotation key.
    pub fn annotation(key: impl Into<String>) -> Self {
        Self { field: key.into(), is_annotation: true, ..Self::default() }
    }
}

/// A request for groups of jobs before validation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetJobGroupsRequest {
    /// The filters, which are combined by AND.
    #[serde(default, deserialize_with = "null_as_default")]
    pub filters: Vec<Filter>,
    /// Whether to select only jobs whose job set contains an active job.
    #[serde(default, deserialize_with = "null_as_default")]
    pub active_job_sets: bool,
    /// The field or annotation to group by.
    pub grouped_field: GroupedField,
    /// The requested aggregates: any of `state`, `submitted` and `lastTransitionTime`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub aggregates: Vec<String>,
    /// The sort order of the groups.
    #[serde(default, deserialize_with = "null_as_default")]
    pub order: Order,
    /// The offset: the number of groups to skip.
    #[serde(default, deserialize_with = "null_as_default")]
    pub skip: i64,
    /// The limit: the maximum number of groups to return; 0 for no limit.
    #[serde(default, deserialize_with = "null_as_default")]
    pub take: i64,
}
