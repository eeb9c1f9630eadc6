//! Indexes of the values of a dictionary, which are built on demand.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::memory::storage::{Dictionary, Tables};

/// More values than this are sorted on a blocking thread. Fewer values are sorted on the current thread, in less than a
/// millisecond.
const SORT_INLINE_MAX_TEXTS: usize = 1 << 12;

/// Starts to add new values to the trigram index, on a blocking thread. Until it ends, queries test each of these
/// values. An index that would exceed the budget of the caches is not built.
pub(super) fn index_trigrams(tables: &Tables, dictionary: &Dictionary) {
    let (bytes, budget) = (dictionary.estimated_ngram_bytes(), tables.cache_budget());
    if dictionary.unindexed() == 0 || bytes > budget {
        return;
    }
    tables.evict_caches(budget - bytes);
    let dictionary = dictionary.clone();
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || dictionary.index_trigrams())),
        Err(_) => dictionary.index_trigrams(),
    }
}

/// The codes of a dictionary in the order of their values.
pub(super) async fn text_order(tables: &Tables, dictionary: &Dictionary) -> Arc<Vec<u32>> {
    let is_cached = dictionary.unordered() == 0;
    let order = sorted(dictionary).await;
    if !is_cached {
        tables.evict_caches(tables.cache_budget());
    }
    order
}

async fn sorted(dictionary: &Dictionary) -> Arc<Vec<u32>> {
    // There are no blocking threads outside a tokio runtime.
    if dictionary.unordered() <= SORT_INLINE_MAX_TEXTS || Handle::try_current().is_err() {
        return dictionary.order();
    }
    let unsorted = dictionary.clone();
    // The task fails only if the runtime shuts down.
    tokio::task::spawn_blocking(move || unsorted.order()).await.unwrap_or_else(|_| dictionary.order())
}
