//! Annotations: a column of value codes for each key that a chunk holds.

use std::sync::Arc;

use datafusion::arrow::array::{Array, UInt32Array, UInt32Builder};

use super::column::CHUNK_ROWS;
use super::dictionary::Dictionary;

/// A key's values in a chunk, by place in the chunk.
#[derive(Debug, Clone)]
pub(crate) enum KeyColumn {
    /// The places that have the key, ascending, and their codes: a key that few rows have, and
    /// any key of a chunk that still grows. Arrow has no array for it.
    Sparse { places: Vec<u16>, codes: Vec<u32> },
    /// A code for each place, null without the key.
    Dense(UInt32Array),
}

impl KeyColumn {
    /// The code at a place; none without the key.
    pub(crate) fn get(&self, at: usize) -> Option<u32> {
        match self {
            Self::Sparse { places, codes } => places.binary_search(&(at as u16)).ok().map(|entry| codes[entry]),
            Self::Dense(codes) => codes.is_valid(at).then(|| codes.value(at)),
        }
    }

    /// A code for each of `rows` places, null without the key.
    pub(crate) fn to_array(&self, rows: usize) -> UInt32Array {
        match self {
            Self::Sparse { places, codes } => {
                let mut dense = UInt32Builder::with_capacity(rows);
                for (&place, &code) in places.iter().zip(codes) {
                    dense.append_nulls(usize::from(place) - dense.values_slice().len());
                    dense.append_value(code);
                }
                dense.append_nulls(rows - dense.values_slice().len());
                dense.finish()
            }
            Self::Dense(codes) => codes.clone(),
        }
    }

    fn push(&mut self, at: usize, code: u32) {
        match self {
            Self::Sparse { places, codes } => {
                places.push(at as u16);
                codes.push(code);
            }
            Self::Dense(_) => unreachable!("a column is dense once its chunk is full"),
        }
    }

    /// Converts to the smaller of the two forms, once the chunk is full.
    fn seal(&mut self) {
        let Self::Sparse { places, codes } = self else { return };
        let sparse = places.len() * (size_of::<u16>() + size_of::<u32>());
        if sparse > CHUNK_ROWS * size_of::<u32>() {
            *self = Self::Dense(self.to_array(CHUNK_ROWS));
        } else {
            places.shrink_to_fit();
            codes.shrink_to_fit();
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Sparse { places, codes } => {
                places.capacity() * size_of::<u16>() + codes.capacity() * size_of::<u32>()
            }
            Self::Dense(codes) => codes.get_buffer_memory_size(),
        }
    }
}

/// The annotations of a chunk, by key.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChunkAnnotations(Arc<Vec<(u32, Arc<KeyColumn>)>>);

impl ChunkAnnotations {
    /// The values of a key; none if no row of the chunk has it.
    pub(crate) fn column(&self, key: u32) -> Option<&KeyColumn> {
        let at = self.0.binary_search_by_key(&key, |&(key, _)| key).ok()?;
        Some(&self.0[at].1)
    }

    /// The code of a key's value at a place; none without the key.
    #[inline]
    pub(crate) fn get(&self, key: u32, at: usize) -> Option<u32> {
        self.column(key)?.get(at)
    }

    /// Adds values of a key at ascending places, greater than all before.
    pub(crate) fn extend(&mut self, key: u32, values: impl Iterator<Item = (usize, u32)>) {
        let columns = Arc::make_mut(&mut self.0);
        let at = columns.binary_search_by_key(&key, |&(key, _)| key).unwrap_or_else(|at| {
            columns.insert(at, (key, Arc::new(KeyColumn::Sparse { places: Vec::new(), codes: Vec::new() })));
            at
        });
        let column = Arc::make_mut(&mut columns[at].1);
        for (at, code) in values {
            column.push(at, code);
        }
    }

    /// Converts the columns of a chunk that is full.
    pub(crate) fn seal(&mut self) {
        for (_, column) in Arc::make_mut(&mut self.0) {
            Arc::make_mut(column).seal();
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.iter().map(|(_, column)| column.heap_bytes() + size_of::<(u32, Arc<KeyColumn>)>()).sum()
    }
}

/// The keys of annotations, the values of each, and the sets of keys that jobs have.
#[derive(Debug, Clone, Default)]
pub(crate) struct AnnotationCatalog {
    /// The keys; its postings are the rows that have a key.
    pub(crate) keys: Dictionary,
    values: Arc<Vec<Dictionary>>,
    shapes: Arc<Vec<Arc<[u32]>>>,
}

impl AnnotationCatalog {
    /// The values of a key; its postings are the rows that have a value.
    pub(crate) fn values(&self, key: u32) -> &Dictionary {
        &self.values[key as usize]
    }

    /// The same, to add to; made if the key is new.
    pub(crate) fn values_mut(&mut self, key: u32) -> &mut Dictionary {
        let values = Arc::make_mut(&mut self.values);
        let at = key as usize;
        if at >= values.len() {
            values.resize_with(at + 1, Dictionary::default);
        }
        &mut values[at]
    }

    /// The keys of a shape, by their texts. Each job of the shape has a value of each.
    pub(crate) fn shape(&self, shape: u32) -> &Arc<[u32]> {
        &self.shapes[shape as usize]
    }

    /// Adds a set of keys.
    pub(crate) fn add_shape(&mut self, keys: Arc<[u32]>) -> u32 {
        let shapes = Arc::make_mut(&mut self.shapes);
        shapes.push(keys);
        shapes.len() as u32 - 1
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let shapes: usize = self.shapes.iter().map(|keys| keys.len() * size_of::<u32>() + 32).sum();
        self.keys.heap_bytes() + shapes + self.values.iter().map(Dictionary::heap_bytes).sum::<usize>()
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
    use super::*;

    #[test]
    fn sealed_columns_answer_as_before() {
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
        assert!(matches!(annotations.column(3), Some(KeyColumn::Sparse { .. })));
    }
}
