//! Annotations of a chunk: a dictionary-encoded column for each key.

use std::sync::Arc;

use datafusion::arrow::array::{UInt32Array, UInt32Builder};

use super::column::OptionalCells;
use super::dictionary::Dictionary;
use super::located_rows::CHUNK_ROWS;

/// The values of a key in a chunk.
#[derive(Debug, Clone)]
pub(crate) enum KeyColumn {
    /// Used for a key that few rows have, and for every key of a chunk that is not full.
    Sparse(Arc<SparseColumn>),
    /// The codes of all rows of the chunk, null for rows without the key.
    Dense(OptionalCells<u32>),
}

/// The rows that have a key, and their codes. Arrow has no sparse array.
#[derive(Debug, Clone, Default)]
pub(crate) struct SparseColumn {
    /// The indices of the rows, ascending.
    places: Vec<u16>,
    codes: Vec<u32>,
}

impl SparseColumn {
    #[inline]
    fn get(&self, at: usize) -> Option<u32> {
        // If all rows before a row have the key, its entry is at the index of the row.
        let place = at as u16;
        let entry = if self.places.get(at) == Some(&place) { at } else { self.places.binary_search(&place).ok()? };
        Some(self.codes[entry])
    }

    /// The codes of the first `rows` rows, null for rows without the key.
    fn to_array(&self, rows: usize) -> UInt32Array {
        let mut dense = UInt32Builder::with_capacity(rows);
        for (&place, &code) in self.places.iter().zip(&self.codes) {
            dense.append_nulls(usize::from(place) - dense.values_slice().len());
            dense.append_value(code);
        }
        dense.append_nulls(rows - dense.values_slice().len());
        dense.finish()
    }
}

impl KeyColumn {
    /// The code of a row, if it has the key.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<u32> {
        match self {
            Self::Sparse(sparse) => sparse.get(at),
            Self::Dense(codes) => codes.get(at),
        }
    }

    /// The codes of the first `rows` rows, null for rows without the key.
    pub(crate) fn to_array(&self, rows: usize) -> UInt32Array {
        match self {
            Self::Sparse(sparse) => sparse.to_array(rows),
            Self::Dense(codes) => codes.to_array(),
        }
    }

    fn extend(&mut self, values: impl Iterator<Item = (usize, u32)>) {
        let Self::Sparse(sparse) = self else { unreachable!("a column is dense once its chunk is full") };
        let sparse = Arc::make_mut(sparse);
        for (at, code) in values {
            sparse.places.push(at as u16);
            sparse.codes.push(code);
        }
    }

    /// Converts the column of a full chunk to the smaller of the two forms.
    fn seal(&mut self) {
        let Self::Sparse(sparse) = self else { return };
        let bytes = sparse.places.len() * (size_of::<u16>() + size_of::<u32>());
        if bytes > CHUNK_ROWS * size_of::<u32>() {
            *self = Self::Dense(OptionalCells::new(&sparse.to_array(CHUNK_ROWS)));
        } else {
            let sparse = Arc::make_mut(sparse);
            sparse.places.shrink_to_fit();
            sparse.codes.shrink_to_fit();
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Sparse(sparse) => {
                size_of::<SparseColumn>()
                    + sparse.places.capacity() * size_of::<u16>()
                    + sparse.codes.capacity() * size_of::<u32>()
            }
            Self::Dense(codes) => codes.heap_bytes(),
        }
    }
}

/// The maximum number of keys of a chunk that are searched linearly.
const LINEAR_SEARCH_MAX_KEYS: usize = 16;

/// The annotations of a chunk, by key.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChunkAnnotations(Arc<Vec<(u32, KeyColumn)>>);

impl ChunkAnnotations {
    /// The column of a key; `None` if no row of the chunk has the key.
    pub(crate) fn column(&self, key: u32) -> Option<&KeyColumn> {
        let of_key = |&(of_entry, _): &(u32, KeyColumn)| of_entry == key;
        let at = if self.0.len() <= LINEAR_SEARCH_MAX_KEYS {
            // The entries are usually not in the caches of the processor, and these reads do not depend on each other.
            self.0.iter().position(of_key)?
        } else {
            self.0.binary_search_by_key(&key, |&(key, _)| key).ok()?
        };
        Some(&self.0[at].1)
    }

    /// The code of a row's value, if it has the key.
    #[inline]
    pub(crate) fn get(&self, key: u32, at: usize) -> Option<u32> {
        self.column(key)?.get(at)
    }

