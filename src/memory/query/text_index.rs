//! Indexes of a dictionary's texts, which are built when a query first needs them.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::memory::storage::{Dictionary, TextOrder};

/// More texts than this are sorted on a thread for blocking work, and fewer at once, in less than a millisecond.
const SORT_INLINE_MAX_TEXTS: usize = 1 << 12;

/// Starts to add the texts that are new to the trigram index, on a thread for blocking work. Until it ends, queries
/// search these texts one by one.
pub(super) fn index_trigrams(dictionary: &Dictionary) {
    if dictionary.unindexed() == 0 {
        return;
    }
    let dictionary = dictionary.clone();
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || dictionary.index_trigrams())),
        Err(_) => dictionary.index_trigrams(),
    }
}

/// The codes of a dictionary in the order of their texts.
pub(super) async fn text_order(dictionary: &Dictionary) -> Arc<TextOrder> {
    // Outside a tokio runtime there is no such thread.
    if dictionary.unordered() <= SORT_INLINE_MAX_TEXTS || Handle::try_current().is_err() {
        return dictionary.order();
    }
    let sorted = dictionary.clone();
    // The task fails only if the runtime shuts down.
    tokio::task::spawn_blocking(move || sorted.order()).await.unwrap_or_else(|_| dictionary.order())
}
