//! Dictionaries: the distinct values of a string column, identified by codes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, StringViewArray, UInt32Array};
use memchr::memmem::Finder;
use parking_lot::{Mutex, RwLock};
use smol_str::SmolStr;

use super::caches::TextCache;
use super::id_index::IdIndex;
use super::ngram::{NgramBatch, NgramIndex};
use super::postings::{PostingList, Postings};
use super::shared_list::SharedList;
use crate::memory::cost::NGRAM_MIN_TEXTS;

/// New values are added to the trigram index in batches of this size.
const NGRAM_BATCH: usize = 1 << 12;
/// The number of shards of the index of values. An annotation key has a dictionary, so an empty index is small.
const SHARDS: usize = 16;
/// The number of rows, or of lists, that are appended or read under one lock, which takes microseconds.
const ROWS_PER_LOCK: usize = 1024;

/// The values by code, in the type of a job's fields, so that a decoded job shares them. Large leaves take one pointer
/// less to a value than an arena.
pub(crate) type TextList = SharedList<SmolStr, 1024>;

/// A dictionary with a posting list for each code.
///
/// The values are versioned: a clone does not see values that are added later. The hash index, the posting lists and
/// the trigram index are shared by all clones and append-only, so a clone ignores codes and rows that it does not have.
/// Their locks are held for one lookup or for a part of an append, never during a query or a batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dictionary {
    texts: Arc<TextList>,
    /// The total length of the values.
    text_bytes: usize,
    shared: Arc<SharedPart>,
}

#[derive(Debug)]
struct SharedPart {
    codes: IdIndex,
    postings: RwLock<Postings>,
    /// The codes in the order of their values.
    order: Mutex<Arc<Vec<u32>>>,
    values: Mutex<Option<ArrayRef>>,
    /// Built on demand by queries.
    ngrams: RwLock<NgramIndex>,
    is_indexing: AtomicBool,
}

impl Default for SharedPart {
    fn default() -> Self {
        Self {
            codes: IdIndex::with_shards(SHARDS),
            postings: RwLock::default(),
            order: Mutex::default(),
            values: Mutex::default(),
            ngrams: RwLock::default(),
            is_indexing: AtomicBool::new(false),
        }
    }
}

impl Dictionary {
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(crate) fn texts(&self) -> &TextList {
        &self.texts
    }

    pub(crate) fn text(&self, code: u32) -> &SmolStr {
        &self.texts[code as usize]
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
        let known = self.len() as u32;
        self.shared.codes.find(text, |code| code < known && self.text(code) == text)
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
        // Adjacent rows often have the same value, which is looked up once.
        let mut distinct: Vec<Option<&str>> = Vec::new();
        let texts: Vec<Option<usize>> = texts
            .map(|text| {
                if distinct.last() != Some(&text) {
                    distinct.push(text);
                }
                text.map(|_| distinct.len() - 1)
            })
            .collect();
        let known = self.shared.codes.find_all(distinct.iter().copied(), |&text, code| self.text(code) == text);
        let code = |(text, known): (Option<&str>, Option<u32>)| {
            known.unwrap_or_else(|| text.map_or(0, |text| self.intern(text)))
        };
        let codes: Vec<u32> = distinct.into_iter().zip(known).map(code).collect();
        texts.into_iter().map(|at| at.map(|at| codes[at])).collect()
    }

    /// The number of values to add to the trigram index: 0 while there are fewer than a batch.
    pub(crate) fn unindexed(&self) -> usize {
        let first = self.shared.ngrams.read().end() as usize;
        if self.len() < NGRAM_MIN_TEXTS.max(first + NGRAM_BATCH) || self.shared.is_indexing.load(Ordering::Relaxed) {
            return 0;
        }
        self.len() - first
    }

    /// An estimate of the size of the trigram index of all values, in bytes: two to four for each trigram.
    pub(crate) fn estimated_ngram_bytes(&self) -> usize {
        3 * self.text_bytes
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
        self.code(text).unwrap_or_else(|| {
            let code = self.len() as u32;
            Arc::make_mut(&mut self.texts).push(text.into());
            self.text_bytes += text.len();
            self.shared.codes.insert(text, code);
            code
        })
    }

