//! The tables as SQL sees them: schemas, and rows as Arrow columns.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Int32Array, Int64Array, MapBuilder, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::internal_err;
use datafusion::error::Result as EngineResult;

use super::row;
use super::storage::{Column, Dictionary, JobChunk, LatestRun, Message, NULL, RunChunk, Tables};
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
    Ok(match name {
        "job_id" => Arc::new(StringArray::from_iter_values(rows.iter().map(|&row| tables.jobs.id(row)).map(Text))),
        "queue" => jobs.texts(&tables.queues, |chunk| &chunk.queue),
        "job_set" => jobs.texts(&tables.job_sets, |chunk| &chunk.job_set),
        "owner" => jobs.texts(&tables.owners, |chunk| &chunk.owner),
        "namespace" => jobs.texts(&tables.namespaces, |chunk| &chunk.namespace),
        "priority_class" => jobs.texts(&tables.priority_classes, |chunk| &chunk.priority_class),
        "cpu" => jobs.integers(|chunk| &chunk.cpu),
        "memory" => jobs.integers(|chunk| &chunk.memory),
        "ephemeral_storage" => jobs.integers(|chunk| &chunk.ephemeral_storage),
        "gpu" => jobs.integers(|chunk| &chunk.gpu),
        "priority" => jobs.integers(|chunk| &chunk.priority),
        "submitted" => times(jobs.cells(|chunk| &chunk.submitted)),
        "cancelled" => times(jobs.cells(|chunk| &chunk.cancelled)),
        "state" => Arc::new(StringArray::from_iter_values(rows.iter().map(|&row| tables.state(row).name()))),
        "last_transition_time" => times(jobs.cells(|chunk| &chunk.last_transition)),
        "latest_run_id" => {
            let ids = jobs
                .cells(|chunk| &chunk.latest_run)
                .map(|latest| row::latest_run_id(tables, LatestRun::unpack(latest)));
            Arc::new(ids.collect::<StringArray>())
        }
        "duplicate" => Arc::new(BooleanArray::from(vec![false; rows.len()])),
        "cancel_reason" => jobs.texts(&tables.cancel_reasons, |chunk| &chunk.cancel_reason),
        "cancel_user" => jobs.texts(&tables.cancel_users, |chunk| &chunk.cancel_user),
        "cluster" => jobs.texts(&tables.clusters, |chunk| &chunk.cluster),
        "node" => jobs.texts(&tables.nodes, |chunk| &chunk.node),
        "pool" => jobs.texts(&tables.pools, |chunk| &chunk.pool),
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
    fn cells<T: Copy + 'a>(&self, column: impl Fn(&'a JobChunk) -> &'a Column<T> + 'a) -> impl Iterator<Item = T> + 'a {
        let tables = self.tables;
        self.rows.iter().map(move |&row| {
            let (chunk, at) = tables.jobs.locate(row);
            column(chunk).get(at)
        })
    }

    fn texts(&self, dictionary: &Dictionary, column: impl Fn(&'a JobChunk) -> &'a Column<u32> + 'a) -> ArrayRef {
        Arc::new(self.cells(column).map(|code| dictionary.optional_text(code)).collect::<StringArray>())
    }

    fn integers(&self, column: impl Fn(&'a JobChunk) -> &'a Column<i64> + 'a) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(self.cells(column)))
    }
}

fn annotations(tables: &Tables, rows: &[u32]) -> EngineResult<ArrayRef> {
    let mut builder = annotation_builder();
    for &row in rows {
        for (key, value) in row::annotations(tables, row).iter() {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        builder.append(true)?;
    }
    Ok(Arc::new(builder.finish()))
}

/// A column of the table `job_run`, for a whole chunk.
pub(super) fn run_column(tables: &Tables, name: &str, chunk: &RunChunk) -> EngineResult<ArrayRef> {
    let texts = |dictionary: &Dictionary, column: &Column<u32>| -> ArrayRef {
        Arc::new(column.as_slice().iter().map(|&code| dictionary.optional_text(code)).collect::<StringArray>())
    };
    Ok(match name {
        "run_id" => Arc::new(StringArray::from_iter_values(chunk.ids.as_slice().iter().copied().map(Text))),
        "job_id" => Arc::new(StringArray::from_iter_values(chunk.job_ids.as_slice().iter().copied().map(Text))),
        "cluster" => texts(&tables.clusters, &chunk.cluster),
        "node" => texts(&tables.nodes, &chunk.node),
        "pool" => texts(&tables.pools, &chunk.pool),
        "leased" => times(chunk.leased.as_slice().iter().copied()),
        "pending" => times(chunk.pending.as_slice().iter().copied()),
        "started" => times(chunk.started.as_slice().iter().copied()),
        "finished" => times(chunk.finished.as_slice().iter().copied()),
        "state" => {
            let name = |&ordinal: &u8| RunState::from_ordinal(ordinal).map(RunState::name);
            Arc::new(chunk.state.as_slice().iter().map(name).collect::<StringArray>())
        }
        "exit_code" => {
            Arc::new(chunk.exit_code.as_slice().iter().map(|&code| row::exit_code(code)).collect::<Int32Array>())
        }
        "error" => messages(&chunk.error),
        "debug" => messages(&chunk.debug),
        other => return internal_err!("the table of runs has no column {other:?}"),
    })
}

fn messages(column: &Column<Message>) -> ArrayRef {
    let text = |message: &Message| message.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    Arc::new(column.as_slice().iter().map(text).collect::<StringArray>())
}

fn times(micros: impl Iterator<Item = i64>) -> ArrayRef {
    let times = micros.map(|time| (time != NULL).then_some(time)).collect::<TimestampMicrosecondArray>();
    Arc::new(times.with_timezone(UTC))
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
