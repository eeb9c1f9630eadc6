//! The exchange format: the rows of a store as Arrow record batches.
//!
//! [`Database::export`](crate::Database::export) reads the rows of a store, and
//! [`Database::import`](crate::Database::import) adds them to another, of any backend. These are rows, not ingestion
//! queries: a requeued job, a run or spec without a job, and the columns of Lookout that no query of this crate reads
//! are copied as they are.
//!
//! There are four tables. [`schema`] has their columns, with the names and types of the tables of the memory engine's
//! SQL: times are UTC without a time zone, states are names, and specs, errors and debug messages are bytes,
//! uncompressed. A state that only a later version of Lookout has is `UNKNOWN_` with its ordinal.
//!
//! | table | rows |
//! |---|---|
//! | `job` | jobs, with their annotations and without the columns of the latest run |
//! | `job_run` | runs, with their errors and debug messages |
//! | `job_spec` | the encoded `api.Job` of jobs |
//! | `job_error` | errors of jobs |

mod anonymise;
mod census;
#[cfg(feature = "parquet")]
mod copy;
mod filter;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(any(feature = "postgres", feature = "clickhouse"))]
mod server;

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use futures::stream::BoxStream;

pub use self::anonymise::Anonymiser;
pub use self::census::{Census, Difference};
#[cfg(feature = "parquet")]
pub use self::copy::{Copied, CopyOptions, Endpoint, copy};
pub use self::filter::Filter;
#[cfg(feature = "parquet")]
pub use self::parquet::{ParquetFolder, ParquetWriter};
#[cfg(any(feature = "postgres", feature = "clickhouse"))]
pub(crate) use self::server::{check_values, next_rows, states};
use crate::error::{Error, ErrorKind, Operation, Result};

/// The version of the format, which every schema has as metadata with this key. A file of another version is refused.
pub const VERSION: (&str, &str) = ("broadside.version", "1");

/// A table of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// `job`
    Job,
    /// `job_run`
    JobRun,
    /// `job_spec`
    JobSpec,
    /// `job_error`
    JobError,
}

impl Table {
    /// All tables. A job precedes the rows that refer to it.
    pub const ALL: [Self; 4] = [Self::Job, Self::JobRun, Self::JobSpec, Self::JobError];

    /// The name of the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::JobRun => "job_run",
            Self::JobSpec => "job_spec",
            Self::JobError => "job_error",
        }
    }
}

const TEXT: DataType = DataType::Utf8;
const INTEGER: DataType = DataType::Int64;
const TIME: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// The columns of each table, with their types, and whether they are nullable.
fn columns(table: Table) -> Vec<(&'static str, DataType, bool)> {
    match table {
        Table::Job => vec![
            ("job_id", TEXT, false),
            ("queue", TEXT, false),
            ("job_set", TEXT, false),
            ("owner", TEXT, false),
            ("namespace", TEXT, true),
            ("priority_class", TEXT, true),
            ("cpu", INTEGER, false),
            ("memory", INTEGER, false),
            ("ephemeral_storage", INTEGER, false),
            ("gpu", INTEGER, false),
            ("priority", INTEGER, false),
            ("submitted", TIME, false),
            ("cancelled", TIME, true),
            ("state", TEXT, false),
            ("last_transition_time", TIME, false),
            ("latest_run_id", TEXT, true),
            ("cancel_reason", TEXT, true),
            ("cancel_user", TEXT, true),
            ("annotations", annotations_type(), false),
            ("duplicate", DataType::Boolean, false),
            ("external_job_uri", TEXT, true),
            ("preempt_user", TEXT, true),
            ("reprioritize_user", TEXT, true),
        ],
        Table::JobRun => vec![
            ("run_id", TEXT, false),
            ("job_id", TEXT, false),
            ("cluster", TEXT, false),
            ("node", TEXT, true),
            ("pool", TEXT, true),
            ("leased", TIME, true),
            ("pending", TIME, true),
            ("started", TIME, true),
            ("finished", TIME, true),
            ("state", TEXT, false),
            ("exit_code", DataType::Int32, true),
            ("error", DataType::Binary, true),
            ("debug", DataType::Binary, true),
            // JSON objects.
            ("ingress_addresses", TEXT, true),
            ("failure_category", TEXT, true),
            ("failure_subcategory", TEXT, true),
            ("scheduler_termination_reason", TEXT, true),
        ],
        Table::JobSpec => vec![("job_id", TEXT, false), ("spec", DataType::Binary, false)],
        Table::JobError => vec![("job_id", TEXT, false), ("error", DataType::Binary, false)],
    }
}

/// The entries of the annotations of a job.
fn annotation_entries() -> Fields {
    Fields::from(vec![Field::new("keys", TEXT, false), Field::new("values", TEXT, true)])
}