    /// Appends rows to the posting lists of their codes. The rows are ascending and greater than all earlier ones.
    pub(crate) fn post(&self, mut rows: impl Iterator<Item = (u32, u32)>) {
        let mut part = Vec::new();
        loop {
            part.extend(rows.by_ref().take(ROWS_PER_LOCK));
            if part.is_empty() {
                return;
            }
            self.shared.postings.write().post(part.drain(..));
        }
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
        codes.chunks(ROWS_PER_LOCK).flat_map(|codes| self.shared.postings.read().lists(codes)).collect()
    }

    /// The total number of rows of several codes.
    pub(crate) fn count_rows(&self, codes: &[u32]) -> u64 {
        let count = |codes: &[u32]| {
            let postings = self.shared.postings.read();
            codes.iter().map(|&code| postings.list_len(code)).sum::<u64>()
        };
        codes.chunks(ROWS_PER_LOCK).map(count).sum()
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

    /// The size of the values in parts, in bytes.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = usize> {
        let fixed = size_of::<SharedPart>() + self.shared.codes.heap_bytes();
        // A string on the heap has two reference counts.
        let heap = |text: &SmolStr| if text.is_heap_allocated() { text.len() + 2 * size_of::<usize>() } else { 0 };
        let leaf =
            move |texts: &Vec<SmolStr>| texts.capacity() * size_of::<SmolStr>() + texts.iter().map(heap).sum::<usize>();
        std::iter::once(fixed).chain(self.texts.leaves().map(leaf))
    }

    /// The size of the posting lists in parts, in bytes.
    pub(crate) fn posting_sizes(&self) -> impl Iterator<Item = usize> {
        (0..).map_while(|block| self.shared.postings.read().block_bytes(block))
    }

    pub(crate) fn cache_bytes(&self, cache: TextCache) -> usize {
        match cache {
            TextCache::Array => self.shared.values.lock().as_ref().map_or(0, |values| values.get_array_memory_size()),
            TextCache::Trigrams => self.shared.ngrams.read().heap_bytes(),
            TextCache::Order => self.shared.order.lock().capacity() * size_of::<u32>(),
        }
    }

    /// Drops a cache. Returns its size, in bytes.
    pub(crate) fn evict(&self, cache: TextCache) -> usize {
        let bytes = self.cache_bytes(cache);
        match cache {
            TextCache::Array => drop(self.shared.values.lock().take()),
            TextCache::Order => drop(std::mem::take(&mut *self.shared.order.lock())),
            // An index that is being extended is not dropped.
            TextCache::Trigrams if self.shared.is_indexing.swap(true, Ordering::Acquire) => return 0,
            TextCache::Trigrams => {
                let ngrams = std::mem::take(&mut *self.shared.ngrams.write());
                self.shared.is_indexing.store(false, Ordering::Release);
                drop(ngrams);
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn readers_do_not_wait_for_a_batch() {
        let mut dictionary = Dictionary::default();
        let texts: Vec<String> = (0..5000).map(|at| at.to_string()).collect();
        let (read, is_read) = mpsc::channel();
        let reader = dictionary.clone();
        // Reads on another thread in the middle of a batch.
        let in_the_middle = |at: usize| {
            if at == 4000 {
                let (reader, read) = (reader.clone(), read.clone());
                thread::spawn(move || read.send((reader.code("1"), reader.rows(0).len())));
                is_read.recv_timeout(Duration::from_secs(10)).expect("the reader waits for the batch");
            }
        };
        let codes: Vec<u32> = dictionary
            .intern_all(texts.iter().enumerate().inspect(|(at, _)| in_the_middle(*at)).map(|(_, text)| text.as_str()));
        assert!(codes.iter().copied().eq(0..5000));
        dictionary.post((0..5000).map(|row| (row % 3, row)).inspect(|&(_, row)| in_the_middle(row as usize)));
        assert_eq!((dictionary.code("4999"), dictionary.rows(2).len()), (Some(4999), 1666));
    }

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
                assert_eq!((dictionary.unindexed(), dictionary.cache_bytes(TextCache::Trigrams)), (18_000, 0));
                dictionary.index_trigrams();
                assert_eq!(dictionary.unindexed(), 0);
            }
        }
        assert_eq!(
            snapshots.iter().filter(|snapshot| snapshot.cache_bytes(TextCache::Trigrams) > 0).count(),
            7,
            "the index is shared"
        );
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
