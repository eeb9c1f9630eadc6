//! Dictionaries: the distinct values of a string column, identified by codes.

use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, StringViewArray, UInt32Array};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use memchr::memmem::Finder;
use parking_lot::{Mutex, RwLock};
use smol_str::SmolStr;

use super::arena::Arena;
use super::ngram::{NgramBatch, NgramIndex};
use super::postings::{PostingList, Postings};
use crate::memory::cost::NGRAM_MIN_TEXTS;

/// New values are added to the trigram index in batches of this size.
const NGRAM_BATCH: usize = 1 << 12;

/// A dictionary with a posting list for each code.
///
/// The values are versioned: a clone does not see values that are added later. The hash table, the posting lists and
/// the trigram index are shared by all clones and append-only, so a clone ignores codes and rows that it does not have.
/// Their locks are held for one lookup or append, never during a query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dictionary {
    texts: Arc<Arena<SmolStr>>,
    shared: Arc<SharedPart>,
}

#[derive(Debug, Default)]
struct SharedPart {
    codes: RwLock<HashTable<u32>>,
    hasher: RandomState,
    postings: RwLock<Postings>,
    /// The codes in the order of their values.
    order: Mutex<Arc<Vec<u32>>>,
    values: Mutex<Option<ArrayRef>>,
    /// Built on demand by queries.
    ngrams: RwLock<NgramIndex>,
    is_indexing: AtomicBool,
}

impl Dictionary {
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(crate) fn texts(&self) -> &Arena<SmolStr> {
        &self.texts
    }

    pub(crate) fn text(&self, code: u32) -> &SmolStr {
        self.texts.get(code)
    }

    /// The values as an Arrow array. The array is cached until values are added.
    pub(crate) fn values(&self) -> ArrayRef {
        let kept = self.shared.values.lock().clone();
        match kept {
            Some(values) if values.len() == self.len() => return values,
            // The cached array belongs to a later clone, whose values start with the values of this one.
            Some(values) if values.len() > self.len() => return values.slice(0, self.len()),
            _ => {}
        }
        let values: ArrayRef = Arc::new(self.texts.iter().map(Some).collect::<StringViewArray>());
        let mut kept = self.shared.values.lock();
        if kept.as_ref().is_none_or(|kept| kept.len() < values.len()) {
            *kept = Some(Arc::clone(&values));
        }
        values
    }

    /// The code of a value, if the dictionary contains it.
    pub(crate) fn code(&self, text: &str) -> Option<u32> {
        let hash = self.shared.hasher.hash_one(text);
        let known = self.len() as u32;
        self.shared.codes.read().find(hash, |&code| code < known && self.text(code) == text).copied()
    }

    /// The codes of the values that contain a substring, ascending. `None` if the trigram index does not support the
    /// substring, or finds more than `max` candidates.
    pub(crate) fn codes_containing(&self, part: &str, max: usize) -> Option<Vec<u32>> {
        let (candidates, end) = {
            let ngrams = self.shared.ngrams.read();
            (ngrams.candidates(part, max as u64).filter(|_| ngrams.end() > 0)?, ngrams.end())
        };
        let known = self.len() as u32;
        let part = Finder::new(part);
        let contains = |&code: &u32| part.find(self.text(code).as_bytes()).is_some();
        let indexed = candidates.into_iter().take_while(|&code| code < known);
        Some(indexed.chain(end.min(known)..known).filter(contains).collect())
    }

    /// The codes in a range whose values pass a test, ascending.
    pub(crate) fn codes_where(&self, codes: Range<u32>, test: impl Fn(&str) -> bool) -> impl Iterator<Item = u32> {
        codes.filter(move |&code| test(self.text(code)))
    }

