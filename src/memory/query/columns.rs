//! Input columns of residual predicates.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::arrow::error::ArrowError;

use crate::memory::storage::{JobChunk, JobId};
use crate::query::{IntegerField, TextField, TimeField};

/// An input column of a residual predicate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::memory) enum InputColumn {
    /// The job's id, as a string.
    JobId,
    /// The dictionary code of a string.
    Code(TextField),
    /// The codes of an annotation key's values, null for jobs without the key; `None` for a key that no job has.
    AnnotationCode(Option<u32>),
    Integer(IntegerField),
    Time(TimeField),
}

/// The column of a string field.
pub(in crate::memory) fn text_name(field: TextField) -> &'static str {
    match field {
        TextField::JobId => "job_id",
        TextField::Queue => "queue",
        TextField::JobSet => "job_set",
        TextField::Owner => "owner",
        TextField::Namespace => "namespace",
        TextField::PriorityClass => "priority_class",
        TextField::Cluster => "cluster",
        TextField::Node => "node",
        TextField::Pool => "pool",
    }
}

/// The column of an integer field.
pub(in crate::memory) fn integer_name(field: IntegerField) -> &'static str {
    match field {
        IntegerField::Cpu => "cpu",
        IntegerField::Memory => "memory",
        IntegerField::EphemeralStorage => "ephemeral_storage",
        IntegerField::Gpu => "gpu",
        IntegerField::Priority => "priority",
    }
}

/// The column of a time field.
pub(in crate::memory) fn time_name(field: TimeField) -> &'static str {
    match field {
        TimeField::Submitted => "submitted",
        TimeField::LastTransitionTime => "last_transition_time",
    }
}

/// The codes of a string field in a chunk; `None` for the job's id.
pub(in crate::memory) fn codes(chunk: &JobChunk, field: TextField) -> Option<&UInt32Array> {
    Some(match field {
        TextField::JobId => return None,
        TextField::Queue => chunk.queue(),
        TextField::JobSet => chunk.job_set(),
        TextField::Owner => chunk.owner(),
        TextField::Namespace => chunk.namespace(),
        TextField::PriorityClass => chunk.priority_class(),
        TextField::Cluster => chunk.cluster(),
        TextField::Node => chunk.node(),
        TextField::Pool => chunk.pool(),
    })
}

fn integers(chunk: &JobChunk, field: IntegerField) -> &Int64Array {
    match field {
        IntegerField::Cpu => chunk.cpu(),
        IntegerField::Memory => chunk.memory(),
        IntegerField::EphemeralStorage => chunk.ephemeral_storage(),
        IntegerField::Gpu => chunk.gpu(),
        IntegerField::Priority => chunk.priority(),
    }
}

fn times(chunk: &JobChunk, field: TimeField) -> &TimestampMicrosecondArray {
    match field {
        TimeField::Submitted => chunk.submitted(),
        TimeField::LastTransitionTime => chunk.last_transition_time(),
    }
}

impl InputColumn {
    /// The column's name and type.
    pub(super) fn field(&self) -> Field {
        let codes = |name: &str| Field::new(name, DataType::UInt32, true);
        match self {
            Self::JobId => Field::new("job_id", DataType::Utf8, false),
            Self::Code(field) => codes(text_name(*field)),
            Self::AnnotationCode(key) => codes(&format!("annotation {key:?}")),
            Self::Integer(field) => Field::new(integer_name(*field), DataType::Int64, false),
            Self::Time(field) => Field::new(time_name(*field), DataType::Timestamp(TimeUnit::Microsecond, None), false),
        }
    }

    /// The values of all rows of a chunk, shared with the stored array if the types are equal.
    pub(super) fn whole(&self, chunk: &JobChunk) -> ArrayRef {
        match self {
            Self::JobId => Arc::new(id_texts((0..chunk.len()).map(|at| JobId::at(&chunk.cells.job_id, at)))),
            Self::Code(field) => Arc::new(codes(chunk, *field).cloned().unwrap_or_else(|| no_codes(chunk.len()))),
            Self::AnnotationCode(key) => {
                let column = key.and_then(|key| chunk.annotations.column(key));
                Arc::new(column.map_or_else(|| no_codes(chunk.len()), |column| column.to_array(chunk.len())))
            }
            Self::Integer(field) => Arc::new(integers(chunk, *field).clone()),
            Self::Time(field) => Arc::new(times(chunk, *field).clone()),
        }
    }

    /// The values of some rows of a chunk.
    pub(super) fn gather(&self, chunk: &JobChunk, places: &UInt32Array) -> Result<ArrayRef, ArrowError> {
        let of_chunk: &dyn Array = match self {
            Self::JobId => {
                let ids = places.values().iter().map(|&at| JobId::at(&chunk.cells.job_id, at as usize));
                return Ok(Arc::new(id_texts(ids)));
            }
            Self::AnnotationCode(key) => {
                let column = key.and_then(|key| chunk.annotations.column(key));
                let codes = places.values().iter().map(|&at| column.and_then(|column| column.get(at as usize)));
                return Ok(Arc::new(codes.collect::<UInt32Array>()));
            }
            Self::Code(field) => match codes(chunk, *field) {
                Some(codes) => codes,
                None => return Ok(Arc::new(no_codes(places.len()))),
            },
            Self::Integer(field) => integers(chunk, *field),
            Self::Time(field) => times(chunk, *field),
        };
        take(of_chunk, places, None)
    }
}

fn id_texts(ids: impl Iterator<Item = JobId>) -> StringArray {
    ids.map(|id| Some(Text(id))).collect()
}

fn no_codes(rows: usize) -> UInt32Array {
    UInt32Array::new_null(rows)
}

/// An id as an item of a string array builder.
struct Text(JobId);

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.0.as_str()
    }
}
