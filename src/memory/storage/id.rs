//! Fixed-width ids, compared and hashed without following a pointer.

use std::cmp::Ordering;
use std::str;

use datafusion::arrow::array::FixedSizeBinaryArray;
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::error::ArrowError;

use crate::ingest::{JOB_ID_BYTES, RUN_ID_BYTES, contains_nul};

/// An id of at most `N` bytes, padded with NULs.
///
/// No valid id contains a NUL, so padded ids are equal only if the ids are, and sort in the same order: a proper prefix
/// sorts first, as NUL is the least byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub(crate) struct FixedId<const N: usize>([u8; N]);

/// The order of the bytes, compared as words: a call of `memcmp` takes several times as long.
impl<const N: usize> Ord for FixedId<N> {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        let ((words, rest), (other_words, other_rest)) = (self.0.as_chunks(), other.0.as_chunks());
        for (word, other) in words.iter().zip(other_words) {
            let ordering = u64::from_be_bytes(*word).cmp(&u64::from_be_bytes(*other));
            if ordering.is_ne() {
                return ordering;
            }
        }
        rest.cmp(other_rest)
    }
}

impl<const N: usize> PartialOrd for FixedId<N> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

pub(crate) type JobId = FixedId<JOB_ID_BYTES>;
pub(crate) type RunId = FixedId<RUN_ID_BYTES>;

impl<const N: usize> FixedId<N> {
    /// The id of a string; `None` if the string is not a valid id.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() > N || contains_nul(text) {
            return None;
        }
        let mut id = [0; N];
        id[..bytes.len()].copy_from_slice(bytes);
        Some(Self(id))
    }

    /// The id at an index of the bytes of a column.
    #[inline]
    pub(crate) fn at(bytes: &[u8], at: usize) -> Self {
        Self(bytes.as_chunks().0[at])
    }

    pub(crate) fn column(ids: impl Iterator<Item = Self>) -> Result<FixedSizeBinaryArray, ArrowError> {
        let mut bytes = Vec::with_capacity(ids.size_hint().0 * N);
        ids.for_each(|id| bytes.extend_from_slice(&id.0));
        FixedSizeBinaryArray::try_new(N as i32, Buffer::from_vec(bytes), None)
    }

    /// The bytes without the padding.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        let len = self.0.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        &self.0[..len]
    }

    pub(crate) fn as_str(&self) -> &str {
        // The bytes come from a `str`, so this never fails.
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl<const N: usize> From<[u8; N]> for FixedId<N> {
    fn from(padded: [u8; N]) -> Self {
        Self(padded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padded_ids_sort_as_their_texts_do() {
        let texts = ["", "a", "a\u{1}", "aa", "ab", "b", "\u{e9}"];
        let ids: Vec<_> = texts.iter().map(|text| JobId::new(text).unwrap()).collect();
        assert!(ids.is_sorted());
        assert!(ids.iter().map(FixedId::as_str).eq(texts));
        // Ids that differ only after the last whole word.
        let ids = ["x".repeat(35), "x".repeat(36)].map(|text| RunId::new(&text).unwrap());
        assert!(ids[0] < ids[1]);
    }

    #[test]
    fn invalid_texts_are_no_ids() {
        assert!(JobId::new("a\0").is_none());
        assert!(JobId::new(&"x".repeat(33)).is_none());
        assert_eq!(JobId::new(&"x".repeat(32)).unwrap().as_str().len(), 32);
    }
}
