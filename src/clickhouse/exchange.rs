//! Export and import of rows in the exchange format, which the server reads and writes itself.
//!
//! The tables have no columns for `duplicate`, which is exported as false, and for those columns of Lookout that no
//! query of this crate reads, which are exported as nulls. Their values are not imported.
//!
//! An export sends settings of the format, which a user with `readonly = 1` may not do.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt64Array, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use futures::future::try_join_all;
use futures::{StreamExt, stream};

use super::change::Change;
use super::connection::{Connection, INSERT_BYTES};
use super::layout::Layout;
use super::statement::{MAX_IDS, Statement, Values};
use super::tables::{columns, null_table};
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::exchange::{Part, Parts, Table, check_values, next_rows, schema, states};
use crate::ingest::{EARLIEST, END};
use crate::model::UNKNOWN;

/// Lower than every version of a batch: a late insert never replaces a row of a batch.
const VERSION: u64 = 1;

/// The maximum number of rows of a table that precede the last job of a part.
const MAX_ROWS: usize = 16_384;

/// The lease time of a run without one, since the column is not nullable: the last time before those of batches.
pub(super) const NO_LEASE: i64 = EARLIEST.as_micros() - 1;

/// The column of the stored table; `None` if it has none.
fn stored_column(table: Table, column: &str) -> Option<&str> {
    let stored = match (table, column) {
        (Table::JobSpec, "spec") | (Table::JobError, "error") => "value",
        (_, same) => same,
    };
    columns(table.name()).any(|known| known == stored).then_some(stored)
}

/// The fields of the format that the table has.
fn stored_fields(table: Table) -> Vec<Field> {
    let fields = schema(table);
    let stored = fields.fields().iter().filter(|field| stored_column(table, field.name()).is_some());
    stored.map(|field| field.as_ref().clone()).collect()
}

/// Reads the parts after a job id.
pub(super) fn export(connection: Connection, after: Option<&str>) -> Parts<'static> {
    let start = (after.map(str::to_owned), MAX_ROWS);
    stream::try_unfold(start, move |(after, rows)| {
        let connection = connection.clone();
        async move {
            let connection = &connection;
            let Some(end) = bound(connection, after.as_deref(), rows).await? else { return Ok(None) };
            let streams = Table::ALL.map(|table| {
                let statement = select(table, after.as_deref(), &end);
                async move { connection.fetch_arrow(Operation::Export, &statement).await }
            });
            let streams = try_join_all(streams).await?;
            let bytes = streams.iter().map(Bytes::len).sum();
            Ok(Some((part(streams, &end)?, (Some(end), next_rows(rows, bytes, MAX_ROWS)))))
        }
    })
    .boxed()
}

/// The last job id of a part: the first one that has the given number of rows in some table, or else the last one of all
/// tables; `None` without later rows.
async fn bound(connection: &Connection, after: Option<&str>, rows: usize) -> Result<Option<String>> {
    let mut values = Values::default();
    let later = later(after, &mut values);
    let limit = values.count(rows as u64);
    let ends = Table::ALL.map(|table| {
        let ids = format!("SELECT job_id FROM {} WHERE {later} ORDER BY job_id LIMIT {limit}", table.name());
        format!("SELECT max(job_id) AS last, count() AS rows FROM ({ids})")
    });
    let statement = Statement { sql: ends.join(" UNION ALL "), values };
    let mut ends: Vec<(String, u64)> = connection.fetch(Operation::Export, &statement).await?;
    ends.retain(|(_, count)| *count > 0);
    let full = ends.iter().filter(|(_, count)| *count >= rows as u64).map(|(id, _)| id).min();
    Ok(full.or(ends.iter().map(|(id, _)| id).max()).cloned())
}

fn later(after: Option<&str>, values: &mut Values) -> String {
    after.map_or_else(|| "true".to_owned(), |after| format!("job_id > {}", values.text(after)))
}

