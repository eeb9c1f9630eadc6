//! The output columns of the scan of jobs: stored columns, and columns derived from them.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, BooleanArray, ListArray, MapArray, StructArray, UInt32Array};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::filter;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::arrow::error::ArrowError;
use datafusion::common::internal_err;
use datafusion::error::Result as EngineResult;

use crate::ingest::RUN_ID_BYTES;
use crate::memory::schema::{JOB_SCHEMA, JobIndices, annotation_column, job_column, text_type};
use crate::memory::storage::{
    Chunk, JobChunk, JobColumnIndex, KeyColumn, LocatedRows, RunChunk, RunColumnIndex, RunId, Tables, first_row,
};

/// An output column of the scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::memory) enum JobColumn {
    /// A stored column; strings are dictionary codes.
    Stored(JobColumnIndex),
    /// The padded id of the latest run.
    LatestRunId,
    /// Maps from key codes to value codes.
    Annotations,
    /// Lists of the runs of the jobs, in descending order of insertion.
    Runs,
    /// A column of the SQL table, by its index.
    Sql(usize),
    /// The values of an annotation key in SQL; `None` for a key that no job has.
    SqlAnnotation(Option<u32>),
}

/// The columns of a job of the API.
pub(in crate::memory) static JOB_COLUMNS: LazyLock<Arc<[JobColumn]>> = LazyLock::new(|| {
    let stored = [
        JobColumnIndex::job_id,
        JobColumnIndex::queue,
        JobColumnIndex::job_set,
        JobColumnIndex::owner,
        JobColumnIndex::namespace,
        JobColumnIndex::priority_class,
        JobColumnIndex::cpu,
        JobColumnIndex::memory,
        JobColumnIndex::ephemeral_storage,
        JobColumnIndex::gpu,
        JobColumnIndex::priority,
        JobColumnIndex::submitted,
        JobColumnIndex::cancelled,
        JobColumnIndex::state,
        JobColumnIndex::last_transition_time,
        JobColumnIndex::cancel_reason,
        JobColumnIndex::cancel_user,
    ];
    // `Runs` precedes `LatestRunId`, because it loads most latest runs into the caches of the processor.
    let made = [JobColumn::Runs, JobColumn::LatestRunId, JobColumn::Annotations];
    stored.into_iter().map(JobColumn::from).chain(made).collect()
});

/// The columns of a run of the API.
const RUN_COLUMNS: [RunColumnIndex; 10] = [
    RunColumnIndex::run_id,
    RunColumnIndex::cluster,
    RunColumnIndex::node,
    RunColumnIndex::pool,
    RunColumnIndex::leased,
    RunColumnIndex::pending,
    RunColumnIndex::started,
    RunColumnIndex::finished,
    RunColumnIndex::state,
    RunColumnIndex::exit_code,
];

static RUN_FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    RUN_COLUMNS.iter().map(|&place| Arc::clone(&RunChunk::schema().fields()[place as usize])).collect()
});

static RUN_ITEM: LazyLock<FieldRef> =
    LazyLock::new(|| Arc::new(Field::new("item", DataType::Struct(RUN_FIELDS.clone()), false)));

static ANNOTATION_FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    [("keys", false), ("values", false)]
        .map(|(name, null)| Field::new(name, DataType::UInt32, null))
        .into_iter()
        .collect()
});

static ANNOTATION_ENTRY: LazyLock<FieldRef> =
    LazyLock::new(|| Arc::new(Field::new("entries", DataType::Struct(ANNOTATION_FIELDS.clone()), false)));

impl From<JobColumnIndex> for JobColumn {
    fn from(place: JobColumnIndex) -> Self {
        Self::Stored(place)
    }
}

impl JobColumn {
    /// The column's name and type.
    pub(super) fn field(&self) -> FieldRef {
        match self {
            Self::Stored(place) => Arc::clone(&JobChunk::schema().fields()[*place as usize]),
            Self::LatestRunId => {
                Arc::new(Field::new("latest_run_id", DataType::FixedSizeBinary(RUN_ID_BYTES as i32), true))
            }
            Self::Annotations => {
                Arc::new(Field::new("annotations", DataType::Map(Arc::clone(&ANNOTATION_ENTRY), true), false))
            }
            Self::Runs => Arc::new(Field::new("runs", DataType::List(Arc::clone(&RUN_ITEM)), false)),
            Self::Sql(place) => Arc::clone(&JOB_SCHEMA.fields()[*place]),
            Self::SqlAnnotation(_) => Arc::new(Field::new("annotation", text_type(), true)),
        }
    }

    /// The values of all rows of a chunk, or of the rows of a selection.
    pub(super) fn of_chunk(
        &self,
        tables: &Tables,
        chunk: usize,
        passing: Option<&BooleanArray>,
    ) -> EngineResult<ArrayRef> {
        let of_chunk = &tables.jobs.chunks()[chunk];
        let whole: ArrayRef = match self {
            Self::Stored(place) => Arc::clone(of_chunk.batch().column(*place as usize)),
            Self::Sql(_) | Self::SqlAnnotation(_) => {
                let places = passing.map(places_of);
                return self.of_sql(tables, JobIndices::Chunk(of_chunk, places.as_ref()));
            }
            _ => {
                let places =
                    (0..of_chunk.len() as u32).filter(|&at| passing.is_none_or(|passing| passing.value(at as usize)));
                let rows: Vec<u32> = places.map(|at| first_row(chunk) + at).collect();
                return self.of_rows(&LocatedRows::new(tables.jobs.chunks(), &rows), tables);
            }
        };
        Ok(match passing {
            None => whole,
            Some(passing) => filter(&whole, passing)?,
        })
    }