fn annotations_type() -> DataType {
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(annotation_entries()), false)), false)
}

static SCHEMAS: LazyLock<[SchemaRef; 4]> = LazyLock::new(|| {
    Table::ALL.map(|table| {
        let field = |(name, data_type, nullable)| Field::new(name, data_type, nullable);
        let fields: Vec<_> = columns(table).into_iter().map(field).collect();
        let (key, value) = VERSION;
        Arc::new(Schema::new(fields).with_metadata([(key.to_owned(), value.to_owned())].into()))
    })
});

/// The schema of a table.
///
/// ```
/// use broadside::exchange::{Table, schema};
///
/// assert_eq!(schema(Table::JobSpec).field(1).name(), "spec");
/// ```
pub fn schema(table: Table) -> SchemaRef {
    Arc::clone(&SCHEMAS[table as usize])
}

/// Rows of some jobs: the jobs with all their runs, specs and errors.
///
/// The last parts of an export also have the rows whose job does not exist.
#[derive(Debug, Clone)]
pub struct Part {
    batches: [RecordBatch; 4],
    /// The position of the export after this part. [`Database::export`](crate::Database::export) continues there. Its
    /// form depends on the backend.
    pub position: String,
}

impl Part {
    /// A part of the batches of [`Table::ALL`].
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a batch without the schema of its table.
    pub fn new(batches: [RecordBatch; 4], position: impl Into<String>) -> Result<Self> {
        for (table, batch) in Table::ALL.into_iter().zip(&batches) {
            if batch.schema_ref().fields() != schema(table).fields() {
                let message = format!("a batch does not have the schema of the table {}", table.name());
                return Err(Error::new(ErrorKind::InvalidArgument, Operation::Import, message));
            }
        }
        Ok(Self { batches, position: position.into() })
    }

    /// The rows of a table, with its [`schema`].
    pub fn batch(&self, table: Table) -> &RecordBatch {
        &self.batches[table as usize]
    }

    /// The number of rows of all tables.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The size of the rows, in bytes. Their buffers may be shared with other rows.
    pub fn bytes(&self) -> usize {
        let columns = self.batches.iter().flat_map(RecordBatch::columns);
        columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
    }
}

/// The parts of an export.
pub type Parts<'a> = BoxStream<'a, Result<Part>>;

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Int32Array, Int64Array, MapBuilder, MapFieldNames, StringArray,
        StringBuilder, TimestampMicrosecondArray,
    };

    use super::*;

    /// A part with a job, a run, a spec and an error of each number. Every value depends on the number.
    pub(super) fn part(numbers: Range<i64>) -> Part {
        let column = |field: &Field| -> ArrayRef {
            let text = |i: i64| match field.name().as_str() {
                "state" => ["QUEUED", "RUNNING", "UNKNOWN_13"][i as usize % 3].to_owned(),
                "queue" => format!("queue {}", i % 7),
                name => format!("{name} {i}"),
            };
            let numbers = numbers.clone();
            match field.data_type() {
                DataType::Utf8 => Arc::new(StringArray::from_iter_values(numbers.map(text))),
                DataType::Binary => {
                    Arc::new(BinaryArray::from_iter_values(numbers.map(|i| vec![b'x'; i as usize % 50 + 1])))
                }
                DataType::Boolean => Arc::new(numbers.map(|i| Some(i % 2 == 0)).collect::<BooleanArray>()),
                DataType::Int32 => Arc::new(Int32Array::from_iter_values(numbers.map(|i| i as i32))),
                DataType::Int64 => Arc::new(Int64Array::from_iter_values(numbers)),
                DataType::Timestamp(..) => Arc::new(TimestampMicrosecondArray::from_iter_values(numbers)),
                _ => annotations(numbers),
            }
        };
        let batch = |table| {
            let schema = schema(table);
            let columns = schema.fields().iter().map(|field| column(field)).collect();
            RecordBatch::try_new(schema, columns).unwrap()
        };
        Part::new(Table::ALL.map(batch), numbers.end.to_string()).unwrap()
    }

    fn annotations(numbers: Range<i64>) -> ArrayRef {
        let names = MapFieldNames { entry: "entries".into(), key: "keys".into(), value: "values".into() };
        let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
        for i in numbers {
            for key in 0..i % 3 {
                maps.keys().append_value(format!("key {key}"));
                maps.values().append_value(format!("value {i}"));
            }
            maps.append(true).unwrap();
        }
        Arc::new(maps.finish())
    }

    #[test]
    fn a_part_requires_the_schemas_of_its_tables() {
        let empty = |table| RecordBatch::new_empty(schema(table));
        assert!(Part::new(Table::ALL.map(empty), "").is_ok());
        let mut swapped = Table::ALL.map(empty);
        swapped.swap(0, 1);
        assert_eq!(Part::new(swapped, "").unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}
