//! Validity bitmaps of gathered values.

use datafusion::arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};

/// Builds the validity bitmap of a column of a page.
///
/// `NullBufferBuilder` would allocate aligned memory, for which allocators have no fast path.
#[derive(Debug)]
pub(super) struct ValidityBuilder {
    words: Vec<u64>,
    len: usize,
    nulls: usize,
}

impl ValidityBuilder {
    pub(super) fn with_capacity(len: usize) -> Self {
        Self { words: Vec::with_capacity(len.div_ceil(64)), len: 0, nulls: 0 }
    }

    #[inline]
    pub(super) fn append(&mut self, valid: bool) {
        let bit = self.len % 64;
        if bit == 0 {
            self.words.push(0);
        }
        if let Some(word) = self.words.last_mut() {
            *word |= u64::from(valid) << bit;
        }
        self.len += 1;
        self.nulls += usize::from(!valid);
    }

    /// The bitmap; `None` if all values are valid.
    pub(super) fn finish(self) -> Option<NullBuffer> {
        let bits = || BooleanBuffer::new(Buffer::from_vec(self.words), 0, self.len);
        (self.nulls > 0).then(|| NullBuffer::new(bits()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bitmap_is_that_of_arrow() {
        for len in [0, 1, 63, 64, 65, 200] {
            for null in [None, Some(0), Some(63), Some(64), Some(199)] {
                let valid: Vec<bool> = (0..len).map(|at| Some(at) != null).collect();
                let mut builder = ValidityBuilder::with_capacity(len);
                valid.iter().for_each(|&valid| builder.append(valid));
                let expected = Some(NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0);
                assert_eq!(builder.finish(), expected, "{len} {null:?}");
            }
        }
    }
}