/// The part of the streams of the tables.
fn part(streams: Vec<Bytes>, end: &str) -> Result<Part> {
    let mut batches = Table::ALL.map(|table| RecordBatch::new_empty(schema(table)));
    for ((table, stream), batch) in Table::ALL.into_iter().zip(streams).zip(&mut batches) {
        *batch = from_stream(table, stream)
            .map_err(|error| failed(Operation::Export, "the server sent other rows", error))?;
    }
    Part::new(batches, end)
}

/// The statement that reads the newest version of each row.
fn select(table: Table, after: Option<&str>, end: &str) -> Statement {
    let mut values = Values::default();
    let (name, stored) = (table.name(), stored_fields(table));
    let shown: Vec<_> = stored.iter().map(|field| format!("{} AS {}", value(table, field), field.name())).collect();
    let key = if table == Table::JobRun { "job_id, run_id" } else { "job_id" };
    let later = later(after, &mut values);
    let end = values.text(end);
    // Ingestion writes no empty values, and an empty value cannot be read.
    let is_present = if matches!(table, Table::JobSpec | Table::JobError) { " WHERE value != ''" } else { "" };
    let sql = format!(
        "SELECT {} FROM (SELECT * FROM {name} WHERE {later} AND job_id <= {end} ORDER BY {key}, version DESC LIMIT 1 BY {key}){is_present} ORDER BY {key}",
        shown.join(", ")
    );
    Statement { sql, values }
}

/// The value of a column of the format. Empty strings are absent ones.
fn value(table: Table, field: &Field) -> String {
    let stored = stored_column(table, field.name()).unwrap_or_default();
    match (stored, field.data_type()) {
        ("state", _) => {
            let (ordinals, names): (Vec<_>, Vec<_>) =
                states(table).into_iter().map(|(ordinal, name)| (ordinal.to_string(), format!("'{name}'"))).unzip();
            format!(
                "transform(toInt16(state), [{}], [{}], concat('{UNKNOWN}', toString(toInt16(state))))",
                ordinals.join(", "),
                names.join(", ")
            )
        }
        ("leased", _) => format!("if(toUnixTimestamp64Micro(leased) > {NO_LEASE}, leased, NULL)"),
        (_, DataType::Utf8 | DataType::Binary) if field.is_nullable() => format!("nullIf(toString({stored}), '')"),
        (_, DataType::Utf8 | DataType::Binary) => format!("toString({stored})"),
        _ => stored.to_owned(),
    }
}

/// The rows of a stream of the server, with the schema of the format.
fn from_stream(table: Table, bytes: Bytes) -> std::result::Result<RecordBatch, ArrowError> {
    let reader = StreamReader::try_new(bytes.as_ref(), None)?;
    let read = reader.schema();
    let batches = reader.collect::<std::result::Result<Vec<_>, _>>()?;
    let rows = concat_batches(&read, &batches)?;
    let strictly = CastOptions { safe: false, ..CastOptions::default() };
    let fields = schema(table);
    let columns = fields.fields().iter().map(|field| match (rows.column_by_name(field.name()), field.data_type()) {
        (Some(column), data_type) => cast_with_options(column, data_type, &strictly),
        (None, DataType::Boolean) => Ok(Arc::new(BooleanArray::from(vec![false; rows.num_rows()])) as ArrayRef),
        (None, data_type) => Ok(new_null_array(data_type, rows.num_rows())),
    });
    RecordBatch::try_new(Arc::clone(&fields), columns.collect::<std::result::Result<_, _>>()?)
}

fn failed(operation: Operation, message: &str, error: ArrowError) -> Error {
    Error::new(ErrorKind::Backend, operation, message).with_backend(BackendKind::ClickHouse).with_source(error)
}

/// Checks that the tables can have the ids and states of a part.
pub(super) fn check(part: &Part) -> Result<()> {
    check_values(part, |state| !state.starts_with(UNKNOWN)).map_err(|error| error.with_backend(BackendKind::ClickHouse))
}