    /// The codes of values. New values are added.
    pub(crate) fn intern_all<'a, C: FromIterator<u32>>(&mut self, texts: impl Iterator<Item = &'a str>) -> C {
        self.intern_optional(texts.map(Some)).into_iter().flatten().collect()
    }

    /// The codes of values that may be null. New values are added.
    pub(crate) fn intern_optional<'a>(&mut self, texts: impl Iterator<Item = Option<&'a str>>) -> Vec<Option<u32>> {
        let mut codes = self.shared.codes.write();
        let hasher = &self.shared.hasher;
        let mut previous: Option<(&str, u32)> = None;
        let mut intern = |text: &'a str| {
            // Adjacent rows often have the same value.
            if let Some((_, code)) = previous.filter(|&(before, _)| before == text) {
                return code;
            }
            let hash = hasher.hash_one(text);
            let known = codes.find(hash, |&code| self.texts.get(code) == text).copied();
            let code = known.unwrap_or_else(|| {
                let code = Arc::make_mut(&mut self.texts).push(text.into());
                codes.insert_unique(hash, code, |&code| hasher.hash_one(self.texts.get(code)));
                code
            });
            previous = Some((text, code));
            code
        };
        texts.map(|text| text.map(&mut intern)).collect()
    }

    /// The number of values to add to the trigram index: 0 while there are fewer than a batch.
    pub(crate) fn unindexed(&self) -> usize {
        let first = self.shared.ngrams.read().end() as usize;
        if self.len() < NGRAM_MIN_TEXTS.max(first + NGRAM_BATCH) || self.shared.is_indexing.load(Ordering::Relaxed) {
            return 0;
        }
        self.len() - first
    }

    /// Adds the values to the trigram index, unless another thread adds them.
    pub(crate) fn index_trigrams(&self) {
        if self.unindexed() == 0 || self.shared.is_indexing.swap(true, Ordering::Acquire) {
            return;
        }
        let first = self.shared.ngrams.read().end();
        for from in (first..self.len() as u32).step_by(NGRAM_BATCH) {
            let to = self.len().min(from as usize + NGRAM_BATCH) as u32;
            let batch = NgramBatch::new(from, (from..to).map(|code| self.text(code).as_str()));
            // Readers wait only while the bitmaps are extended.
            self.shared.ngrams.write().append(&batch);
        }
        self.shared.is_indexing.store(false, Ordering::Release);
    }

    /// The code of a value, which is added if it is new.
    pub(crate) fn intern(&mut self, text: &str) -> u32 {
        match self.code(text) {
            Some(code) => code,
            None => self.intern_all::<Vec<u32>>(std::iter::once(text))[0],
        }
    }

    /// Appends rows to the posting lists of their codes. The rows are ascending and greater than all earlier ones.
    pub(crate) fn post(&self, rows: impl Iterator<Item = (u32, u32)>) {
        self.shared.postings.write().post(rows);
    }

    /// Appends the rows of a column of codes, the first of which is row `first`.
    pub(crate) fn post_column(&self, codes: &UInt32Array, first: u32) {
        let rows = (first..).zip(codes.values());
        match codes.nulls() {
            None => self.post(rows.map(|(row, &code)| (code, row))),
            Some(nulls) => {
                self.post(rows.zip(nulls).filter(|(_, valid)| *valid).map(|((row, &code), _)| (code, row)));
            }
        }
    }

    /// The rows of a code. They may include rows newer than this clone.
    pub(crate) fn rows(&self, code: u32) -> PostingList {
        self.shared.postings.read().list(code)
    }

    /// The posting lists of several codes. Codes without an entry are omitted.
    pub(crate) fn rows_of(&self, codes: &[u32]) -> Vec<PostingList> {
        self.shared.postings.read().lists(codes)
    }

    /// The total number of rows of several codes.
    pub(crate) fn count_rows(&self, codes: &[u32]) -> u64 {
        let postings = self.shared.postings.read();
        codes.iter().map(|&code| postings.list_len(code)).sum()
    }

    /// The codes of the values with a prefix, in the order of their values.
    pub(crate) fn codes_starting_with(&self, start: &str) -> Vec<u32> {
        let order = self.order();
        let from = &order[order.partition_point(|&code| self.text(code) < start)..];
        from[..from.partition_point(|&code| self.text(code).starts_with(start))].to_vec()
    }

    /// The number of values that [`order`](Self::order) would have to merge into the cached order.
    pub(crate) fn unordered(&self) -> usize {
        self.len().saturating_sub(self.shared.order.lock().len())
    }

    /// The codes in the order of their values. The order is cached, and new values are merged into it.
    pub(crate) fn order(&self) -> Arc<Vec<u32>> {
        let kept = Arc::clone(&self.shared.order.lock());
        match kept.len().cmp(&self.len()) {
            std::cmp::Ordering::Equal => return kept,
            // The cached order belongs to a later clone, whose values start with the values of this one.
            std::cmp::Ordering::Greater => {
                let known = |code: &u32| (*code as usize) < self.len();
                return Arc::new(kept.iter().copied().filter(known).collect());
            }
            std::cmp::Ordering::Less => {}
        }
        let order = Arc::new(self.extended(&kept));
        let mut kept = self.shared.order.lock();
        if kept.len() < order.len() {
            *kept = Arc::clone(&order);
        }
        order
    }

    fn extended(&self, order: &[u32]) -> Vec<u32> {
        let mut new: Vec<u32> = (order.len() as u32..self.len() as u32).collect();
        new.sort_unstable_by(|&a, &b| self.text(a).cmp(self.text(b)));
        let mut codes = Vec::with_capacity(self.len());
        let mut rest = order;
        for code in new {
            let (before, after) = rest.split_at(rest.partition_point(|&other| self.text(other) < self.text(code)));
            codes.extend_from_slice(before);
            codes.push(code);
            rest = after;
        }
        codes.extend_from_slice(rest);
        codes
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let order = self.shared.order.lock().capacity() * size_of::<u32>();
        let values = self.shared.values.lock().as_ref().map_or(0, |values| values.get_array_memory_size());
        self.texts.heap_bytes() + self.shared.codes.read().allocation_size() + order + values
    }

    pub(crate) fn ngram_bytes(&self) -> usize {
        self.shared.ngrams.read().heap_bytes()
    }

    pub(crate) fn posting_bytes(&self) -> usize {
        self.shared.postings.read().heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_sees_no_later_code() {
        let mut dictionary = Dictionary::default();
        let codes = dictionary.intern_optional([Some("b"), None, Some("a"), Some("b")].into_iter());
        assert_eq!(codes, [Some(0), None, Some(1), Some(0)]);
        let snapshot = dictionary.clone();
        assert_eq!(dictionary.intern("c"), 2);
        assert_eq!(snapshot.code("c"), None);
        assert_eq!(snapshot.code("a"), Some(1));
        assert_eq!(dictionary.text(2), "c");
        assert_eq!(*dictionary.order(), [1, 0, 2]);
        assert_eq!(*snapshot.order(), [1, 0]);
    }

    #[test]
    fn the_trigram_index_does_not_change_matches() {
        let mut dictionary = Dictionary::default();
        let mut snapshots = Vec::new();
        for batch in 0..7 {
            let texts: Vec<String> =
                (batch * 3000..(batch + 1) * 3000).map(|at| format!("é-{:05}", at * 7919 % 100_000)).collect();
            dictionary.intern_all::<Vec<u32>>(texts.iter().chain(&texts[..10]).map(String::as_str));
            snapshots.push(dictionary.clone());
            if batch == 5 {
                assert_eq!((dictionary.unindexed(), dictionary.ngram_bytes()), (18_000, 0));
                dictionary.index_trigrams();
                assert_eq!(dictionary.unindexed(), 0);
            }
        }
        assert_eq!(snapshots.iter().filter(|snapshot| snapshot.ngram_bytes() > 0).count(), 7, "the index is shared");
        for snapshot in &snapshots {
            for part in ["", "é", "-0", "123", "é-99", "79190", "é-00001", "none", "00001x"] {
                let all: Vec<u32> =
                    snapshot.codes_where(0..snapshot.len() as u32, |text| text.contains(part)).collect();
                for max in [100, usize::MAX] {
                    if let Some(found) = snapshot.codes_containing(part, max) {
                        assert_eq!(found, all, "{part:?} of {}", snapshot.len());
                    }
                }
            }
        }
        assert!(dictionary.codes_containing("é-99", usize::MAX).is_some());
        assert_eq!(dictionary.codes_containing("é-", 100), None);
        assert_eq!(dictionary.codes_containing("-0", usize::MAX), None);
    }

    #[test]
    fn new_texts_are_merged_into_the_order() {
        let mut dictionary = Dictionary::default();
        let mut snapshots = Vec::new();
        for at in 0..300u32 {
            dictionary.intern(&format!("{:03}", at * 7919 % 1000));
            if at % 7 == 0 {
                snapshots.push(dictionary.clone());
            }
            if at % 50 == 0 {
                dictionary.order();
            }
        }
        for snapshot in &snapshots {
            let mut codes: Vec<u32> = (0..snapshot.len() as u32).collect();
            codes.sort_by_key(|&code| snapshot.text(code));
            assert_eq!(*snapshot.order(), codes);
            for start in ["", "0", "12", "999", "9990", "x"] {
                let starting = codes.iter().copied().filter(|&code| snapshot.text(code).starts_with(start));
                assert!(starting.eq(snapshot.codes_starting_with(start)));
            }
        }
    }
}
