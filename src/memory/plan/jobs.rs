//! Jobs as a source of a scan.

use std::fmt;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::UInt32Array;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::error::Result as EngineResult;

use super::scan::{Batches, ScanSource};
use crate::memory::query::{Part, Selected, ordered_rows};
use crate::memory::schema::job_column;
use crate::memory::storage::{CHUNK_ROWS, Tables, first_row};
use crate::query::{Direction, JobOrder, JobOrderKey};

/// The name of the column of row ids, which only our own plans ask for.
const ROW: &str = "row";

/// The schema of a scan that gives row ids alone: what a page needs before its rows are made jobs.
pub(super) static ROW_SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(vec![Field::new(ROW, DataType::UInt32, false)])));

/// Selected jobs: a part of them in an order, if there is one.
#[derive(Debug, Clone)]
pub(super) struct JobSource {
    pub(super) tables: Arc<Tables>,
    pub(super) selected: Arc<Selected>,
    pub(super) order: Option<JobOrder>,
    pub(super) part: Part,
}

impl ScanSource for JobSource {
    fn name(&self) -> &'static str {
        "JobScanExec"
    }

    fn batches(self: Arc<Self>, schema: SchemaRef) -> Batches {
        if self.order.is_none() && self.part == Part::default() {
            let chunks = 0..self.tables.jobs.chunks().len();
            return Box::new(chunks.map(move |chunk| {
                let rows: Vec<u32> =
                    self.selected.chunk(&self.tables, chunk)?.iter().map(|at| first_row(chunk) + at as u32).collect();
                self.batch(&schema, &rows)
            }));
        }
        // Nothing is searched for before the first batch is asked for.
        let mut rows: Option<Vec<u32>> = None;
        let mut at = 0;
        Box::new(std::iter::from_fn(move || {
            let rows = match &rows {
                Some(rows) => rows,
                None => match ordered_rows(&self.tables, &self.selected, self.order, self.part) {
                    Ok(found) => rows.insert(found),
                    Err(error) => {
                        rows = Some(Vec::new());
                        return Some(Err(error));
                    }
                },
            };
            let part = &rows[at..rows.len().min(at + CHUNK_ROWS)];
            at += part.len();
            (!part.is_empty()).then(|| self.batch(&schema, part))
        }))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ", {}", self.selected)?;
        if let Some(rows) = self.selected.rows(&self.tables) {
            write!(f, ", candidates={}", rows.len())?;
        }
        if let Some(JobOrder { key, direction }) = self.order {
            let (column, search) = match key {
                JobOrderKey::JobId => ("job_id", "zone maps"),
                JobOrderKey::Queue => ("queue", "index"),
                JobOrderKey::JobSet => ("job_set", "index"),
                JobOrderKey::State => ("state", "index"),
                JobOrderKey::Submitted => ("submitted", "zone maps"),
                JobOrderKey::LastTransitionTime => ("last_transition_time", "zone maps"),
            };
            let way = if direction == Direction::Ascending { "ASC" } else { "DESC" };
            write!(f, ", order=[{column} {way} by {search}]")?;
        }
        if self.part.skip > 0 {
            write!(f, ", skip={}", self.part.skip)?;
        }
        self.part.take.map_or(Ok(()), |limit| write!(f, ", limit={limit}"))
    }

    fn order_by(&self, column: &str, descending: bool) -> Option<JobOrder> {
        let key = match column {
            "job_id" => JobOrderKey::JobId,
            "queue" => JobOrderKey::Queue,
            "job_set" => JobOrderKey::JobSet,
            "submitted" => JobOrderKey::Submitted,
            // The other orders of the API are not those of SQL: states go by ordinal there, and
            // transition times by whole seconds.
            _ => return None,
        };
        Some(JobOrder { key, direction: if descending { Direction::Descending } else { Direction::Ascending } })
    }

    fn with_order(&self, order: JobOrder) -> Option<Arc<dyn ScanSource>> {
        Some(Arc::new(Self { order: Some(order), ..self.clone() }))
    }

    fn with_limit(&self, limit: usize) -> Option<Arc<dyn ScanSource>> {
        let take = self.part.take.map_or(limit, |before| before.min(limit));
        Some(Arc::new(Self { part: Part { take: Some(take), ..self.part }, ..self.clone() }))
    }

    fn limit(&self) -> Option<usize> {
        self.part.take
    }
}

impl JobSource {
    fn batch(&self, schema: &SchemaRef, rows: &[u32]) -> EngineResult<RecordBatch> {
        let column = |field: &Arc<Field>| match field.name().as_str() {
            ROW => Ok(Arc::new(UInt32Array::from(rows.to_vec())) as _),
            name => job_column(&self.tables, name, rows),
        };
        let columns = schema.fields().iter().map(column).collect::<EngineResult<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
    }
}