/// Inserts the rows of a part whose ids do not exist. Jobs are last, so that a stored job has its runs, spec and error.
pub(super) async fn import(connection: &Connection, layout: Layout, part: &Part, token: Option<&str>) -> Result<()> {
    let mut change = Change::default();
    for table in [Table::JobSpec, Table::JobError, Table::JobRun, Table::Job] {
        let rows = part.batch(table);
        let known = change.read(known(connection, table, rows).await)?;
        let is_new = rows.column(0).as_string::<i32>().iter().map(|id| id.map(|id| !known.contains(id)));
        let converted = filter_record_batch(rows, &is_new.collect()).and_then(|rows| to_stored(table, &rows));
        let rows = converted.map_err(|error| failed(Operation::Import, "the rows cannot be converted", error))?;
        let target = match (layout, table) {
            (Layout::Patch, Table::Job | Table::JobRun) => null_table(table.name()),
            _ => table.name().to_owned(),
        };
        for (number, piece) in pieces(&rows).enumerate() {
            let names: Vec<_> = piece.schema_ref().fields().iter().map(|field| field.name().clone()).collect();
            let sql = format!("INSERT INTO {target} ({}) FORMAT ArrowStream", names.join(", "));
            let bytes =
                to_stream(&piece).map_err(|error| failed(Operation::Import, "the rows cannot be converted", error))?;
            let token = token.map(|token| format!("{token}-{number}"));
            change.write(connection.insert_bytes(Operation::Import, &sql, bytes, token.as_deref()).await)?;
        }
    }
    Ok(())
}

/// The ids of rows that exist.
async fn known(connection: &Connection, table: Table, rows: &RecordBatch) -> Result<HashSet<String>> {
    let ids: Vec<_> = rows.column(0).as_string::<i32>().iter().flatten().collect();
    let key = schema(table).field(0).name().clone();
    let mut known = HashSet::new();
    for ids in ids.chunks(MAX_IDS) {
        let mut values = Values::default();
        let ids = values.texts(ids);
        let sql = format!("SELECT {key} FROM {} WHERE {key} IN {ids}", table.name());
        known.extend(connection.fetch::<String>(Operation::Import, &Statement { sql, values }).await?);
    }
    Ok(known)
}

/// The rows with the columns of the stored table. The server stores nulls in columns that are not nullable as defaults.
fn to_stored(table: Table, rows: &RecordBatch) -> std::result::Result<RecordBatch, ArrowError> {
    let mut fields = vec![Field::new("version", DataType::UInt64, false)];
    let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(vec![VERSION; rows.num_rows()]))];
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        let Some(stored) = stored_column(table, field.name()) else { continue };
        fields.push(field.as_ref().clone().with_name(stored));
        columns.push(match field.data_type() {
            DataType::Timestamp(..) => times(column, stored == "leased"),
            _ => Arc::clone(column),
        });
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Times within the limits of the column.
fn times(column: &ArrayRef, is_lease: bool) -> ArrayRef {
    let (first, last) = (EARLIEST.as_micros(), END.as_micros() - 1);
    let times = column.as_primitive::<TimestampMicrosecondType>().iter();
    let times = times.map(|time| time.map(|time| time.clamp(first, last)).or(is_lease.then_some(NO_LEASE)));
    Arc::new(times.collect::<TimestampMicrosecondArray>())
}

/// The rows of each insert.
fn pieces(rows: &RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let pieces = rows.get_array_memory_size().div_ceil(INSERT_BYTES).max(1);
    let length = rows.num_rows().div_ceil(pieces).max(1);
    let piece = move |start| rows.slice(start, length.min(rows.num_rows() - start));
    (0..rows.num_rows()).step_by(length).map(piece)
}

fn to_stream(rows: &RecordBatch) -> std::result::Result<Bytes, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), rows.schema_ref())?;
    writer.write(rows)?;
    writer.into_inner().map(Bytes::from)
}
