//! The SQL tables: schemas, and conversion of stored columns.
//!
//! A string column is a dictionary array with the stored codes, and one values array for all batches. Ids and long
//! messages are views into stored buffers.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use datafusion::arrow::array::{
    ArrayRef, AsArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, MapArray, PrimitiveArray, StringBuilder,
    StringViewArray, StringViewBuilder, StructArray, UInt32Array, UInt32Builder,
};
use datafusion::arrow::buffer::{Buffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit, UInt8Type, UInt32Type};
use datafusion::arrow::error::ArrowError;
use datafusion::common::internal_err;
use datafusion::error::Result as EngineResult;
use hashbrown::HashMap;

use super::storage::{Chunk, Dictionary, FixedId, JobChunk, JobColumnIndex, JobId, LocatedRows, Tables};
use crate::ingest::JOB_ID_BYTES;
use crate::model::{JobState, RunState};

/// The type of times, in UTC. Date functions have no fast path for types with a time zone.
const TIME: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
/// The type of ids and messages.
const VIEW: DataType = DataType::Utf8View;

/// The type of strings.
pub(super) fn text_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8View))
}

fn schema(fields: Vec<(&str, DataType, bool)>) -> SchemaRef {
    let field = |(name, data_type, nullable): (&str, DataType, bool)| Field::new(name, data_type, nullable);
    Arc::new(Schema::new(fields.into_iter().map(field).collect::<Vec<_>>()))
}

/// The table `job`. Cluster, node and pool are those of the latest run.
pub(super) static JOB_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(vec![
        ("job_id", VIEW, false),
        ("queue", text_type(), false),
        ("job_set", text_type(), false),
        ("owner", text_type(), false),
        ("namespace", text_type(), true),
        ("priority_class", text_type(), true),
        ("cpu", DataType::Int64, false),
        ("memory", DataType::Int64, false),
        ("ephemeral_storage", DataType::Int64, false),
        ("gpu", DataType::Int64, false),
        ("priority", DataType::Int64, false),
        ("submitted", TIME, false),
        ("cancelled", TIME, true),
        ("state", text_type(), false),
        ("last_transition_time", TIME, false),
        ("latest_run_id", VIEW, true),
        ("duplicate", DataType::Boolean, false),
        ("cancel_reason", text_type(), true),
        ("cancel_user", text_type(), true),
        ("cluster", text_type(), true),
        ("node", text_type(), true),
        ("pool", text_type(), true),
        ("annotations", annotations_type(), false),
    ])
});

/// The table `job_run`.
pub(super) static RUN_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(vec![
        ("run_id", VIEW, false),
        ("job_id", VIEW, false),
        ("cluster", text_type(), false),
        ("node", text_type(), true),
        ("pool", text_type(), true),
        ("leased", TIME, true),
        ("pending", TIME, true),
        ("started", TIME, true),
        ("finished", TIME, true),
        ("state", text_type(), false),
        ("exit_code", DataType::Int32, true),
        ("error", VIEW, true),
        ("debug", VIEW, true),
    ])
});

/// The table `job_spec`: the encoded `api.Job` of each job that has one, whether the job exists or not.
pub(super) static SPEC_SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| schema(vec![("job_id", VIEW, false), ("spec", DataType::BinaryView, false)]));

/// The table `job_error`.
pub(super) static ERROR_SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| schema(vec![("job_id", VIEW, false), ("error", VIEW, false)]));

