//! Validity bitmaps of gathered values.

use datafusion::arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};

/// The validity bitmap of a column of a page; `None` if all values are valid.
///
/// `NullBuffer::from` would allocate aligned memory, for which allocators have no fast path.
pub(super) fn validity(valid: &[bool]) -> Option<NullBuffer> {
    if valid.iter().fold(true, |all, valid| all & valid) {
        return None;
    }
    let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte: u8, &bit| byte << 1 | u8::from(bit));
    let bits = Buffer::from_vec(valid.chunks(8).map(byte).collect());
    Some(NullBuffer::new(BooleanBuffer::new(bits, 0, valid.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bitmap_is_that_of_arrow() {
        for len in [0, 1, 63, 64, 65, 200] {
            for null in [None, Some(0), Some(63), Some(64), Some(199)] {
                let valid: Vec<bool> = (0..len).map(|at| Some(at) != null).collect();
                let expected = Some(NullBuffer::from(valid.clone())).filter(|nulls| nulls.null_count() > 0);
                assert_eq!(validity(&valid), expected, "{len} {null:?}");
            }
        }
    }
}
