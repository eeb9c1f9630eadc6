//! Export: parts of a snapshot by ranges of job ids.

use std::future::ready;
use std::mem::replace;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Int32Array, Int64Array, MapArray, MapBuilder, RecordBatch, StringArray,
    StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::spawn_blocking;
use tokio_postgres::types::FromSql;
use tokio_postgres::{Error as DriverError, Row};

use super::{exists, sql_type, stored_column, stored_tables};
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::exchange::{Part, Parts, Table, next_rows, schema, states};
use crate::model::{StateSet, UNKNOWN};
use crate::odd_values::OddValues;
use crate::postgres::catalog::{self, Found};
use crate::postgres::compression::decompress;
use crate::postgres::connection::{Client, Connections};
use crate::postgres::error::{Attempt, Failure};
use crate::postgres::layout::Layout;
use crate::postgres::row::{PgTimestamp, annotations};

/// The maximum number of jobs, and of runs, specs and errors that precede the last job of a part.
const MAX_ROWS: usize = 4096;
/// The number of parts that are converted while the next one is read.
const CONVERTED_AT_ONCE: usize = 2;

/// Reads the parts after a job id.
pub(in crate::postgres) async fn export(
    connections: &Connections,
    layout: Layout,
    after: Option<&str>,
) -> Result<Parts<'static>> {
    let open = |client: Client| async move {
        let found = catalog::inspect(&client, connections.schema()).await?;
        found.check(layout)?;
        // Fails if the tables do not exist.
        client.prepare(&bound(layout)).await?;
        Ok(Table::ALL.map(|table| select(&found, layout, table)))
    };
    let (client, selects) = connections.snapshot(Operation::Export, open).await?;
    if after.is_some_and(|after| after.contains('\0')) {
        let message = "a position is a job id, which contains no NUL";
        return Err(Error::invalid(Operation::Export, message).with_backend(BackendKind::Postgres));
    }
    let start = Position { after: after.map(str::to_owned), rows: MAX_ROWS };
    let reader = Arc::new(Reader { client, bound: bound(layout), selects });
    let odd = Arc::new(OddValues::default());
    let read = stream::try_unfold(start, move |position| Arc::clone(&reader).read(position));
    let convert = move |(rows, end): (Vec<Vec<Row>>, String)| {
        let odd = Arc::clone(&odd);
        async move {
            let converted = spawn_blocking(move || part(rows, end, &odd)).await;
            converted.unwrap_or_else(|panic| Err(failed("the conversion of a part failed").with_source(panic)))
        }
    };
    let parts = read.map_err(|failure| failure.into_error(Operation::Export.into())).map_ok(convert);
    let until_error = |has_failed: &mut bool, part: Result<Part>| {
        ready(if replace(has_failed, part.is_err()) { None } else { Some(part) })
    };
    Ok(parts.try_buffered(CONVERTED_AT_ONCE).scan(false, until_error).boxed())
}

fn failed(message: &str) -> Error {
    Error::new(ErrorKind::Backend, Operation::Export, message).with_backend(BackendKind::Postgres)
}

/// The start of a part.
struct Position {
    /// The last job id of the previous part.
    after: Option<String>,
    /// The number of rows of the part.
    rows: usize,
}

/// The statements that read a part, and the session with the snapshot.
struct Reader {
    client: Client,
    bound: String,
    selects: [String; 4],
}

impl Reader {
    /// The rows of the tables of a part with its last job id, and the start of the next part; `None` after the last one.
    async fn read(self: Arc<Self>, position: Position) -> Attempt<Option<((Vec<Vec<Row>>, String), Position)>> {
        let Position { after, rows } = position;
        let bound = self.client.prepare(&self.bound).await?;
        let Some(end) =
            self.client.query_one(&bound, &[&after, &(rows as i64)]).await?.try_get::<_, Option<String>>(0)?
        else {
            return Ok(None);
        };
        let (after, end) = (&after, &end);
        let tables = self.selects.iter().map(async |select| {
            let select = self.client.prepare(select).await?;
            Ok::<_, Failure>(self.client.query(&select, &[after, end]).await?)
        });
        let tables = try_join_all(tables).await?;
        let bytes: usize = tables.iter().flatten().map(Row::raw_size_bytes).sum();
        let next = Position { after: Some(end.clone()), rows: next_rows(rows, bytes, MAX_ROWS) };
        Ok(Some(((tables, end.clone()), next)))
    }
}

