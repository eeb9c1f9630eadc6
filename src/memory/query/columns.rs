//! Input columns of residual predicates.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringArray, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::arrow::error::ArrowError;

use crate::memory::storage::{Chunk, JobChunk, JobColumnIndex, JobId};

/// An input column of a residual predicate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InputColumn {
    /// The job's id, as a string.
    JobId,
    /// A stored column; strings are dictionary codes.
    Stored(JobColumnIndex),
    /// The codes of an annotation key's values, null for jobs without the key; `None` for a key that no job has.
    AnnotationCode(Option<u32>),
}

impl InputColumn {
    /// The column's name and type.
    pub(super) fn field(&self) -> Field {
        match self {
            Self::JobId => Field::new("job_id", DataType::Utf8, false),
            Self::Stored(column) => JobChunk::schema().field(*column as usize).clone(),
            Self::AnnotationCode(key) => Field::new(format!("annotation {key:?}"), DataType::UInt32, true),
        }
    }

    /// The values of all rows of a chunk, shared with the stored array if the types are equal.
    pub(super) fn whole(&self, chunk: &JobChunk) -> ArrayRef {
        match self {
            Self::JobId => Arc::new(id_texts((0..chunk.len()).map(|at| JobId::at(&chunk.cells.job_id, at)))),
            Self::Stored(column) => Arc::clone(chunk.batch().column(*column as usize)),
            Self::AnnotationCode(key) => {
                let column = key.and_then(|key| chunk.annotations.column(key));
                Arc::new(
                    column.map_or_else(|| UInt32Array::new_null(chunk.len()), |column| column.to_array(chunk.len())),
                )
            }
        }
    }

    /// The values of some rows of a chunk.
    pub(super) fn gather(&self, chunk: &JobChunk, places: &UInt32Array) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::JobId => {
                let ids = places.values().iter().map(|&at| JobId::at(&chunk.cells.job_id, at as usize));
                Ok(Arc::new(id_texts(ids)))
            }
            Self::AnnotationCode(key) => {
                let column = key.and_then(|key| chunk.annotations.column(key));
                let codes = places.values().iter().map(|&at| column.and_then(|column| column.get(at as usize)));
                Ok(Arc::new(codes.collect::<UInt32Array>()))
            }
            Self::Stored(column) => take(chunk.batch().column(*column as usize), places, None),
        }
    }
}

fn id_texts(ids: impl Iterator<Item = JobId>) -> StringArray {
    ids.map(|id| Some(Text(id))).collect()
}

/// An id as an item of a string array builder.
struct Text(JobId);

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.0.as_str()
    }
}
