//! Counts and checksums of the rows of a store, for the comparison of a copy with its source.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use serde::{Deserialize, Serialize};

use super::filter::text;
use super::{Part, Table, schema};

/// One job in this number is in the checksums, with all its rows.
const SAMPLE: u8 = 16;

/// Counts and checksums of rows, in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Census {
    /// The rows of each table, by the name of the table.
    pub rows: BTreeMap<String, u64>,
    /// The jobs by queue and state.
    pub states: BTreeMap<String, BTreeMap<String, u64>>,
    /// The sum of the hashes of the rows of one job in 16, by table.
    pub checksums: BTreeMap<String, u64>,
}

/// A value of two censuses that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What differs, such as `rows of job`.
    pub what: String,
    /// The value of the first census.
    pub first: u64,
    /// The value of the second census.
    pub second: u64,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} and {}", self.what, self.first, self.second)
    }
}

impl Census {
    /// Adds the rows of a part.
    pub fn add(&mut self, part: &Part) {
        for table in Table::ALL {
            let batch = part.batch(table);
            *self.rows.entry(table.name().to_owned()).or_default() += batch.num_rows() as u64;
            let checksum = self.checksums.entry(table.name().to_owned()).or_default();
            *checksum = checksum.wrapping_add(checksum_of(table, batch));
        }
        let jobs = part.batch(Table::Job);
        for (queue, state) in text(jobs, "queue").iter().zip(text(jobs, "state")) {
            let states = self.states.entry(queue.unwrap_or_default().to_owned()).or_default();
            *states.entry(state.unwrap_or_default().to_owned()).or_default() += 1;
        }
    }

    /// The values that differ. Checksums are compared only if the numbers of rows are equal.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let mut differences = differing(&self.rows, &other.rows, |table| format!("rows of {table}"));
        if differences.is_empty() {
            differences = differing(&self.checksums, &other.checksums, |table| format!("checksum of {table}"));
        }
        let none = BTreeMap::new();
        for queue in BTreeSet::from_iter(self.states.keys().chain(other.states.keys())) {
            let [first, second] = [self, other].map(|census| census.states.get(queue).unwrap_or(&none));
            differences.extend(differing(first, second, |state| format!("{state} jobs of the queue {queue:?}")));
        }
        differences
    }
}

fn differing(
    first: &BTreeMap<String, u64>,
    second: &BTreeMap<String, u64>,
    what: impl Fn(&str) -> String,
) -> Vec<Difference> {
    let keys = BTreeSet::from_iter(first.keys().chain(second.keys()));
    let value = |of: &BTreeMap<String, u64>, key: &String| of.get(key).copied().unwrap_or(0);
    keys.into_iter()
        .map(|key| Difference { what: what(key), first: value(first, key), second: value(second, key) })
        .filter(|difference| difference.first != difference.second)
        .collect()
}

/// The sum of the hashes of the rows in the sample.
fn checksum_of(table: Table, batch: &RecordBatch) -> u64 {
    let ids = text(batch, "job_id");
    let hash = |row: usize| {
        let mut hasher = blake3::Hasher::new();
        for (column, field) in batch.columns().iter().zip(schema(table).fields()) {
            let value = value(column, row);
            // An empty text is absent on some stores.
            if !value.is_empty() {
                hasher.update(field.name().as_bytes()).update(&value.len().to_le_bytes()).update(&value);
            }
        }
        let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    };
    let in_sample = (0..batch.num_rows()).filter(|&row| is_in_sample(ids.value(row)));
    in_sample.fold(0, |sum, row| sum.wrapping_add(hash(row)))
}

fn is_in_sample(job_id: &str) -> bool {
    blake3::hash(job_id.as_bytes()).as_bytes()[0].is_multiple_of(SAMPLE)
}

/// The bytes of a value; none for a null.
fn value(column: &ArrayRef, row: usize) -> Vec<u8> {
    if column.is_null(row) {
        return Vec::new();
    }
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Binary => column.as_binary::<i32>().value(row).into(),
        DataType::Boolean => vec![column.as_boolean().value(row).into()],
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).to_le_bytes().into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_le_bytes().into(),
        DataType::Timestamp(..) => column.as_primitive::<TimestampMicrosecondType>().value(row).to_le_bytes().into(),
        _ => annotations(&column.as_map().value(row)),
    }
}

/// The annotations in the order of their keys.
fn annotations(entries: &StructArray) -> Vec<u8> {
    let [keys, values] = [entries.column(0), entries.column(1)].map(|column| column.as_string::<i32>());
    let pairs: BTreeMap<_, _> = keys.iter().flatten().zip(values).collect();
    let parts = pairs.into_iter().flat_map(|(key, value)| [key, "\0", value.unwrap_or_default(), "\0"]);
    parts.flat_map(str::bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::tests::part;

    #[test]
    fn a_census_does_not_depend_on_the_order_of_parts() {
        let parts = [part(0..100), part(100..150), part(150..300)];
        let census = |parts: &[Part]| {
            let mut census = Census::default();
            parts.iter().for_each(|part| census.add(part));
            census
        };
        let [a, b, c] = &parts;
        let whole = census(&[part(0..300)]);
        assert_eq!(whole.rows["job"], 300);
        assert_eq!(whole.states.values().flat_map(BTreeMap::values).sum::<u64>(), 300);
        assert_eq!(whole, census(&[c.clone(), a.clone(), b.clone()]));
        let differences = whole.differences(&census(&[a.clone(), c.clone()]));
        assert_eq!(differences[0], Difference { what: "rows of job".to_owned(), first: 300, second: 250 });
    }

    #[test]
    fn a_changed_value_changes_the_checksum() {
        let original = part(0..300);
        let mut batches = Table::ALL.map(|table| original.batch(table).clone());
        let jobs = &mut batches[Table::Job as usize];
        let mut columns = jobs.columns().to_vec();
        columns.swap(2, 3);
        *jobs = RecordBatch::try_new(jobs.schema(), columns).unwrap();
        let [before, after] = [original, Part::new(batches, "").unwrap()].map(|part| {
            let mut census = Census::default();
            census.add(&part);
            census
        });
        let differences = before.differences(&after);
        assert_eq!(differences.len(), 1);
        assert_eq!(differences[0].what, "checksum of job");
    }
}