/// The condition that a row is in a part.
const IN_PART: &str = "($1::text IS NULL OR job_id > $1) AND job_id <= $2";

/// The statement that returns the last job id of a part: the first one that has the given number of rows in some table,
/// or else the last one of all tables. The comparisons have the collation of the column, as has the order of its index.
fn bound(layout: Layout) -> String {
    let stored: Vec<_> = Table::ALL.iter().flat_map(|&table| stored_tables(table, layout)).collect();
    let later = "($1::text IS NULL OR job_id > $1)";
    let of_all =
        |of_one: &dyn Fn(&str) -> String| stored.iter().map(|stored| of_one(stored)).collect::<Vec<_>>().join(", ");
    let full = of_all(&|stored| {
        format!("(SELECT job_id FROM {stored} WHERE {later} ORDER BY job_id OFFSET $2::bigint - 1 LIMIT 1)")
    });
    let last = of_all(&|stored| format!("(SELECT max(job_id) FROM {stored} WHERE {later})"));
    format!("SELECT coalesce(least({full}), greatest({last}))::text")
}

/// The statement that reads the rows of a part with the columns of the format.
fn select(found: &Found, layout: Layout, table: Table) -> String {
    let columns: Vec<_> = schema(table).fields().iter().map(|field| value(found, layout, table, field)).collect();
    let columns = columns.join(", ");
    let jobs = stored_tables(Table::Job, layout);
    match table {
        Table::Job => {
            let fields = schema(table);
            let known = fields.fields().iter().filter(|field| exists(found, layout, table, field.name()));
            let stored = known.map(|field| stored_column(table, field.name())).collect::<Vec<_>>().join(", ");
            let rows = union(jobs.iter().map(|job| format!("SELECT {stored} FROM {job} WHERE {IN_PART}")));
            if jobs.iter().all(|job| found.is_key(job, "job_id")) && jobs.len() == 1 {
                return format!("SELECT {columns} FROM ({rows}) AS j ORDER BY j.job_id");
            }
            // Lookout's conversion to a partitioned table may have duplicated a job.
            format!(
                "SELECT DISTINCT ON (j.job_id) {columns} FROM ({rows}) AS j
                ORDER BY j.job_id, j.state IN ({}), j.last_transition_time DESC",
                StateSet::ACTIVE.ordinals()
            )
        }
        Table::JobRun => {
            format!("SELECT {columns} FROM job_run AS r WHERE {IN_PART} ORDER BY r.job_id, r.run_id")
        }
        // Before Lookout's migration 013, specs were stored in `job`.
        Table::JobSpec => {
            let of_table = format!("SELECT job_id, job_spec FROM job_spec WHERE {IN_PART}");
            let of_jobs = jobs.iter().filter(|job| found.has(job, "job_spec")).map(|job| {
                format!(
                    "(SELECT DISTINCT job_id, job_spec FROM {job} AS j WHERE {IN_PART} AND job_spec IS NOT NULL
                    AND NOT EXISTS (SELECT FROM job_spec AS s WHERE s.job_id = j.job_id))"
                )
            });
            let rows = union([of_table].into_iter().chain(of_jobs));
            // Not sorted here, because a sort of long values uses temporary files.
            format!("SELECT {columns} FROM ({rows}) AS s WHERE octet_length(job_spec) > 0")
        }
        Table::JobError => {
            format!("SELECT {columns} FROM job_error WHERE {IN_PART} AND octet_length(error) > 0")
        }
    }
}

fn union(selects: impl Iterator<Item = String>) -> String {
    selects.collect::<Vec<_>>().join(" UNION ALL ")
}

