//! Annotations: their keys and values, and the values of each row of a chunk.

use std::sync::Arc;

use super::dictionary::Dictionary;

/// The annotations of a chunk: for each row the codes of its values, in the order of the keys of its key set.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChunkAnnotations(Arc<CodeLists>);

#[derive(Debug, Clone, Default)]
struct CodeLists {
    /// The end of the codes of each row.
    ends: Vec<u32>,
    codes: Vec<u32>,
}

impl ChunkAnnotations {
    /// The codes of a row.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> &[u32] {
        let start = at.checked_sub(1).map_or(0, |before| self.0.ends[before]);
        &self.0.codes[start as usize..self.0.ends[at] as usize]
    }

    /// Appends the codes of the next row.
    pub(crate) fn push(&mut self, codes: &[u32]) {
        let lists = Arc::make_mut(&mut self.0);
        lists.codes.extend_from_slice(codes);
        lists.ends.push(lists.codes.len() as u32);
    }

    /// Frees the spare capacity of a full chunk.
    pub(crate) fn shrink(&mut self) {
        let lists = Arc::make_mut(&mut self.0);
        lists.ends.shrink_to_fit();
        lists.codes.shrink_to_fit();
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        (self.0.ends.capacity() + self.0.codes.capacity()) * size_of::<u32>()
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

    /// Finds the index of a key in key sets; `None` for one without the key. The last answer is kept, because most rows
    /// have the key set of the row before.
    pub(crate) fn index_in(&self, key: u32) -> impl FnMut(u32) -> Option<usize> {
        let mut previous = None;
        move |key_set| match previous {
            Some((known, index)) if known == key_set => index,
            _ => {
                let index = self.key_set(key_set).iter().position(|&of_set| of_set == key);
                previous = Some((key_set, index));
                index
            }
        }
    }

    /// Adds a set of keys.
    pub(crate) fn add_key_set(&mut self, keys: Arc<[u32]>) -> u32 {
        let key_sets = Arc::make_mut(&mut self.key_sets);
        key_sets.push(keys);
        key_sets.len() as u32 - 1
    }

    /// The dictionaries of the keys and of their values.
    pub(crate) fn dictionaries(&self) -> impl Iterator<Item = &Dictionary> {
        std::iter::once(&self.keys).chain(self.values.iter())
    }

    /// The size of the key sets, in bytes.
    pub(crate) fn key_set_bytes(&self) -> usize {
        const ARC: usize = 2 * size_of::<usize>();
        self.key_sets.iter().map(|keys| ARC + size_of::<Arc<[u32]>>() + size_of_val(&**keys)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_codes_that_were_pushed() {
        let rows: [&[u32]; 4] = [&[], &[7, 8], &[], &[9]];
        let mut annotations = ChunkAnnotations::default();
        rows[..2].iter().for_each(|codes| annotations.push(codes));
        let snapshot = annotations.clone();
        rows[2..].iter().for_each(|codes| annotations.push(codes));
        annotations.shrink();
        assert_eq!([0, 1, 2, 3].map(|at| annotations.get(at)), rows);
        assert_eq!([0, 1].map(|at| snapshot.get(at)), rows[..2]);
    }

    #[test]
    fn a_key_is_found_in_the_key_sets_that_have_it() {
        let mut catalog = AnnotationCatalog::default();
        let sets = [[].as_slice(), &[3, 1], &[1, 2, 3]].map(|keys| catalog.add_key_set(keys.into()));
        let mut index = catalog.index_in(3);
        let order = [sets[1], sets[1], sets[2], sets[0], sets[0], sets[1]];
        assert_eq!(order.map(&mut index), [Some(0), Some(0), Some(2), None, None, Some(0)]);
    }
}