    /// Appends values of a key. The row indices are ascending and greater than those of earlier calls.
    pub(crate) fn extend(&mut self, key: u32, values: impl Iterator<Item = (usize, u32)>) {
        let columns = Arc::make_mut(&mut self.0);
        let at = columns.binary_search_by_key(&key, |&(key, _)| key).unwrap_or_else(|at| {
            columns.insert(at, (key, KeyColumn::Sparse(Arc::default())));
            at
        });
        columns[at].1.extend(values);
    }

    /// Converts the columns of a full chunk.
    pub(crate) fn seal(&mut self) {
        for (_, column) in Arc::make_mut(&mut self.0) {
            column.seal();
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.iter().map(|(_, column)| column.heap_bytes() + size_of::<(u32, KeyColumn)>()).sum()
    }
}

/// The keys of annotations, the dictionary of each key, and the key sets of jobs.
#[derive(Debug, Clone, Default)]
pub(crate) struct AnnotationCatalog {
    /// The keys. Its posting lists contain the rows that have a key.
    pub(crate) keys: Dictionary,
    values: Arc<Vec<Dictionary>>,
    key_sets: Arc<Vec<Arc<[u32]>>>,
}

impl AnnotationCatalog {
    /// The dictionary of a key's values. Its posting lists contain the rows that have a value.
    pub(crate) fn values(&self, key: u32) -> &Dictionary {
        &self.values[key as usize]
    }

    /// The dictionary of a key's values for writes. Creates it for a new key.
    pub(crate) fn values_mut(&mut self, key: u32) -> &mut Dictionary {
        let values = Arc::make_mut(&mut self.values);
        let at = key as usize;
        if at >= values.len() {
            values.resize_with(at + 1, Dictionary::default);
        }
        &mut values[at]
    }

    /// The keys of a key set, in the order of their names. Each job of the set has a value for every key.
    pub(crate) fn key_set(&self, key_set: u32) -> &Arc<[u32]> {
        &self.key_sets[key_set as usize]
    }

    /// Adds a set of keys.
    pub(crate) fn add_key_set(&mut self, keys: Arc<[u32]>) -> u32 {
        let key_sets = Arc::make_mut(&mut self.key_sets);
        key_sets.push(keys);
        key_sets.len() as u32 - 1
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let key_sets: usize = self.key_sets.iter().map(|keys| keys.len() * size_of::<u32>() + 32).sum();
        self.keys.heap_bytes() + key_sets + self.values.iter().map(Dictionary::heap_bytes).sum::<usize>()
    }

    pub(crate) fn ngram_bytes(&self) -> usize {
        self.keys.ngram_bytes() + self.values.iter().map(Dictionary::ngram_bytes).sum::<usize>()
    }

    pub(crate) fn posting_bytes(&self) -> usize {
        self.keys.posting_bytes() + self.values.iter().map(Dictionary::posting_bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Array;

    use super::*;

    #[test]
    fn sealing_does_not_change_a_column() {
        let mut annotations = ChunkAnnotations::default();
        annotations.extend(7, (0..CHUNK_ROWS).map(|at| (at, at as u32)));
        annotations.extend(3, [(5, 50), (4000, 51)].into_iter());
        let check = |annotations: &ChunkAnnotations| {
            assert_eq!(annotations.column(7).unwrap().get(4096), Some(4096));
            let sparse = annotations.column(3).unwrap();
            assert_eq!([sparse.get(5), sparse.get(6), sparse.get(4000)], [Some(50), None, Some(51)]);
            let array = sparse.to_array(4500);
            assert_eq!((array.len(), array.null_count(), array.value(4000)), (4500, 4498, 51));
            assert!(annotations.column(1).is_none());
        };
        check(&annotations);
        annotations.seal();
        check(&annotations);
        assert!(matches!(annotations.column(7), Some(KeyColumn::Dense(_))));
        assert!(matches!(annotations.column(3), Some(KeyColumn::Sparse(_))));
    }

    #[test]
    fn columns_of_few_and_of_many_keys_are_found() {
        let mut annotations = ChunkAnnotations::default();
        for count in 1..2 * LINEAR_SEARCH_MAX_KEYS as u32 {
            annotations.extend(3 * count, std::iter::once((count as usize, count)));
            let found = |key: u32| annotations.column(key).is_some();
            assert!((0..100).all(|key| found(key) == (key > 0 && key <= 3 * count && key % 3 == 0)), "{count} keys");
            assert_eq!(annotations.get(3 * count, count as usize), Some(count));
        }
    }
}
