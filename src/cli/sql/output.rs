//! Output formats of query results.

use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broadside::memory::SqlSession;
use clap::ValueEnum;
use datafusion::arrow::array::{Array, ArrayRef, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::writer::FileWriter;
use datafusion::arrow::json::writer::{EncoderOptions, LineDelimited, WriterBuilder, make_encoder};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::util::display::FormatOptions;
use datafusion::arrow::util::pretty::pretty_format_batches_with_options;
use futures::StreamExt;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::expanded::{Expanded, ExpandedRows};
use crate::cli::messages::{self, Stdout};
use crate::cli::{Failure, terminal};

/// The format of query results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A text table; nulls are NULL.
    Table,
    /// CSV with a header; nulls are empty fields, maps are JSON.
    Csv,
    /// JSON Lines with an object per row.
    Json,
    /// An Apache Parquet file.
    Parquet,
    /// An Arrow IPC file.
    Arrow,
}

impl Format {
    /// Returns true if the format is binary and requires a file for each result.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Parquet | Self::Arrow)
    }
}

/// The format of results, and when tables have the expanded format.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub format: Format,
    pub expanded: Expanded,
}

impl From<Format> for Style {
    fn from(format: Format) -> Self {
        Self { format, expanded: Expanded::IfWide }
    }
}

/// The rows of a result, and the time of the statement, without that of formatting and printing.
pub struct Written {
    pub rows: usize,
    pub time: Duration,
}

/// Executes a statement and writes its result to a file.
pub async fn write(
    session: &SqlSession,
    statement: &str,
    style: Style,
    out: impl Write + Send,
) -> Result<Written, Failure> {
    execute(session, statement, style, None, out).await
}

/// Executes a statement and writes its result while it is computed, to a terminal with this number of columns.
async fn execute(
    session: &SqlSession,
    statement: &str,
    style: Style,
    columns: Option<usize>,
    out: impl Write + Send,
) -> Result<Written, Failure> {
    let start = Instant::now();
    let mut answer = session.query(statement).await?;
    let mut written = Written { rows: 0, time: start.elapsed() };
    let mut writer = Writer::new(style, columns, answer.schema(), out)?;
    loop {
        let start = Instant::now();
        let batch = answer.next().await.transpose()?;
        written.time += start.elapsed();
        let Some(batch) = batch else { break };
        written.rows += batch.num_rows();
        writer.write(batch)?;
        // Formatting takes long, and may be cancelled.
        tokio::task::yield_now().await;
    }
    writer.finish()?;
    Ok(written)
}

/// Executes a statement and prints its result. Returns `None` if the reader of standard output has closed it.
pub async fn print(session: &SqlSession, statement: &str, style: Style) -> Result<Option<Written>, Failure> {
    let out = BufWriter::new(Stdout);
    tokio::select! {
        written = execute(session, statement, style, terminal::columns(), out) => written.map(Some),
        () = messages::output_closed() => Ok(None),
    }
}

/// A writer for each format.
enum Writer<W: Write + Send> {
    Table(TableWriter<W>),
    /// With the header still to be written: it is written with the first batch, or at the end if there is none.
    Csv(csv::Writer<W>, Option<RecordBatch>),
    Json(datafusion::arrow::json::Writer<W, LineDelimited>, SchemaRef),
    Parquet(Box<ArrowWriter<W>>, SchemaRef),
    Arrow(FileWriter<W>, SchemaRef),
}

