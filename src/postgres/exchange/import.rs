//! Import: the rows of a part are copied into temporary tables with the columns of the format, from which one statement
//! for each target table inserts them.

use std::collections::BTreeMap;
use std::error::Error as StdError;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use bytes::BytesMut;
use futures::future::try_join_all;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{IsNull, Json, ToSql, Type};

use super::{exists, sql_type, stored_column, stored_tables};
use crate::error::{BackendKind, Error, Operation, Result};
use crate::exchange::{Part, Table, check_values, schema, states};
use crate::ingest::{EARLIEST, END};
use crate::model::{StateSet, UNKNOWN};
use crate::postgres::catalog::{self, Found};
use crate::postgres::compression::{Compressed, Compression};
use crate::postgres::connection::Client;
use crate::postgres::error::Attempt;
use crate::postgres::ingest::NESTED_LOOPS;
use crate::postgres::layout::Layout;
use crate::postgres::marker::{self, Lock};
use crate::postgres::row::PgTimestamp;
use crate::time::Timestamp;

/// The submission times of the jobs.
pub(in crate::postgres) fn submission_times(part: &Part) -> impl Iterator<Item = Timestamp> {
    let times = part.batch(Table::Job).column_by_name("submitted").into_iter();
    times
        .flat_map(|times| times.as_primitive::<TimestampMicrosecondType>().values())
        .map(|&micros| Timestamp::from_micros(micros))
}

/// Checks what the server does not check.
pub(in crate::postgres) fn check(part: &Part, layout: Layout) -> Result<()> {
    check_values(part, |_| true).map_err(|error| error.with_backend(BackendKind::Postgres))?;
    let odd = submission_times(part).position(|time| !(EARLIEST..END).contains(&time));
    match odd {
        Some(row) if layout == Layout::PartitionBySubmitted => {
            let id = part.batch(Table::Job).column(0).as_string::<i32>().value(row);
            let message = format!("job {id:?}: there is no partition for a time outside 1900-01-01..2299-12-31");
            Err(Error::invalid(Operation::Import, message).with_backend(BackendKind::Postgres))
        }
        _ => Ok(()),
    }
}

/// Inserts the rows of a part.
pub(in crate::postgres) async fn import(
    client: Client,
    schema: &str,
    layout: Layout,
    collation: &str,
    compression: Compression,
    part: &Part,
) -> Attempt<()> {
    let lock = match layout {
        Layout::Lookout | Layout::PartitionBySubmitted => Lock::Layout,
        // No constraint prevents an id from being in both tables, so other inserts must wait.
        Layout::HotColdSplit => Lock::Writes,
    };
    marker::guard(&client, layout, lock).await?;
    let found = catalog::inspect(&client, schema).await?;
    // In the order in which batches write, so that both cannot deadlock.
    let tables = [Table::JobSpec, Table::JobError, Table::JobRun, Table::Job];
    let tables: Vec<_> = tables.into_iter().filter(|&table| part.batch(table).num_rows() > 0).collect();
    try_join_all(tables.iter().map(|&table| copy(&client, table, part, collation, compression))).await?;
    let inserts: String = tables.iter().map(|&table| insert(&found, layout, table)).collect();
    Ok(client.batch_execute(&inserts).await?)
}

/// Copies the rows of a table into a temporary one.
async fn copy(client: &Client, table: Table, part: &Part, collation: &str, compression: Compression) -> Attempt<()> {
    let (name, columns) = (table.name(), definitions(table, collation));
    client
        .batch_execute(&format!("CREATE TEMPORARY TABLE broadside_imported_{name} ({columns}) ON COMMIT DROP"))
        .await?;
    let copy = format!("COPY pg_temp.broadside_imported_{name} FROM STDIN (FORMAT binary)");
    let types: Vec<_> = schema(table).fields().iter().map(|field| wire_type(field.data_type())).collect();
    let mut writer = Box::pin(BinaryCopyInWriter::new(client.copy_in(&copy).await?, &types));
    let batch = part.batch(table);
    for row in 0..batch.num_rows() {
        let cells: Vec<_> = batch.columns().iter().map(|column| Cell { column, row, compression }).collect();
        let cells: Vec<_> = cells.iter().map(|cell| cell as &(dyn ToSql + Sync)).collect();
        writer.as_mut().write(&cells).await?;
    }
    writer.as_mut().finish().await?;
    Ok(())
}

/// The columns of a temporary table. Strings have the collation of the stored ids, because otherwise no index on ids
/// could be used.
fn definitions(table: Table, collation: &str) -> String {
    let definition = |(name, data_type): (&str, &DataType)| match sql_type(data_type) {
        "text" => format!("{name} text COLLATE {collation}"),
        other => format!("{name} {other}"),
    };
    let fields = schema(table);
    let columns = fields.fields().iter().map(|field| definition((field.name(), field.data_type())));
    columns.collect::<Vec<_>>().join(", ")
}