/// The value of a column of the format.
fn value(found: &Found, layout: Layout, table: Table, field: &Field) -> String {
    let stored = stored_column(table, field.name());
    let value = match field.name().as_str() {
        column if !exists(found, layout, table, column) => "NULL".to_owned(),
        "state" => {
            let names: String =
                states(table).iter().map(|(ordinal, name)| format!("WHEN {ordinal} THEN '{name}' ")).collect();
            format!("CASE {stored} {names}ELSE '{UNKNOWN}' || {stored} END")
        }
        // No bytes are no value, unlike the stream of an empty one.
        "error" | "debug" if table == Table::JobRun => format!("NULLIF({stored}, '')"),
        _ => stored.to_owned(),
    };
    format!("({value})::{}", sql_type(field.data_type()))
}

/// The part of rows.
fn part(mut tables: Vec<Vec<Row>>, end: String, odd: &OddValues) -> Result<Part> {
    for table in [Table::JobSpec, Table::JobError] {
        let id = |row: &Row| row.try_get::<_, &str>(0).map(str::to_owned).unwrap_or_default();
        tables[table as usize].sort_by_cached_key(id);
    }
    let mut batches = Table::ALL.map(|table| RecordBatch::new_empty(schema(table)));
    for ((table, rows), batch) in Table::ALL.into_iter().zip(&tables).zip(&mut batches) {
        let fields = schema(table);
        let columns = fields.fields().iter().enumerate().map(|(at, field)| column(field.data_type(), rows, at, odd));
        let columns: Attempt<Vec<_>> = columns.collect();
        let columns = columns.map_err(|failure| failure.into_error(Operation::Export.into()))?;
        *batch = RecordBatch::try_new(fields, columns)
            .map_err(|error| failed("a row is not one of Lookout's").with_source(error))?;
    }
    Part::new(batches, end)
}

fn column(data_type: &DataType, rows: &[Row], at: usize, odd: &OddValues) -> Attempt<ArrayRef> {
    Ok(match data_type {
        DataType::Boolean => Arc::new(values::<bool>(rows, at).collect::<Result<BooleanArray, _>>()?),
        DataType::Int32 => Arc::new(values::<i32>(rows, at).collect::<Result<Int32Array, _>>()?),
        DataType::Int64 => Arc::new(values::<i64>(rows, at).collect::<Result<Int64Array, _>>()?),
        DataType::Timestamp(..) => {
            let times = values::<PgTimestamp>(rows, at);
            let micros = times.map(|time| Ok::<_, DriverError>(time?.map(|time| time.0.as_micros())));
            Arc::new(micros.collect::<Result<TimestampMicrosecondArray, _>>()?)
        }
        DataType::Binary => {
            let mut left = i32::MAX as usize;
            let unpacked = values::<&[u8]>(rows, at).map(|stored| {
                let value = stored?.map(|stored| decompress(stored.to_vec())).transpose()?;
                let length = value.as_ref().map_or(0, Vec::len);
                left = left.checked_sub(length).ok_or(Failure::TooLong(i32::MAX as u64))?;
                Ok::<_, Failure>(value)
            });
            Arc::new(unpacked.collect::<Attempt<BinaryArray>>()?)
        }
        DataType::Map(..) => Arc::new(maps(rows, at, odd)?),
        _ => Arc::new(values::<&str>(rows, at).collect::<Result<StringArray, _>>()?),
    })
}

fn values<'r, T: FromSql<'r>>(rows: &'r [Row], at: usize) -> impl Iterator<Item = Result<Option<T>, DriverError>> {
    rows.iter().map(move |row| row.try_get(at))
}

fn maps(rows: &[Row], at: usize, odd: &OddValues) -> Attempt<MapArray> {
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in rows {
        for (key, value) in annotations(row, at, odd)?.iter() {
            maps.keys().append_value(key);
            maps.values().append_value(value);
        }
        // Fails only if the numbers of keys and values differ.
        maps.append(true).ok();
    }
    Ok(maps.finish())
}
