//! The tables as SQL sees them: schemas, and rows as Arrow columns.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, Int64Array, MapBuilder, PrimitiveArray,
    StringArray, StringBuilder, TimestampMicrosecondArray, UInt32Array,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::internal_err;
use datafusion::error::Result as EngineResult;
use smol_str::SmolStr;

use super::storage::{Arena, Chunk, Dictionary, JobChunk, JobId, LatestRun, RunChunk, RunId, Tables};
use crate::model::RunState;

/// The zone of all times.
const UTC: &str = "+00:00";

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    let field = |(name, data_type, nullable): &(&str, DataType, bool)| Field::new(*name, data_type.clone(), *nullable);
    Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
}

/// The table `job`. Cluster, node and pool are those of the latest run.
pub(super) static JOB_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let fixed = schema(&[
        ("job_id", DataType::Utf8, false),
        ("queue", DataType::Utf8, false),
        ("job_set", DataType::Utf8, false),
        ("owner", DataType::Utf8, false),
        ("namespace", DataType::Utf8, true),
        ("priority_class", DataType::Utf8, true),
        ("cpu", DataType::Int64, false),
        ("memory", DataType::Int64, false),
        ("ephemeral_storage", DataType::Int64, false),
        ("gpu", DataType::Int64, false),
        ("priority", DataType::Int64, false),
        ("submitted", time_type(), false),
        ("cancelled", time_type(), true),
        ("state", DataType::Utf8, false),
        ("last_transition_time", time_type(), false),
        ("latest_run_id", DataType::Utf8, true),
        ("duplicate", DataType::Boolean, false),
        ("cancel_reason", DataType::Utf8, true),
        ("cancel_user", DataType::Utf8, true),
        ("cluster", DataType::Utf8, true),
        ("node", DataType::Utf8, true),
        ("pool", DataType::Utf8, true),
    ]);
    let annotations = Field::new("annotations", annotation_builder().finish().data_type().clone(), false);
    let fields = fixed.fields().iter().map(|field| field.as_ref().clone()).chain([annotations]);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
});

/// The table `job_run`.
pub(super) static RUN_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("run_id", DataType::Utf8, false),
        ("job_id", DataType::Utf8, false),
        ("cluster", DataType::Utf8, false),
        ("node", DataType::Utf8, true),
        ("pool", DataType::Utf8, true),
        ("leased", time_type(), true),
        ("pending", time_type(), true),
        ("started", time_type(), true),
        ("finished", time_type(), true),
        ("state", DataType::Utf8, false),
        ("exit_code", DataType::Int32, true),
        ("error", DataType::Utf8, true),
        ("debug", DataType::Utf8, true),
    ])
});

/// The table `job_spec`: the encoded `api.Job` of each job that has one, whether the job exists or not.
pub(super) static SPEC_SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| schema(&[("job_id", DataType::Utf8, false), ("spec", DataType::Binary, false)]));

/// The table `job_error`.
pub(super) static ERROR_SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| schema(&[("job_id", DataType::Utf8, false), ("error", DataType::Utf8, false)]));

fn annotation_builder() -> MapBuilder<StringBuilder, StringBuilder> {
    MapBuilder::new(None, StringBuilder::new(), StringBuilder::new())
}

/// A column of the table `job`, for some rows.
pub(super) fn job_column(tables: &Tables, name: &str, rows: &[u32]) -> EngineResult<ArrayRef> {
    let jobs = JobCells { tables, rows };
    let texts = &tables.dictionaries;
    Ok(match name {
        "job_id" => Arc::new(StringArray::from_iter_values(rows.iter().map(|&row| tables.jobs.id(row)).map(Text))),
        "queue" => jobs.texts(&texts.queues, JobChunk::queue),
        "job_set" => jobs.texts(&texts.job_sets, JobChunk::job_set),
        "owner" => jobs.texts(&texts.owners, JobChunk::owner),
        "namespace" => jobs.texts(&texts.namespaces, JobChunk::namespace),
        "priority_class" => jobs.texts(&texts.priority_classes, JobChunk::priority_class),
        "cpu" => jobs.integers(JobChunk::cpu),
        "memory" => jobs.integers(JobChunk::memory),
        "ephemeral_storage" => jobs.integers(JobChunk::ephemeral_storage),
        "gpu" => jobs.integers(JobChunk::gpu),
        "priority" => jobs.integers(JobChunk::priority),
        "submitted" => times(jobs.cells(JobChunk::submitted)),
        "cancelled" => times(jobs.cells(JobChunk::cancelled)),
        "state" => Arc::new(StringArray::from_iter_values(rows.iter().map(|&row| tables.jobs.state(row).name()))),
        "last_transition_time" => times(jobs.cells(JobChunk::last_transition_time)),
        "latest_run_id" => {
            let id = |latest| latest_run_id(tables, LatestRun::unpack(latest));
            Arc::new(jobs.cells(JobChunk::latest_run).map(|latest| latest.map(id)).collect::<StringArray>())
        }
        "duplicate" => Arc::new(BooleanArray::from(vec![false; rows.len()])),
        "cancel_reason" => jobs.texts(&texts.cancel_reasons, JobChunk::cancel_reason),
        "cancel_user" => jobs.texts(&texts.cancel_users, JobChunk::cancel_user),
        "cluster" => jobs.texts(&texts.clusters, JobChunk::cluster),
        "node" => jobs.texts(&texts.nodes, JobChunk::node),
        "pool" => jobs.texts(&texts.pools, JobChunk::pool),
        "annotations" => annotations(tables, rows)?,
        other => return internal_err!("the table of jobs has no column {other:?}"),
    })
}

