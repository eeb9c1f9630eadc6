//! The table of jobs in a simple form, created from the model.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use broadside::Job;
use broadside::model::Run;
use broadside::scenario::GetJobsRequest;

use crate::support::model::NaiveModel;

/// A cell of a result; times are in microseconds.
pub type Cell = Option<String>;
/// A row of a result.
pub type Row = Vec<Cell>;

/// A value of a column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Text(String),
    Integer(i64),
    /// In microseconds.
    Time(i64),
}

impl Value {
    /// The value as a cell of a result.
    pub fn cell(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Integer(number) | Self::Time(number) => number.to_string(),
        }
    }
}

pub const TEXTS: [&str; 13] = [
    "job_id",
    "queue",
    "job_set",
    "owner",
    "namespace",
    "priority_class",
    "state",
    "latest_run_id",
    "cancel_reason",
    "cancel_user",
    "cluster",
    "node",
    "pool",
];
pub const INTEGERS: [&str; 5] = ["cpu", "memory", "ephemeral_storage", "gpu", "priority"];
pub const TIMES: [&str; 3] = ["submitted", "cancelled", "last_transition_time"];

/// A job as a row, with its columns and annotations.
#[derive(Debug)]
pub struct JobRow {
    columns: BTreeMap<&'static str, Value>,
    annotations: BTreeMap<String, Value>,
}

impl JobRow {
    fn new(job: &Job, runs: &BTreeMap<String, Run>) -> Self {
        let latest_run = job.last_active_run_id.as_ref().and_then(|id| runs.get(id.as_str()));
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        let columns = [
            ("job_id", text(&job.job_id)),
            ("queue", text(&job.queue)),
            ("job_set", text(&job.job_set)),
            ("owner", text(&job.owner)),
            ("namespace", job.namespace.as_deref().and_then(text)),
            ("priority_class", job.priority_class.as_deref().and_then(text)),
            ("state", text(job.state.name())),
            ("latest_run_id", job.last_active_run_id.as_deref().and_then(text)),
            ("cancel_reason", job.cancel_reason.as_deref().and_then(text)),
            ("cancel_user", job.cancel_user.as_deref().and_then(text)),
            ("cluster", latest_run.and_then(|run| text(&run.cluster))),
            ("node", latest_run.and_then(|run| run.node.as_deref().and_then(text))),
            ("pool", latest_run.and_then(|run| run.pool.as_deref().and_then(text))),
            ("cpu", Some(Value::Integer(job.cpu))),
            ("memory", Some(Value::Integer(job.memory))),
            ("ephemeral_storage", Some(Value::Integer(job.ephemeral_storage))),
            ("gpu", Some(Value::Integer(job.gpu))),
            ("priority", Some(Value::Integer(job.priority))),
            ("submitted", Some(Value::Time(job.submitted.as_micros()))),
            ("cancelled", job.cancelled.map(|time| Value::Time(time.as_micros()))),
            ("last_transition_time", Some(Value::Time(job.last_transition_time.as_micros()))),
        ];
        let annotations = job.annotations.iter().map(|(key, value)| (key.to_string(), Value::Text(value.to_string())));
        Self {
            columns: columns.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
            annotations: annotations.collect(),
        }
    }

    pub fn column(&self, name: &str) -> Option<&Value> {
        self.columns.get(name)
    }

    pub fn annotation(&self, key: &str) -> Option<&Value> {
        self.annotations.get(key)
    }
}

/// All jobs of a store.
#[derive(Debug)]
pub struct Table {
    pub rows: Vec<JobRow>,
}

impl Table {
    pub fn of(model: &NaiveModel) -> Self {
        let ids: Vec<_> =
            model.ranked_jobs(&GetJobsRequest::default()).unwrap().into_iter().map(|(_, id)| id).collect();
        let jobs = model.jobs(&ids).unwrap();
        let runs: BTreeMap<String, Run> =
            jobs.iter().flat_map(|job| &job.runs).map(|run| (run.run_id.to_string(), run.clone())).collect();
        Self { rows: jobs.iter().map(|job| JobRow::new(job, &runs)).collect() }
    }

    pub fn distinct(&self, column: &str) -> usize {
        self.rows.iter().map(|row| row.column(column)).collect::<BTreeSet<_>>().len()
    }
}

/// Converts a result of the engine to rows of cells.
pub fn answer_rows(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch.columns().iter().map(as_texts).collect();
        rows.extend((0..batch.num_rows()).map(|at| columns.iter().map(|column| column[at].clone()).collect()));
    }
    rows
}

fn as_texts(column: &ArrayRef) -> Vec<Cell> {
    let plain = match column.data_type() {
        DataType::Timestamp(..) => cast(column, &DataType::Int64).unwrap(),
        _ => column.clone(),
    };
    let texts = cast(&plain, &DataType::Utf8).unwrap();
    texts.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}