/// The fields of an annotation. The value has the type of string columns, so that a projection of one key is a string
/// column.
fn annotation_fields() -> Fields {
    Fields::from(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", text_type(), true)])
}

fn annotation_entries() -> Field {
    Field::new("entries", DataType::Struct(annotation_fields()), false)
}

fn annotations_type() -> DataType {
    DataType::Map(Arc::new(annotation_entries()), false)
}

/// The names of job states, by their ordinals.
static JOB_STATES: LazyLock<ArrayRef> = LazyLock::new(|| state_names(JobState::from_stored));
/// The names of run states, by their ordinals.
pub(super) static RUN_STATES: LazyLock<ArrayRef> = LazyLock::new(|| state_names(RunState::from_stored));

/// The names of all ordinals that can be stored, also of unknown states.
fn state_names<S: ToString>(state: impl Fn(i16) -> S) -> ArrayRef {
    let names = (0..=u8::MAX).map(|ordinal| Some(state(ordinal.into()).to_string()));
    Arc::new(names.collect::<StringViewArray>())
}

/// Converts ordinals to names.
pub(super) fn states(ordinals: &PrimitiveArray<UInt8Type>, names: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let codes: UInt32Array = ordinals.unary::<_, UInt32Type>(u32::from);
    Ok(Arc::new(DictionaryArray::try_new(codes, Arc::clone(names))?))
}

/// The first `rows` ids as views into the buffer of their column.
pub(super) fn id_views<const N: usize>(ids: &FixedSizeBinaryArray, rows: usize) -> Result<ArrayRef, ArrowError> {
    let mut views = StringViewBuilder::with_capacity(rows);
    let block = views.append_block(ids.values().clone());
    for at in 0..rows {
        let len = FixedId::<N>::at(ids.value_data(), at).as_bytes().len();
        views.try_append_view(block, (at * N) as u32, len as u32)?;
    }
    Ok(Arc::new(views.finish()))
}

/// Copies ids to an array of strings.
pub(super) fn id_strings<const N: usize>(
    ids: impl Iterator<Item = Option<FixedId<N>>>,
) -> Result<ArrayRef, ArrowError> {
    let mut views = StringViewBuilder::with_capacity(ids.size_hint().0);
    for id in ids {
        match id {
            Some(id) => views.try_append_value(id.as_str())?,
            None => views.append_null(),
        }
    }
    Ok(Arc::new(views.finish()))
}

/// Shorter messages are copied and longer ones are shared, because each shared message is a buffer of the array.
const SHARED_BYTES: usize = 4096;

/// Converts messages to strings, replacing invalid UTF-8.
pub(super) fn messages<'a>(messages: impl Iterator<Item = Option<&'a Bytes>>) -> Result<ArrayRef, ArrowError> {
    let mut views = StringViewBuilder::new();
    for message in messages {
        match message.map(|bytes| (bytes, String::from_utf8_lossy(bytes))) {
            None => views.append_null(),
            Some((bytes, Cow::Borrowed(_))) if bytes.len() >= SHARED_BYTES => {
                let block = views.append_block(Buffer::from(bytes.clone()));
                views.try_append_view(block, 0, bytes.len() as u32)?;
            }
            Some((_, text)) => views.try_append_value(text)?,
        }
    }
    Ok(Arc::new(views.finish()))
}

/// Rows of the table of jobs.
#[derive(Clone, Copy)]
pub(super) enum JobIndices<'a> {
    /// All rows of a chunk, and the first of them.
    Chunk(&'a JobChunk, u32),
    /// Rows of any chunks.
    Rows(&'a LocatedRows<'a, JobChunk>),
}

impl<'a> JobIndices<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Chunk(chunk, _) => chunk.len(),
            Self::Rows(rows) => rows.rows().len(),
        }
    }

    /// The rows as an array.
    pub(super) fn rows(&self) -> ArrayRef {
        Arc::new(match self {
            Self::Chunk(chunk, first) => UInt32Array::from_iter_values(*first..*first + chunk.len() as u32),
            Self::Rows(rows) => UInt32Array::from(rows.rows().to_vec()),
        })
    }

    /// The chunk of each row, and the row's index in it.
    fn located(self) -> Box<dyn Iterator<Item = (&'a JobChunk, usize)> + 'a> {
        match self {
            Self::Chunk(chunk, _) => Box::new((0..chunk.len()).map(move |at| (chunk, at))),
            Self::Rows(rows) => Box::new(rows.iter()),
        }
    }
}

/// A column of the table `job`. All batches share the values array of a dictionary.
pub(super) fn job_column(tables: &Tables, name: &str, rows: JobIndices<'_>) -> EngineResult<ArrayRef> {
    JobColumns { tables, rows }.named(name)
}

/// The values of an annotation key, null for jobs without the key; `None` for a key that no job has.
pub(super) fn annotation_column(tables: &Tables, key: Option<u32>, rows: JobIndices<'_>) -> EngineResult<ArrayRef> {
    JobColumns { tables, rows }.annotation(key)
}

struct JobColumns<'a> {
    tables: &'a Tables,
    rows: JobIndices<'a>,
}