/// Cells of a column of jobs.
struct JobCells<'a> {
    tables: &'a Tables,
    rows: &'a [u32],
}

impl<'a> JobCells<'a> {
    fn cells<T: ArrowPrimitiveType>(
        &self,
        column: impl Fn(&'a JobChunk) -> &'a PrimitiveArray<T> + 'a,
    ) -> impl Iterator<Item = Option<T::Native>> + 'a {
        let tables = self.tables;
        self.rows.iter().map(move |&row| {
            let (chunk, at) = tables.jobs.locate(row);
            let column = column(chunk);
            column.is_valid(at).then(|| column.value(at))
        })
    }

    fn texts(&self, dictionary: &Dictionary, column: impl Fn(&'a JobChunk) -> &'a UInt32Array + 'a) -> ArrayRef {
        let text = |code: Option<u32>| code.map(|code| dictionary.text(code));
        Arc::new(self.cells(column).map(text).collect::<StringArray>())
    }

    fn integers(&self, column: impl Fn(&'a JobChunk) -> &'a Int64Array + 'a) -> ArrayRef {
        Arc::new(self.cells(column).collect::<Int64Array>())
    }
}

/// The id of a latest run.
fn latest_run_id(tables: &Tables, latest: LatestRun) -> String {
    match latest {
        LatestRun::Run(run) => tables.runs.id(run).as_str().into(),
        LatestRun::Dangling(place) => tables.records.dangling_runs.get(place).as_str().into(),
    }
}

/// The annotations of a job, by key.
fn annotations_of(tables: &Tables, row: u32) -> impl Iterator<Item = (&SmolStr, &SmolStr)> {
    let (chunk, at) = tables.jobs.locate(row);
    let catalog = &tables.dictionaries.annotations;
    catalog.shape(chunk.shape().value(at)).iter().filter_map(move |&key| {
        Some((catalog.keys.text(key), catalog.values(key).text(chunk.annotations.get(key, at)?)))
    })
}

fn annotations(tables: &Tables, rows: &[u32]) -> EngineResult<ArrayRef> {
    let mut builder = annotation_builder();
    for &row in rows {
        for (key, value) in annotations_of(tables, row) {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        builder.append(true)?;
    }
    Ok(Arc::new(builder.finish()))
}

/// A column of the table `job_run`, for a whole chunk.
pub(super) fn run_column(tables: &Tables, name: &str, chunk: &RunChunk) -> EngineResult<ArrayRef> {
    let texts = |dictionary: &Dictionary, column: &UInt32Array| -> ArrayRef {
        Arc::new(column.iter().map(|code| code.map(|code| dictionary.text(code))).collect::<StringArray>())
    };
    let dictionaries = &tables.dictionaries;
    let rows = 0..chunk.batch().num_rows();
    Ok(match name {
        "run_id" => Arc::new(StringArray::from_iter_values(rows.map(|at| Text(RunId::at(chunk.run_id(), at))))),
        "job_id" => Arc::new(StringArray::from_iter_values(rows.map(|at| Text(JobId::at(chunk.job_id(), at))))),
        "cluster" => texts(&dictionaries.clusters, chunk.cluster()),
        "node" => texts(&dictionaries.nodes, chunk.node()),
        "pool" => texts(&dictionaries.pools, chunk.pool()),
        "leased" => times(chunk.leased().iter()),
        "pending" => times(chunk.pending().iter()),
        "started" => times(chunk.started().iter()),
        "finished" => times(chunk.finished().iter()),
        "state" => {
            let name = |&ordinal: &u8| RunState::from_ordinal(ordinal).map(RunState::name);
            Arc::new(chunk.state().values().iter().map(name).collect::<StringArray>())
        }
        "exit_code" => Arc::new(chunk.exit_code().clone()),
        "error" => messages(&tables.records.run_messages, chunk.error()),
        "debug" => messages(&tables.records.run_messages, chunk.debug()),
        other => return internal_err!("the table of runs has no column {other:?}"),
    })
}

fn messages(messages: &Arena<Bytes>, places: &UInt32Array) -> ArrayRef {
    let text = |place| String::from_utf8_lossy(messages.get(place));
    Arc::new(places.iter().map(|place| place.map(text)).collect::<StringArray>())
}

fn times(micros: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone(UTC))
}

/// An id as the arrays of text take it.
pub(super) struct Text<const N: usize>(pub(super) super::storage::FixedId<N>);

impl<const N: usize> AsRef<str> for Text<N> {
    fn as_ref(&self) -> &str {
        self.0.as_str()
    }
}

/// A column of encoded specs.
pub(super) fn spec_column<'a>(values: impl Iterator<Item = &'a [u8]>) -> ArrayRef {
    Arc::new(BinaryArray::from_iter_values(values))
}