impl<W: Write + Send> Writer<W> {
    fn new(style: Style, columns: Option<usize>, schema: &SchemaRef, out: W) -> Result<Self, Failure> {
        Ok(match style.format {
            Format::Table => Self::Table(TableWriter::new(schema, style.expanded, columns, out)),
            Format::Csv => Self::Csv(csv::Writer::new(out), Some(RecordBatch::new_empty(Arc::clone(schema)))),
            Format::Json => {
                let writer = WriterBuilder::new().with_explicit_nulls(true).build(out);
                Self::Json(writer, distinct_names(schema.fields().iter().cloned()))
            }
            Format::Parquet => {
                let schema = portable_schema(schema);
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                Self::Parquet(Box::new(ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties))?), schema)
            }
            Format::Arrow => {
                let schema = portable_schema(schema);
                Self::Arrow(FileWriter::try_new(out, &schema)?, schema)
            }
        })
    }

    fn write(&mut self, batch: RecordBatch) -> Result<(), Failure> {
        match self {
            Self::Table(writer) => writer.write(batch)?,
            Self::Csv(writer, header) => {
                writer.write(&with_json_columns(&batch)?)?;
                *header = None;
            }
            Self::Json(writer, schema) => {
                let columns = batch.columns().to_vec();
                writer.write(&with_columns(&batch, Arc::clone(schema), columns)?)?;
            }
            Self::Parquet(writer, schema) => writer.write(&portable(&batch, schema)?)?,
            Self::Arrow(writer, schema) => writer.write(&portable(&batch, schema)?)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Table(writer) => writer.finish()?,
            Self::Csv(mut writer, header) => {
                if let Some(header) = header {
                    writer.write(&with_json_columns(&header)?)?;
                }
                writer.into_inner().flush()?;
            }
            Self::Json(mut writer, _) => {
                writer.finish()?;
                writer.into_inner().flush()?;
            }
            Self::Parquet(writer, _) => writer.into_inner()?.flush()?,
            Self::Arrow(mut writer, _) => {
                writer.finish()?;
                writer.into_inner()?.flush()?;
            }
        }
        Ok(())
    }
}

const OPTIONS: FormatOptions<'_> = FormatOptions::new().with_null("NULL");

/// The lines of a table, and the border at its end.
fn text(batches: &[RecordBatch]) -> Result<(String, String), ArrowError> {
    let text = pretty_format_batches_with_options(batches, &OPTIONS)?.to_string();
    let (lines, border) = text.rsplit_once('\n').unwrap_or_default();
    Ok((lines.to_owned(), border.to_owned()))
}

/// The number of rows from which the column widths of a table are determined.
const FIRST_ROWS: usize = 1000;

/// Writes a text table in blocks, so that it is not kept in memory. The columns of a block are at least as wide as those
/// of the first.
struct TableWriter<W> {
    /// The batches of the first block, until it is written.
    first: Vec<RecordBatch>,
    /// The schema of the other blocks: its names are blanks of the widths of the first block.
    blanks: Option<SchemaRef>,
    /// The border at the end of the last block.
    border: String,
    expanded: Expanded,
    /// The number of columns of the terminal.
    columns: Option<usize>,
    /// The rows of a table in the expanded format.
    rows: Option<ExpandedRows>,
    out: W,
}

impl<W: Write> TableWriter<W> {
    fn new(schema: &SchemaRef, expanded: Expanded, columns: Option<usize>, out: W) -> Self {
        let first = vec![RecordBatch::new_empty(Arc::clone(schema))];
        Self { first, blanks: None, border: String::new(), expanded, columns, rows: None, out }
    }

    fn write(&mut self, batch: RecordBatch) -> Result<(), Failure> {
        if let Some(rows) = &mut self.rows {
            return rows.write(&batch, &OPTIONS, &mut self.out);
        }
        if let Some(blanks) = &self.blanks {
            let columns = batch.columns().to_vec();
            let batch = with_columns(&batch, Arc::clone(blanks), columns)?;
            let (lines, border) = text(&[batch])?;
            // Without the header and its borders.
            lines.lines().skip(3).try_for_each(|line| writeln!(self.out, "{line}"))?;
            self.border = border;
            return Ok(());
        }
        self.first.push(batch);
        let rows: usize = self.first.iter().map(RecordBatch::num_rows).sum();
        if rows >= FIRST_ROWS { self.first_block() } else { Ok(()) }
    }

