//! The results of a comparison with all settings that are needed to repeat it: `results.json`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::operation::WorkloadOperation;
use crate::database::StoreInfo;
use crate::measure::{LatencyHistogram, Machine, Percentiles};
use crate::time::Timestamp;
use crate::workload::{QueryKind, WorkloadOptions};

/// The settings and measurements of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Results {
    /// The version of this format, [`Results::FORMAT`].
    pub format: u32,
    /// The version of Broadside.
    pub broadside: String,
    /// The end of the comparison.
    pub taken: Timestamp,
    /// The settings.
    pub settings: Settings,
    /// The machine.
    pub machine: Machine,
    /// The backends, in the order of each operation's measurements.
    pub backends: Vec<BackendResult>,
    /// The operations.
    pub operations: Vec<OperationResult>,
}

/// The settings that determine the jobs and the queries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The jobs.
    pub workload: WorkloadOptions,
    /// The maximum number of executions of each query.
    pub samples: usize,
}

/// A backend and its store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendResult {
    /// The name, which is unique in the comparison.
    pub name: String,
    /// The name and version of the software.
    pub version: Option<String>,
    /// Bytes of data and indexes.
    pub bytes: Option<u64>,
    /// Bytes of data and indexes per job.
    pub bytes_per_job: Option<f64>,
}

/// The groups of operations in tables and charts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OperationGroup {
    /// Batches.
    Ingestion,
    /// Pages of jobs.
    Pages,
    /// Groups of jobs.
    Groups,
    /// Single records.
    Records,
}

/// An operation and its measurements on each backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationResult {
    /// The name, which is unique in the comparison.
    pub name: String,
    /// The group.
    pub group: OperationGroup,
    /// The measurement on each backend; `None` if the backend does not support the operation.
    pub measurements: Vec<Option<Measurement>>,
}

/// The measurement of an operation on a backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measurement {
    /// The number of executions, which are the samples of the percentiles.
    pub runs: u64,
    /// The maximum number of rows of a result; `None` for ingestion.
    pub rows: Option<usize>,
    /// The ingestion queries per second over all batches; `None` for reads.
    pub rows_per_second: Option<f64>,
    /// The latencies of the executions.
    #[serde(flatten)]
    pub times: Percentiles,
}

impl Results {
    /// The version of the format that this version of Broadside reads and writes.
    pub const FORMAT: u32 = 2;
}

impl BackendResult {
    pub(super) fn new(name: &str, info: StoreInfo, jobs: u64) -> Self {
        let bytes_per_job = info.bytes.filter(|_| jobs > 0).map(|bytes| bytes as f64 / jobs as f64);
        Self { name: name.to_owned(), version: info.version, bytes: info.bytes, bytes_per_job }
    }
}

impl OperationResult {
    pub(super) fn new(operation: WorkloadOperation) -> Self {
        let group = match operation {
            WorkloadOperation::Ingest(_) => OperationGroup::Ingestion,
            WorkloadOperation::Query(QueryKind::Page(_)) => OperationGroup::Pages,
            WorkloadOperation::Query(QueryKind::Groups { .. }) => OperationGroup::Groups,
            WorkloadOperation::Query(QueryKind::Record(_)) => OperationGroup::Records,
        };
        Self { name: operation.to_string(), group, measurements: Vec::new() }
    }

    /// Adds the measurement on the next backend.
    pub(super) fn add(&mut self, measurement: Option<Measurement>) {
        self.measurements.push(measurement);
    }

    /// The ratio of a backend's median to that of the first backend.
    pub fn ratio(&self, backend: usize) -> Option<f64> {
        let median = |backend: usize| Some(self.measurements.get(backend)?.as_ref()?.times.p50_nanos);
        let (first, other) = (median(0)?, median(backend)?);
        (first > 0).then(|| other as f64 / first as f64)
    }
}

impl Measurement {
    /// `None` without a batch.
    pub(super) fn of_ingestion(latencies: &LatencyHistogram, total: Duration, queries: usize) -> Option<Self> {
        let seconds = total.as_secs_f64();
        let rows_per_second = (seconds > 0.0).then(|| queries as f64 / seconds);
        Some(Self { runs: latencies.count(), rows: None, rows_per_second, times: latencies.percentiles()? })
    }

    /// `None` without a run.
    pub(super) fn of_queries(latencies: &LatencyHistogram, rows: usize) -> Option<Self> {
        let times = latencies.percentiles()?;
        Some(Self { runs: latencies.count(), rows: Some(rows), rows_per_second: None, times })
    }
}