    /// The values in SQL.
    fn of_sql(&self, tables: &Tables, places: JobIndices<'_>) -> EngineResult<ArrayRef> {
        match self {
            Self::Sql(place) => job_column(tables, JOB_SCHEMA.field(*place).name(), places),
            Self::SqlAnnotation(key) => annotation_column(tables, *key, places),
            other => internal_err!("{other:?} is no column of SQL"),
        }
    }

    /// The values of some rows.
    pub(super) fn of_rows(&self, rows: &LocatedRows<'_, JobChunk>, tables: &Tables) -> EngineResult<ArrayRef> {
        Ok(match self {
            Self::Stored(place) => JobChunk::gather(*place, rows)?,
            Self::LatestRunId => latest_run_ids(tables, rows)?,
            Self::Annotations => annotations(tables, rows)?,
            Self::Runs => runs(tables, rows)?,
            Self::Sql(_) | Self::SqlAnnotation(_) => self.of_sql(tables, JobIndices::Rows(rows))?,
        })
    }
}

/// The indices of the set bits.
fn places_of(passing: &BooleanArray) -> UInt32Array {
    UInt32Array::from_iter_values(passing.values().set_indices().map(|at| at as u32))
}

fn latest_run_ids(tables: &Tables, rows: &LocatedRows<'_, JobChunk>) -> Result<ArrayRef, ArrowError> {
    let latest = rows.read(|chunk| |at| chunk.cells.latest_run.get(at));
    Ok(Arc::new(RunId::optional_column(latest.into_iter().map(|packed| Some(tables.latest_run(packed?))))?))
}

/// The annotations per job for which memory is reserved: for most stores, the vectors then do not grow.
const ENTRIES_PER_JOB: usize = 8;

fn annotations(tables: &Tables, rows: &LocatedRows<'_, JobChunk>) -> EngineResult<ArrayRef> {
    let catalog = &tables.dictionaries.annotations;
    let key_sets = rows.read(|chunk| |at| chunk.cells.key_set[at]);
    let entries = rows.rows().len() * ENTRIES_PER_JOB;
    let (mut keys, mut values) = (Vec::with_capacity(entries), Vec::with_capacity(entries));
    let mut lengths = Vec::with_capacity(rows.rows().len());
    // The columns of the previous row: most jobs of a chunk have the same key set.
    let mut previous: Option<(*const JobChunk, u32)> = None;
    let mut columns: Vec<&KeyColumn> = Vec::new();
    for ((chunk, at), key_set) in rows.iter().zip(key_sets) {
        let of_row = Some((std::ptr::from_ref(chunk), key_set));
        let of_key_set = catalog.key_set(key_set);
        if std::mem::replace(&mut previous, of_row) != of_row {
            columns.clear();
            columns.extend(of_key_set.iter().filter_map(|&key| chunk.annotations.column(key)));
        }
        keys.extend_from_slice(of_key_set);
        lengths.push(of_key_set.len());
        values.extend(columns.iter().filter_map(|column| column.get(at)));
    }
    if values.len() != keys.len() {
        return internal_err!("a job has no value for a key of its key set");
    }
    let columns: Vec<ArrayRef> = vec![Arc::new(UInt32Array::from(keys)), Arc::new(UInt32Array::from(values))];
    let entries = StructArray::try_new(ANNOTATION_FIELDS.clone(), columns, None)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(MapArray::try_new(Arc::clone(&ANNOTATION_ENTRY), offsets, entries, None, true)?))
}

fn runs(tables: &Tables, jobs: &LocatedRows<'_, JobChunk>) -> Result<ArrayRef, ArrowError> {
    let count = jobs.rows().len();
    let mut rows = Vec::with_capacity(count);
    let mut lengths = Vec::with_capacity(count);
    let previous = |run: u32| {
        let (chunk, at) = tables.runs.locate(run);
        chunk.cells.previous.get(at)
    };
    // The last two runs of all jobs are read before the others, so that their cache misses overlap.
    let last = jobs.read(|chunk| |at| chunk.cells.last_run.get(at));
    let second: Vec<Option<u32>> = last.iter().map(|last| previous((*last)?)).collect();
    for (last, mut next) in last.into_iter().zip(second) {
        let before = rows.len();
        rows.extend(last);
        while let Some(run) = next {
            rows.push(run);
            next = previous(run);
        }
        lengths.push(rows.len() - before);
    }
    let runs = LocatedRows::new(tables.runs.chunks(), &rows);
    let columns = RUN_COLUMNS.into_iter().map(|column| RunChunk::gather(column, &runs));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let structs = StructArray::try_new_with_length(RUN_FIELDS.clone(), columns, None, rows.len())?;
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(&RUN_ITEM),
        OffsetBuffer::from_lengths(lengths),
        Arc::new(structs),
        None,
    )?))
}
