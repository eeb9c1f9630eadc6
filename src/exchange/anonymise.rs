//! Replacement of the names and texts of a copy by keyed hashes.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, MapArray, RecordBatch, StringArray, StructArray, new_null_array,
};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;

use super::{Part, Table, schema};
use crate::error::{Error, ErrorKind, Operation, Result};

/// The letters of hashes: lower-case, as in the names of Kubernetes.
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// The minimum length of a hash. Shorter ones of different values would often be equal.
const MIN_LENGTH: usize = 8;

/// The columns that become null: their values are JSON with names in it.
const REMOVED: [&str; 2] = ["ingress_addresses", "scheduler_termination_reason"];

/// Replaces every id, name and text of a part by a hash with a key, and leaves out specs.
///
/// Equal values have equal hashes in all columns, so that joins, groups and counts are those of the source. The length
/// is that of the value, and at least 8 bytes. States, numbers, times and the keys of annotations are kept; the JSON of
/// ingress addresses and of the scheduler's termination reason becomes null. Without the key, a value cannot be found by
/// hashing guesses.
#[derive(Clone)]
pub struct Anonymiser {
    key: [u8; 32],
}

impl std::fmt::Debug for Anonymiser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Anonymiser(…)")
    }
}

impl Anonymiser {
    /// An anonymiser with a key, which should be random and is a secret.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// The part with hashes.
    ///
    /// # Errors
    ///
    /// `Backend` if a column of hashes cannot be created.
    pub fn apply(&self, part: &Part) -> Result<Part> {
        let mut batches = Table::ALL.map(|table| RecordBatch::new_empty(schema(table)));
        for table in [Table::Job, Table::JobRun, Table::JobError] {
            batches[table as usize] = self.batch(part.batch(table)).map_err(|error| {
                Error::new(ErrorKind::Backend, Operation::Export, "rows cannot be made anonymous").with_source(error)
            })?;
        }
        Part::new(batches, part.position.clone())
    }

    fn batch(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let columns = batch.columns().iter().zip(batch.schema_ref().fields());
        let columns: Result<Vec<_>, _> = columns.map(|(column, field)| self.column(column, field)).collect();
        RecordBatch::try_new(batch.schema(), columns?)
    }

    fn column(&self, column: &ArrayRef, field: &Field) -> Result<ArrayRef, ArrowError> {
        Ok(match column.data_type() {
            _ if REMOVED.contains(&field.name().as_str()) => new_null_array(field.data_type(), column.len()),
            DataType::Map(..) => self.annotations(column.as_map())?,
            DataType::Utf8 if field.name() != "state" => self.texts(column.as_string()),
            DataType::Binary => {
                let hash = |bytes: Option<&[u8]>| bytes.map(|bytes| self.hash(bytes));
                Arc::new(column.as_binary::<i32>().iter().map(hash).collect::<BinaryArray>())
            }
            _ => Arc::clone(column),
        })
    }

    fn texts(&self, texts: &StringArray) -> ArrayRef {
        Arc::new(texts.iter().map(|text| text.map(|text| self.hash(text.as_bytes()))).collect::<StringArray>())
    }

    /// Replaces the values and keeps the keys.
    fn annotations(&self, map: &MapArray) -> Result<ArrayRef, ArrowError> {
        let DataType::Map(entries, is_sorted) = map.data_type() else { return Ok(Arc::new(map.clone())) };
        let columns = vec![Arc::clone(map.keys()), self.texts(map.values().as_string())];
        let fields = map.entries().fields().clone();
        let pairs = StructArray::try_new(fields, columns, None)?;
        Ok(Arc::new(MapArray::try_new(
            Arc::clone(entries),
            map.offsets().clone(),
            pairs,
            map.nulls().cloned(),
            *is_sorted,
        )?))
    }

    /// The hash of a value; an empty value stays empty.
    fn hash(&self, value: &[u8]) -> String {
        if value.is_empty() {
            return String::new();
        }
        let mut hash = vec![0; value.len().max(MIN_LENGTH)];
        blake3::Hasher::new_keyed(&self.key).update(value).finalize_xof().fill(&mut hash);
        hash.into_iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::tests::part;

    #[test]
    fn hashes_keep_length_and_equality() {
        let anonymiser = Anonymiser::new([7; 32]);
        let value = "a value of thirty-four characters";
        assert_eq!(anonymiser.hash(value.as_bytes()).len(), value.len());
        assert_eq!(anonymiser.hash(b"risk"), anonymiser.hash(b"risk"));
        assert_ne!(anonymiser.hash(b"risk"), anonymiser.hash(b"rosk"));
        assert_ne!(anonymiser.hash(b"risk"), Anonymiser::new([8; 32]).hash(b"risk"));
        assert_eq!((anonymiser.hash(b"").len(), anonymiser.hash(b"a").len()), (0, MIN_LENGTH));
    }

    #[test]
    fn every_text_is_replaced() {
        let original = part(0..20);
        let hashed = Anonymiser::new([7; 32]).apply(&original).unwrap();
        assert_eq!(hashed.batch(Table::JobSpec).num_rows(), 0);
        for table in [Table::Job, Table::JobRun, Table::JobError] {
            let (before, after) = (original.batch(table), hashed.batch(table));
            for (index, field) in schema(table).fields().iter().enumerate() {
                let (before, after) = (before.column(index), after.column(index));
                if *field.data_type() == DataType::Utf8 && field.name() != "state" {
                    for (before, after) in before.as_string::<i32>().iter().zip(after.as_string::<i32>()) {
                        assert!(before.is_none() || before != after, "{table:?} {field}");
                    }
                }
            }
        }
        let [ids, runs] = [Table::Job, Table::JobRun].map(|table| hashed.batch(table)["job_id"].clone());
        assert_eq!(&ids, &runs);
    }
}
