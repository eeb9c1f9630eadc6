//! The chunks of rows, and reads of rows in several chunks.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, UInt32Array};
use datafusion::arrow::compute::{interleave, take};
use datafusion::arrow::error::ArrowError;

use super::shared_list::SharedList;

/// The number of rows of a full chunk, which is DataFusion's batch size.
pub(crate) const CHUNK_ROWS: usize = 1 << CHUNK_BITS;
pub(super) const CHUNK_BITS: u32 = 13;

/// The chunk of a row, and the row's index in it.
#[inline]
pub(crate) const fn locate(row: u32) -> (usize, usize) {
    ((row >> CHUNK_BITS) as usize, row as usize & (CHUNK_ROWS - 1))
}

/// The first row of a chunk.
#[inline]
pub(crate) const fn first_row(chunk: usize) -> u32 {
    (chunk as u32) << CHUNK_BITS
}

/// Rows of a table, with their chunks.
#[derive(Debug)]
pub(crate) struct LocatedRows<'a, C> {
    rows: &'a [u32],
    /// The chunk of each row, and the row's index in it.
    located: Vec<(&'a C, u32)>,
    /// The ends of the parts of consecutive rows in the same chunk.
    parts: Vec<usize>,
}

impl<'a, C> LocatedRows<'a, C> {
    pub(crate) fn new(chunks: &'a SharedList<Arc<C>>, rows: &'a [u32]) -> Self {
        let mut located = Vec::with_capacity(rows.len());
        let mut parts = Vec::new();
        for part in rows.chunk_by(|&a, &b| locate(a).0 == locate(b).0) {
            let chunk = &*chunks[locate(part[0]).0];
            located.extend(part.iter().map(|&row| (chunk, locate(row).1 as u32)));
            parts.push(located.len());
        }
        Self { rows, located, parts }
    }

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
            // With few instructions per row, the processor waits for the cache misses of several rows at once.
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

    /// The values of a column of arrays. There must be a row.
    pub(crate) fn take(&self, column: impl Fn(&'a C) -> &'a ArrayRef) -> Result<ArrayRef, ArrowError> {
        if let [_] = self.parts[..] {
            let indices = UInt32Array::from_iter_values(self.located.iter().map(|&(_, at)| at));
            return take(column(self.located[0].0), &indices, None);
        }
        let (mut arrays, mut indices) = (Vec::with_capacity(self.parts.len()), Vec::with_capacity(self.rows.len()));
        let mut start = 0;
        for (part, &end) in self.parts.iter().enumerate() {
            arrays.push(column(self.located[start].0).as_ref());
            indices.extend(self.located[start..end].iter().map(|&(_, at)| (part, at as usize)));
            start = end;
        }
        interleave(&arrays, &indices)
    }

    /// Whether more than half of the rows are in another chunk than the row before.
    fn is_scattered(&self) -> bool {
        2 * self.parts.len() > self.rows.len()
    }
}