    fn first_block(&mut self) -> Result<(), Failure> {
        let batches = mem::take(&mut self.first);
        let schema = batches[0].schema();
        let (lines, border) = text(&batches)?;
        if self.expanded.applies(border.len(), self.columns) {
            let rows = self.rows.insert(ExpandedRows::new(&schema));
            return batches.iter().try_for_each(|batch| rows.write(batch, &OPTIONS, &mut self.out));
        }
        writeln!(self.out, "{lines}")?;
        self.border = border;
        let widths = self.border.split('+').skip(1).map(|border| border.len().saturating_sub(2));
        let blank = |(field, width): (&FieldRef, usize)| field.as_ref().clone().with_name(" ".repeat(width));
        let fields: Vec<_> = schema.fields().iter().zip(widths).map(blank).collect();
        self.blanks = Some(Arc::new(Schema::new(fields)));
        Ok(())
    }

    fn finish(mut self) -> Result<(), Failure> {
        if !self.first.is_empty() {
            self.first_block()?;
        }
        match &self.rows {
            Some(rows) => rows.finish(&mut self.out)?,
            None => writeln!(self.out, "{}", self.border)?,
        }
        Ok(self.out.flush()?)
    }
}

/// Replaces the types that not all readers of Parquet and Arrow support: dictionaries, views and intervals.
fn portable_schema(schema: &SchemaRef) -> SchemaRef {
    distinct_names(schema.fields().iter().map(portable_field))
}

/// A schema of fields, with a number after each name that occurs before.
fn distinct_names(fields: impl Iterator<Item = FieldRef>) -> SchemaRef {
    let mut names = HashSet::new();
    let fields = fields.map(|field| {
        let numbered = |number| if number == 1 { field.name().clone() } else { format!("{}_{number}", field.name()) };
        let name = (1..).map(numbered).find(|name| names.insert(name.clone())).unwrap_or_default();
        Arc::unwrap_or_clone(field).with_name(name)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn portable_field(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(portable_type(field.data_type())))
}

fn portable_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => portable_type(values),
        // 64-bit offsets, because the values of a batch may exceed 2 GiB.
        // Parquet has no intervals of nanoseconds.
        DataType::Utf8 | DataType::Utf8View | DataType::Interval(_) => DataType::LargeUtf8,
        DataType::Binary | DataType::BinaryView => DataType::LargeBinary,
        DataType::Map(entries, sorted) => DataType::Map(portable_field(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(portable_field).collect()),
        DataType::List(field) => DataType::List(portable_field(field)),
        other => other.clone(),
    }
}

fn portable(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<_, _>>()?;
    with_columns(batch, Arc::clone(schema), columns)
}

/// Converts nested columns to JSON, because CSV has no nested values.
fn with_json_columns(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let is_nested = |field: &FieldRef| field.data_type().is_nested();
    if !schema.fields().iter().any(is_nested) {
        return Ok(batch.clone());
    }
    let columns = schema.fields().iter().zip(batch.columns());
    let columns = columns
        .map(|(field, column)| if is_nested(field) { as_json(field, column) } else { Ok(Arc::clone(column)) })
        .collect::<Result<Vec<_>, _>>()?;
    let fields = schema.fields().iter().zip(&columns);
    let fields = fields.map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true));
    with_columns(batch, Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)
}

fn as_json(field: &FieldRef, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(field, column, &options)?;
    let mut texts = StringBuilder::new();
    let mut json = Vec::new();
    for row in 0..column.len() {
        if column.is_null(row) {
            texts.append_null();
            continue;
        }
        json.clear();
        encoder.encode(row, &mut json);
        texts.append_value(String::from_utf8_lossy(&json));
    }
    Ok(Arc::new(texts.finish()))
}

fn with_columns(batch: &RecordBatch, schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options)
}
