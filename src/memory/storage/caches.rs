//! The budget of the caches: data that later queries use and that can be computed again.

use super::tables::Tables;

/// The maximum size of all caches, in bytes, or [`BYTES_PER_JOB`] per job if that is more.
const MIN_BYTES: usize = 64 << 20;
const BYTES_PER_JOB: usize = 128;

/// A cache of a dictionary. The first kind is evicted first: it costs least to compute again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextCache {
    /// The values as an Arrow array, for SQL.
    Array,
    /// The trigram index.
    Trigrams,
    /// The codes in the order of their values.
    Order,
}

impl TextCache {
    pub(crate) const ALL: [Self; 3] = [Self::Array, Self::Trigrams, Self::Order];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Array => "dictionary arrays",
            Self::Trigrams => "trigrams",
            Self::Order => "sorted codes",
        }
    }
}

impl Tables {
    /// The maximum size of all caches, in bytes.
    pub(crate) fn cache_budget(&self) -> usize {
        MIN_BYTES.max(self.jobs.len() * BYTES_PER_JOB)
    }

    /// The size of the caches of a kind, in bytes.
    pub(crate) fn cache_bytes(&self, cache: TextCache) -> usize {
        self.dictionaries.all().map(|dictionary| dictionary.cache_bytes(cache)).sum()
    }

    /// Evicts caches until at most `max` bytes remain: those of dictionaries by their kind, then aggregates of groups,
    /// the least recently used first.
    pub(crate) fn evict_caches(&self, max: usize) {
        let partials = &self.indexes.partials;
        let mut bytes =
            TextCache::ALL.map(|cache| self.cache_bytes(cache)).iter().sum::<usize>() + partials.heap_bytes();
        for cache in TextCache::ALL {
            for dictionary in self.dictionaries.all() {
                if bytes <= max {
                    return;
                }
                bytes = bytes.saturating_sub(dictionary.evict(cache));
            }
        }
        partials.evict(max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(tables: &Tables) -> [usize; 3] {
        TextCache::ALL.map(|cache| tables.cache_bytes(cache))
    }

    #[test]
    fn caches_are_evicted_by_kind_and_computed_again() {
        let mut tables = Tables::default();
        let texts: Vec<String> = (0..5000).map(|at| format!("text-{at}")).collect();
        tables.dictionaries.queues.intern_all::<Vec<u32>>(texts.iter().map(String::as_str));
        tables.dictionaries.annotations.values_mut(0).intern_all::<Vec<u32>>(texts.iter().map(String::as_str));
        let use_caches = || {
            let found = tables.dictionaries.all().map(|dictionary| {
                dictionary.index_trigrams();
                let codes = dictionary.codes_containing("499", usize::MAX);
                (dictionary.values().len(), dictionary.codes_starting_with("text-49").len(), codes)
            });
            found.collect::<Vec<_>>()
        };
        let found = use_caches();
        let [arrays, trigrams, order] = sizes(&tables);
        assert!(arrays > 0 && trigrams > 0 && order > 0);
        tables.evict_caches(arrays + trigrams + order);
        assert_eq!(sizes(&tables), [arrays, trigrams, order]);
        tables.evict_caches(trigrams + order);
        assert_eq!(sizes(&tables), [0, trigrams, order]);
        tables.evict_caches(order);
        assert_eq!(sizes(&tables), [0, 0, order]);
        tables.evict_caches(0);
        assert_eq!(sizes(&tables), [0, 0, 0]);
        assert_eq!(use_caches(), found);
        assert_eq!(sizes(&tables), [arrays, trigrams, order]);
    }
}
