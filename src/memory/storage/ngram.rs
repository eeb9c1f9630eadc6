//! A trigram index of a dictionary, for substring searches.
//!
//! For each sequence of three bytes there is a bitmap of the codes whose values contain it. A value that contains a
//! substring contains all trigrams of the substring, so the intersection of their bitmaps yields few candidates to
//! verify. Values are indexed in batches; values after the last batch are tested without the index.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use roaring::RoaringBitmap;

use super::window::bitmap_bytes;
use crate::memory::cost::NGRAM_FEW_CANDIDATES;

/// Three bytes of a value, big-endian.
type Trigram = u32;

/// A bitmap of codes per trigram.
#[derive(Debug, Default)]
pub(crate) struct NgramIndex {
    codes: HashMap<Trigram, RoaringBitmap, RandomState>,
    end: u32,
    /// The size of the bitmaps.
    bitmap_bytes: usize,
}

/// The trigrams of a batch of values.
#[derive(Debug)]
pub(crate) struct NgramBatch {
    /// The distinct pairs of trigram and code, ascending.
    occurrences: Vec<(Trigram, u32)>,
    end: u32,
}

impl NgramBatch {
    /// Collects the trigrams of values, the first of which has the code `first`.
    pub(crate) fn new<'a>(first: u32, texts: impl Iterator<Item = &'a str>) -> Self {
        let mut occurrences = Vec::new();
        let mut end = first;
        for text in texts {
            occurrences.extend(trigrams(text).map(|trigram| (trigram, end)));
            end += 1;
        }
        occurrences.sort_unstable();
        occurrences.dedup();
        Self { occurrences, end }
    }
}

impl NgramIndex {
    /// The first code that is not in the index.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }

    /// Appends a batch whose first code is [`end`](Self::end).
    pub(crate) fn append(&mut self, batch: &NgramBatch) {
        for of_one in batch.occurrences.chunk_by(|(a, _), (b, _)| a == b) {
            let bitmap = self.codes.entry(of_one[0].0).or_default();
            self.bitmap_bytes -= bitmap_bytes(bitmap);
            // The codes are ascending and greater than those in the bitmap, so the append does not fail.
            let _ = bitmap.append(of_one.iter().map(|&(_, code)| code));
            self.bitmap_bytes += bitmap_bytes(bitmap);
        }
        self.end = batch.end;
    }

    /// A superset of the codes below [`end`](Self::end) whose values contain a substring. `None` if the substring is
    /// shorter than a trigram, or if there are more than `max` codes.
    pub(crate) fn candidates(&self, part: &str, max: u64) -> Option<RoaringBitmap> {
        let mut bitmaps = Vec::with_capacity(part.len());
        for trigram in trigrams(part) {
            match self.codes.get(&trigram) {
                Some(bitmap) => bitmaps.push(bitmap),
                None => return Some(RoaringBitmap::new()),
            }
        }
        bitmaps.sort_by_cached_key(|bitmap| bitmap.len());
        let (first, others) = bitmaps.split_first()?;
        let mut candidates = RoaringBitmap::clone(first);
        for bitmap in others {
            if candidates.len() <= NGRAM_FEW_CANDIDATES {
                break;
            }
            candidates &= *bitmap;
        }
        (candidates.len() <= max).then_some(candidates)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let entry = size_of::<(Trigram, RoaringBitmap)>() + 1;
        self.codes.capacity() * entry + self.bitmap_bytes
    }
}

fn trigrams(text: &str) -> impl Iterator<Item = Trigram> {
    text.as_bytes().windows(3).map(|bytes| u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn index(batches: &[&[&str]]) -> NgramIndex {
        let mut index = NgramIndex::default();
        for texts in batches {
            index.append(&NgramBatch::new(index.end(), texts.iter().copied()));
        }
        index
    }

    fn candidates(index: &NgramIndex, part: &str) -> Option<Vec<u32>> {
        index.candidates(part, u64::MAX).map(|codes| codes.iter().collect())
    }

    #[test]
    fn texts_with_all_trigrams_are_candidates() {
        let index = index(&[&["abcd", "bcd", "", "xabc"], &["abc", "bcde", "\u{e9}\u{e8}"]]);
        assert_eq!(index.end(), 7);
        assert_eq!(candidates(&index, "abc"), Some(vec![0, 3, 4]));
        assert_eq!(candidates(&index, "bcd"), Some(vec![0, 1, 5]));
        assert_eq!(candidates(&index, "cde"), Some(vec![5]));
        assert_eq!(candidates(&index, "none"), Some(vec![]));
        assert_eq!(candidates(&index, "\u{e9}\u{e8}"), Some(vec![6]));
    }

    #[test]
    fn short_substrings_and_many_candidates_give_no_answer() {
        let index = index(&[&["abc", "abcd"]]);
        for part in ["", "a", "ab", "\u{e9}"] {
            assert_eq!(candidates(&index, part), None, "{part:?}");
        }
        assert_eq!(index.candidates("abc", 1), None);
        assert!(index.candidates("abcd", 1).is_none_or(|codes| codes.contains(1)));
    }

    #[test]
    fn bytes_grow_with_the_texts() {
        let before = index(&[&["abc"]]).heap_bytes();
        assert!(before > 0);
        assert!(index(&[&["abc", "defghi"]]).heap_bytes() > before);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn candidates_include_every_match(
            batches in vec(vec("[ab\u{e9}\u{10348}]{0,8}", 0..40), 0..4), part in "[ab\u{e9}\u{10348}]{0,5}",
        ) {
            let mut index = NgramIndex::default();
            for texts in &batches {
                index.append(&NgramBatch::new(index.end(), texts.iter().map(String::as_str)));
            }
            let texts: Vec<_> = batches.concat();
            prop_assert_eq!(index.end() as usize, texts.len());
            match candidates(&index, &part) {
                None => prop_assert!(part.len() < 3),
                Some(codes) => {
                    prop_assert!(codes.iter().all(|&code| (code as usize) < texts.len()));
                    let containing = (0..).zip(&texts).filter(|(_, text)| text.contains(&part)).map(|(code, _)| code);
                    for code in containing {
                        prop_assert!(codes.contains(&code), "{} of {:?}", code, part);
                    }
                }
            }
        }
    }
}
