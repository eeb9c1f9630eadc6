//! Reads of rows of a table.

/// Rows of a table, with their chunks.
#[derive(Debug)]
pub(crate) struct LocatedRows<'a, C> {
    pub(super) rows: &'a [u32],
    /// The chunk of each row, and the row's index in it.
    pub(super) located: Vec<(&'a C, u32)>,
    /// The ends of the parts of consecutive rows in the same chunk.
    pub(super) parts: Vec<usize>,
}

impl<'a, C> LocatedRows<'a, C> {
    pub(crate) fn rows(&self) -> &'a [u32] {
        self.rows
    }

    /// The chunk of each row, and the row's index in it.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&'a C, usize)> {
        self.located.iter().map(|&(chunk, at)| (chunk, at as usize))
    }

    /// A value of each row. `open` opens a chunk for reads of the values at indices of the chunk.
    pub(crate) fn read<V, R: Fn(usize) -> V>(&self, open: impl Fn(&'a C) -> R) -> Vec<V> {
        let mut values = Vec::with_capacity(self.rows.len());
        if self.is_scattered() {
            // In a loop of few instructions per row, the cache misses of more rows overlap.
            values.extend(self.iter().map(|(chunk, at)| open(chunk)(at)));
            return values;
        }
        let mut start = 0;
        for &end in &self.parts {
            let part = &self.located[start..end];
            let read = open(part[0].0);
            values.extend(part.iter().map(|&(_, at)| read(at as usize)));
            start = end;
        }
        values
    }

    /// Whether most rows are in another chunk than the row before.
    pub(crate) fn is_scattered(&self) -> bool {
        2 * self.parts.len() > self.rows.len()
    }
}