fn wire_type(data_type: &DataType) -> Type {
    match data_type {
        DataType::Boolean => Type::BOOL,
        DataType::Int32 => Type::INT4,
        DataType::Int64 => Type::INT8,
        DataType::Timestamp(..) => Type::TIMESTAMP,
        DataType::Binary => Type::BYTEA,
        DataType::Map(..) => Type::JSONB,
        _ => Type::TEXT,
    }
}

/// A value of an array.
#[derive(Debug)]
struct Cell<'a> {
    column: &'a ArrayRef,
    row: usize,
    compression: Compression,
}

impl ToSql for Cell<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        let Self { column, row, compression } = *self;
        if column.is_null(row) {
            return Ok(IsNull::Yes);
        }
        match column.data_type() {
            DataType::Boolean => column.as_boolean().value(row).to_sql(kind, out),
            DataType::Int32 => column.as_primitive::<Int32Type>().value(row).to_sql(kind, out),
            DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_sql(kind, out),
            DataType::Timestamp(..) => {
                let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
                PgTimestamp(Timestamp::from_micros(micros)).to_sql(kind, out)
            }
            DataType::Binary => Compressed(column.as_binary::<i32>().value(row), compression).to_sql(kind, out),
            DataType::Map(..) => {
                let entries = column.as_map().value(row);
                let texts = |at: usize| entries.column(at).as_string::<i32>().iter();
                let pairs = texts(0).flatten().zip(texts(1));
                Json(pairs.collect::<BTreeMap<&str, Option<&str>>>()).to_sql(kind, out)
            }
            _ => column.as_string::<i32>().value(row).to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

/// The statement that inserts the rows of a temporary table whose ids do not exist, in order of ids, so that concurrent
/// imports cannot deadlock.
fn insert(found: &Found, layout: Layout, table: Table) -> String {
    let fields = schema(table);
    let known = fields.fields().iter().map(|field| field.name().as_str());
    let known: Vec<_> = known.filter(|column| exists(found, layout, table, column)).collect();
    let mut columns = known.iter().map(|column| stored_column(table, column)).collect::<Vec<_>>().join(", ");
    let mut values = known.iter().map(|column| value(table, column)).collect::<Vec<_>>().join(", ");
    if table == Table::Job {
        columns.push_str(", last_transition_time_seconds");
        values.push_str(", ");
        values.push_str(TRANSITION_SECONDS);
    }
    let id = fields.field(0).name();
    let source = format!("SELECT {values} FROM pg_temp.broadside_imported_{} AS i", table.name());
    let into = |target: &str, condition: &str| {
        format!("INSERT INTO {target} ({columns}) {source} {condition} ORDER BY i.{id} ON CONFLICT DO NOTHING;")
    };
    match (table, layout) {
        (Table::Job, Layout::HotColdSplit) => {
            let is_active = format!("({}) IN ({})", value(table, "state"), StateSet::ACTIVE.ordinals());
            let without = |other: &str| format!("NOT EXISTS (SELECT FROM {other} AS o WHERE o.job_id = i.job_id)");
            let active = into("job", &format!("WHERE {is_active} AND {}", without("job_historical")));
            let ended = into("job_historical", &format!("WHERE NOT {is_active} AND {}", without("job")));
            format!("{NESTED_LOOPS}{active}{ended}")
        }
        (Table::Job, Layout::PartitionBySubmitted) => format!(
            "WITH fresh AS (
                INSERT INTO job_key (job_id, submitted)
                SELECT job_id, submitted FROM pg_temp.broadside_imported_job ORDER BY job_id
                ON CONFLICT DO NOTHING
                RETURNING job_id
            )
            INSERT INTO job ({columns}) {source} JOIN fresh ON fresh.job_id = i.job_id;"
        ),
        _ => into(stored_tables(table, layout)[0], ""),
    }
}

/// The whole seconds of the last transition. Those of an infinity are those of the first or last finite time.
const TRANSITION_SECONDS: &str = "extract(epoch FROM date_trunc('second', \
    least(greatest(i.last_transition_time, timestamp '4713-01-01 BC'), timestamp '294276-12-31')))";

/// The value of a column of Lookout's table.
fn value(table: Table, column: &str) -> String {
    match column {
        "state" => {
            let ordinals: String =
                states(table).iter().map(|(ordinal, name)| format!("WHEN '{name}' THEN {ordinal} ")).collect();
            format!("CASE i.state {ordinals}ELSE substr(i.state, {})::smallint END", UNKNOWN.len() + 1)
        }
        // Lookout cannot read a group without a namespace.
        "namespace" => "coalesce(i.namespace, '')".to_owned(),
        "ingress_addresses" | "scheduler_termination_reason" => format!("i.{column}::jsonb"),
        _ => format!("i.{column}"),
    }
}
