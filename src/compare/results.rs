//! The results of a comparison with all settings that are needed to repeat it: `results.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::operation::{Ingestion, ReadOperation};
use super::ratio::ratio_of;
use super::turns::Samples;
use crate::database::StoreInfo;
use crate::measure::{Machine, Percentiles, Ratio};
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
    /// The maximum number of executions of each kind of query.
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
    /// The settings of the server that affect measurements, by name.
    pub settings: BTreeMap<String, String>,
}

/// The groups of operations in tables and charts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// The ratio of the median to that of the first backend; `None` for the first backend, or if it does not support
    /// the operation.
    pub ratio: Option<Ratio>,
    /// The latencies of the executions.
    #[serde(flatten)]
    pub times: Percentiles,
}

impl Results {
    /// The version of the format that this version of Broadside reads and writes.
    pub const FORMAT: u32 = 3;
}

impl BackendResult {
    pub(super) fn new(name: &str, info: StoreInfo, jobs: u64) -> Self {
        let bytes_per_job = info.bytes.filter(|_| jobs > 0).map(|bytes| bytes as f64 / jobs as f64);
        let StoreInfo { version, bytes, settings, .. } = info;
        Self { name: name.to_owned(), version, bytes, bytes_per_job, settings }
    }
}

impl OperationResult {
    /// The result of an ingestion, given the samples of each target, of which some may be empty.
    pub(super) fn of_ingestion(ingestion: Ingestion, samples: &[Samples]) -> Self {
        let measurements = samples.iter().map(|of| {
            let seconds = of.total.as_secs_f64();
            let rows_per_second = (seconds > 0.0).then(|| of.rows as f64 / seconds);
            Some(Measurement { rows_per_second, ..Measurement::new(of, &samples[0])? })
        });
        let group = OperationGroup::Ingestion;
        Self { name: ingestion.to_string(), group, measurements: measurements.collect() }
    }

    /// The result of reads, given the samples of each target, of which some may be empty.
    pub(super) fn of_reads(operation: ReadOperation, samples: &[Samples]) -> Self {
        let group = match operation.kind() {
            QueryKind::Page(_) => OperationGroup::Pages,
            QueryKind::Groups { .. } => OperationGroup::Groups,
            QueryKind::Record(_) => OperationGroup::Records,
        };
        let measurements = samples
            .iter()
            .map(|of| Some(Measurement { rows: Some(of.max_rows), ..Measurement::new(of, &samples[0])? }));
        Self { name: operation.to_string(), group, measurements: measurements.collect() }
    }

    /// The ratio of a backend's median to that of the first backend; `None` for the first one.
    pub fn ratio(&self, backend: usize) -> Option<Ratio> {
        self.measurements.get(backend)?.as_ref()?.ratio
    }
}

impl Measurement {
    /// The times of a backend and their ratio to those of the first backend; `None` without an execution.
    fn new(samples: &Samples, first: &Samples) -> Option<Self> {
        let ratio = if std::ptr::eq(samples, first) { None } else { ratio_of(&first.turns, &samples.turns) };
        let times = samples.times();
        let runs = times.len() as u64;
        Some(Self { runs, rows: None, rows_per_second: None, ratio, times: Percentiles::of(times)? })
    }
}
