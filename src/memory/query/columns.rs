//! The columns that residual expressions read, as Arrow arrays.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray, UInt32Array};
use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};

use crate::memory::storage::{Column, JobChunk, JobId, KeyColumn, NONE};
use crate::query::{IntegerField, TextField, TimeField};

/// A column as a residual expression reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::memory) enum InputColumn {
    /// The job's id, as text.
    JobId,
    /// The code of a text.
    Code(TextField),
    /// The value code of an annotation key; [`NONE`] without it.
    AnnotationCode(u32),
    Integer(IntegerField),
    Time(TimeField),
}

/// The column's name, by a text field.
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

/// The column's name, by an integer field.
pub(in crate::memory) fn integer_name(field: IntegerField) -> &'static str {
    match field {
        IntegerField::Cpu => "cpu",
        IntegerField::Memory => "memory",
        IntegerField::EphemeralStorage => "ephemeral_storage",
        IntegerField::Gpu => "gpu",
        IntegerField::Priority => "priority",
    }
}

/// The column's name, by a time field.
pub(in crate::memory) fn time_name(field: TimeField) -> &'static str {
    match field {
        TimeField::Submitted => "submitted",
        TimeField::LastTransitionTime => "last_transition_time",
    }
}

/// A text field's codes in a chunk; none for the job's id.
pub(in crate::memory) fn codes(chunk: &JobChunk, field: TextField) -> Option<&Column<u32>> {
    Some(match field {
        TextField::JobId => return None,
        TextField::Queue => &chunk.queue,
        TextField::JobSet => &chunk.job_set,
        TextField::Owner => &chunk.owner,
        TextField::Namespace => &chunk.namespace,
        TextField::PriorityClass => &chunk.priority_class,
        TextField::Cluster => &chunk.cluster,
        TextField::Node => &chunk.node,
        TextField::Pool => &chunk.pool,
    })
}

fn integers(chunk: &JobChunk, field: IntegerField) -> &Column<i64> {
    match field {
        IntegerField::Cpu => &chunk.cpu,
        IntegerField::Memory => &chunk.memory,
        IntegerField::EphemeralStorage => &chunk.ephemeral_storage,
        IntegerField::Gpu => &chunk.gpu,
        IntegerField::Priority => &chunk.priority,
    }
}

fn times(chunk: &JobChunk, field: TimeField) -> &Column<i64> {
    match field {
        TimeField::Submitted => &chunk.submitted,
        TimeField::LastTransitionTime => &chunk.last_transition,
    }
}

impl InputColumn {
    /// The column's name and type.
    pub(super) fn field(&self) -> Field {
        match self {
            Self::JobId => Field::new("job_id", DataType::Utf8, false),
            Self::Code(field) => Field::new(text_name(*field), DataType::UInt32, false),
            Self::AnnotationCode(key) => Field::new(format!("annotation {key}"), DataType::UInt32, false),
            Self::Integer(field) => Field::new(integer_name(*field), DataType::Int64, false),
            Self::Time(field) => Field::new(time_name(*field), DataType::Timestamp(TimeUnit::Microsecond, None), false),
        }
    }

    /// The values of a whole chunk; numbers and codes are shared, not copied.
    pub(super) fn whole(&self, chunk: &JobChunk) -> ArrayRef {
        match self {
            Self::JobId => Arc::new(StringArray::from_iter_values(chunk.ids.as_slice().iter().map(JobId::as_str))),
            Self::Code(field) => match codes(chunk, *field) {
                Some(column) => Arc::new(UInt32Array::new(column.to_buffer(), None)),
                None => Arc::new(UInt32Array::from(vec![NONE; chunk.len()])),
            },
            Self::AnnotationCode(key) => Arc::new(UInt32Array::from(
                chunk
                    .annotations
                    .column(*key)
                    .map_or_else(|| vec![NONE; chunk.len()], |column| dense(column, chunk.len())),
            )),
            Self::Integer(field) => Arc::new(Int64Array::new(integers(chunk, *field).to_buffer(), None)),
            Self::Time(field) => Arc::new(TimestampMicrosecondArray::new(times(chunk, *field).to_buffer(), None)),
        }
    }

    /// The values of some places of a chunk.
    pub(super) fn gather(&self, chunk: &JobChunk, places: &[u16]) -> ArrayRef {
        let places = places.iter().map(|&place| usize::from(place));
        match self {
            Self::JobId => {
                let ids: Vec<JobId> = places.map(|at| chunk.ids.get(at)).collect();
                Arc::new(StringArray::from_iter_values(ids.iter().map(JobId::as_str)))
            }
            Self::Code(field) => {
                let column = codes(chunk, *field);
                Arc::new(UInt32Array::from_iter_values(places.map(|at| column.map_or(NONE, |column| column.get(at)))))
            }
            Self::AnnotationCode(key) => {
                let column = chunk.annotations.column(*key);
                Arc::new(UInt32Array::from_iter_values(places.map(|at| column.map_or(NONE, |column| column.get(at)))))
            }
            Self::Integer(field) => {
                Arc::new(Int64Array::from_iter_values(places.map(|at| integers(chunk, *field).get(at))))
            }
            Self::Time(field) => {
                Arc::new(TimestampMicrosecondArray::from_iter_values(places.map(|at| times(chunk, *field).get(at))))
            }
        }
    }
}

fn dense(column: &KeyColumn, rows: usize) -> Vec<u32> {
    let mut codes = column.to_dense(rows);
    codes.resize(rows, NONE);
    codes
}
