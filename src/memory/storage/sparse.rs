//! Columns of which few rows have a value.

use std::sync::Arc;

use smol_str::SmolStr;

/// The columns of jobs that no query reads, by their names in the exchange format.
pub(crate) const UNREAD_OF_JOBS: [&str; 3] = ["external_job_uri", "preempt_user", "reprioritize_user"];
/// The columns of runs that no query reads.
pub(crate) const UNREAD_OF_RUNS: [&str; 4] =
    ["ingress_addresses", "failure_category", "failure_subcategory", "scheduler_termination_reason"];

/// The values of a column of a chunk, of which most rows have none. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Sparse<V>(Option<Arc<Vec<(u32, V)>>>);

impl<V> Default for Sparse<V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<V: Clone> Sparse<V> {
    /// The value of the row at an index of the chunk.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&V> {
        let values = self.0.as_ref()?;
        let found = values.binary_search_by_key(&(at as u32), |&(at, _)| at).ok()?;
        Some(&values[found].1)
    }

    /// Adds the value of a row, whose index is greater than all earlier ones.
    pub(crate) fn push(&mut self, at: usize, value: V) {
        Arc::make_mut(self.0.get_or_insert_default()).push((at as u32, value));
    }

    /// The size, in bytes. `heap` is the size of the heap memory of a value.
    pub(crate) fn heap_bytes(&self, heap: impl Fn(&V) -> usize) -> usize {
        self.0.as_ref().map_or(0, |values| {
            values.capacity() * size_of::<(u32, V)>() + values.iter().map(|(_, value)| heap(value)).sum::<usize>()
        })
    }
}

/// The size of the values of text columns, in bytes.
pub(crate) fn text_bytes(columns: &[Sparse<SmolStr>]) -> usize {
    let heap = |text: &SmolStr| if text.is_heap_allocated() { text.len() + 2 * size_of::<usize>() } else { 0 };
    columns.iter().map(|column| column.heap_bytes(heap)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_values_until_one_is_added() {
        let mut column = Sparse::default();
        assert_eq!(column.get(0), None);
        column.push(3, "a");
        let snapshot = column.clone();
        column.push(9, "b");
        assert_eq!([2, 3, 9].map(|at| column.get(at).copied()), [None, Some("a"), Some("b")]);
        assert_eq!([3, 9].map(|at| snapshot.get(at).copied()), [Some("a"), None]);
    }
}