impl JobColumns<'_> {
    fn named(&self, name: &str) -> EngineResult<ArrayRef> {
        match name {
            "job_id" => self.job_ids(),
            "state" => Ok(states(self.stored(JobColumnIndex::state)?.as_primitive(), &JOB_STATES)?),
            "latest_run_id" => self.latest_run_ids(),
            "duplicate" => {
                let duplicates = self.rows.located().map(|(chunk, at)| Some(chunk.duplicates.get(at).is_some()));
                Ok(Arc::new(duplicates.collect::<BooleanArray>()))
            }
            "annotations" => self.annotations(),
            _ => match (JobColumnIndex::named(name), self.tables.dictionaries.of(name)) {
                (Some(column), Some(dictionary)) => self.texts(dictionary, column),
                (Some(column), None) => self.stored(column),
                (None, _) => internal_err!("the table of jobs has no column {name:?}"),
            },
        }
    }

    /// The values of a stored column.
    fn stored(&self, column: JobColumnIndex) -> EngineResult<ArrayRef> {
        Ok(match self.rows {
            JobIndices::Chunk(chunk, _) => Arc::clone(chunk.batch().column(column as usize)),
            JobIndices::Rows(rows) => rows.take(|chunk| chunk.batch().column(column as usize))?,
        })
    }

    fn texts(&self, dictionary: &Dictionary, column: JobColumnIndex) -> EngineResult<ArrayRef> {
        let codes = self.stored(column)?.as_primitive::<UInt32Type>().clone();
        Ok(Arc::new(DictionaryArray::try_new(codes, dictionary.values())?))
    }

    fn job_ids(&self) -> EngineResult<ArrayRef> {
        Ok(match self.rows {
            JobIndices::Chunk(chunk, _) => id_views::<JOB_ID_BYTES>(chunk.job_id(), chunk.len())?,
            JobIndices::Rows(rows) => {
                id_strings(rows.iter().map(|(chunk, at)| Some(JobId::at(&chunk.cells.job_id, at))))?
            }
        })
    }

    fn latest_run_ids(&self) -> EngineResult<ArrayRef> {
        let latest = self.stored(JobColumnIndex::latest_run)?;
        Ok(id_strings(latest.as_primitive::<UInt32Type>().iter().map(|packed| Some(self.tables.latest_run(packed?))))?)
    }

    /// The values of a key.
    fn annotation(&self, key: Option<u32>) -> EngineResult<ArrayRef> {
        let catalog = &self.tables.dictionaries.annotations;
        let Some(key) = key else {
            let values = Arc::new(StringViewArray::new_null(0));
            return Ok(Arc::new(DictionaryArray::try_new(UInt32Array::new_null(self.rows.len()), values)?));
        };
        let codes: UInt32Array = match self.rows {
            JobIndices::Chunk(chunk, _) => (0..chunk.len()).map(chunk.annotation(catalog, key)).collect(),
            JobIndices::Rows(rows) => rows.iter().map(|(chunk, at)| chunk.annotation(catalog, key)(at)).collect(),
        };
        Ok(Arc::new(DictionaryArray::try_new(codes, catalog.values(key).values())?))
    }

    /// The annotations as maps. Their values are a dictionary array of the values that occur.
    fn annotations(&self) -> EngineResult<ArrayRef> {
        let catalog = &self.tables.dictionaries.annotations;
        let mut keys = StringBuilder::new();
        let mut codes = UInt32Builder::new();
        let mut texts = StringViewBuilder::new();
        let mut known = HashMap::new();
        let mut lengths = Vec::with_capacity(self.rows.len());
        for (chunk, at) in self.rows.located() {
            let key_set = catalog.key_set(chunk.cells.key_set[at]);
            lengths.push(key_set.len());
            for (&key, &code) in key_set.iter().zip(chunk.annotations.get(at)) {
                keys.append_value(catalog.keys.text(key));
                let next = known.len() as u32;
                codes.append_value(*known.entry((key, code)).or_insert_with(|| {
                    texts.append_value(catalog.values(key).text(code));
                    next
                }));
            }
        }
        let values = DictionaryArray::try_new(codes.finish(), Arc::new(texts.finish()))?;
        let columns: Vec<ArrayRef> = vec![Arc::new(keys.finish()), Arc::new(values)];
        let entries = StructArray::try_new(annotation_fields(), columns, None)?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(MapArray::try_new(Arc::new(annotation_entries()), offsets, entries, None, false)?))
    }
}
