//! Columns of a chunk: Arrow's layout in shared vectors, copied only when a reader holds them.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::buffer::{Buffer, ScalarBuffer};
use datafusion::arrow::datatypes::{ArrowNativeType, ToByteSlice};

/// Rows in a full chunk: DataFusion's batch size, so that a chunk is a record batch.
pub(crate) const CHUNK_ROWS: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 13;

/// The chunk of a row, and the row's place in it.
#[inline]
pub(crate) const fn locate(row: u32) -> (usize, usize) {
    ((row >> CHUNK_BITS) as usize, row as usize & (CHUNK_ROWS - 1))
}

/// The first row of a chunk.
#[inline]
pub(crate) const fn first_row(chunk: usize) -> u32 {
    (chunk as u32) << CHUNK_BITS
}

/// The values of one column in one chunk.
///
/// Cloning shares the values; the first write after that copies them, so a snapshot that holds
/// a clone never sees a change.
#[derive(Debug)]
pub(crate) struct Column<T>(Arc<Vec<T>>);

impl<T> Clone for Column<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self(Arc::new(Vec::with_capacity(CHUNK_ROWS)))
    }
}

impl<T: Clone> Column<T> {
    /// The vector to write to, which no one else sees.
    #[inline]
    fn own(&mut self) -> &mut Vec<T> {
        if Arc::get_mut(&mut self.0).is_none() {
            // `Arc::make_mut` would lose the spare capacity that appends count on.
            let mut copy = Vec::with_capacity(CHUNK_ROWS);
            copy.extend_from_slice(&self.0);
            self.0 = Arc::new(copy);
        }
        Arc::make_mut(&mut self.0)
    }

    pub(crate) fn extend(&mut self, values: impl Iterator<Item = T>) {
        self.own().extend(values);
    }

    #[inline]
    pub(crate) fn set(&mut self, at: usize, value: T) {
        self.own()[at] = value;
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// Bytes that the column occupies.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<T>()
    }
}

impl<T: Copy> Column<T> {
    #[inline]
    pub(crate) fn get(&self, at: usize) -> T {
        self.0[at]
    }
}

/// Lets Arrow hold the vector, and tell its bytes, without a copy.
struct Owner<T>(Arc<Vec<T>>);

impl<T: ArrowNativeType> AsRef<[u8]> for Owner<T> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice().to_byte_slice()
    }
}

impl<T: ArrowNativeType + Send + Sync> Column<T> {
    /// The values as an Arrow buffer that shares them.
    pub(crate) fn to_buffer(&self) -> ScalarBuffer<T> {
        let len = self.0.len();
        let bytes = Bytes::from_owner(Owner(Arc::clone(&self.0)));
        ScalarBuffer::new(Buffer::from(bytes), 0, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_never_sees_a_later_write() {
        let mut column = Column::default();
        column.extend([1i64, 2, 3].into_iter());
        let snapshot = column.clone();
        let buffer = column.to_buffer();
        column.set(1, 20);
        column.extend([4].into_iter());
        assert_eq!(snapshot.as_slice(), [1, 2, 3]);
        assert_eq!(&buffer[..], [1, 2, 3]);
        assert_eq!(column.as_slice(), [1, 20, 3, 4]);
    }

    #[test]
    fn writes_are_in_place_when_no_one_else_holds_the_column() {
        let mut column = Column::default();
        column.extend([1i64, 2].into_iter());
        let before = column.as_slice().as_ptr();
        column.set(0, 7);
        column.extend([3].into_iter());
        assert_eq!(column.as_slice().as_ptr(), before);
    }
}
