//! What the handles of one process to one store have in common.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;

use super::turns::Turns;
use super::version::Versions;

/// The turns and the versions of a store.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) turns: Turns,
    pub(super) versions: Versions,
}

static STORES: LazyLock<Mutex<HashMap<String, Weak<Store>>>> = LazyLock::new(Mutex::default);

impl Store {
    /// The store of an id: that of its marker, which is the same whatever the address that led to it.
    pub(super) fn of(id: &str) -> Arc<Self> {
        let mut stores = STORES.lock();
        if let Some(store) = stores.get(id).and_then(Weak::upgrade) {
            return store;
        }
        stores.retain(|_, store| store.strong_count() > 0);
        let store = Arc::new(Self::default());
        stores.insert(id.to_owned(), Arc::downgrade(&store));
        store
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_to_one_store_share_it() {
        let (one, other) = (Store::of("a"), Store::of("b"));
        assert!(Arc::ptr_eq(&one, &Store::of("a")));
        assert!(!Arc::ptr_eq(&one, &other));
    }
}
