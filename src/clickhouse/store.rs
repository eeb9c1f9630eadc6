//! The state of a store that all handles of a process share.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;

use super::turns::Turns;
use super::version::Versions;
use super::write_lock::WriteLock;

/// The write lock and the versions of a store, and the turns of inserts into replicated tables.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) write_lock: WriteLock,
    pub(super) versions: Versions,
    pub(super) turns: Turns,
}

static STORES: LazyLock<Mutex<HashMap<String, Weak<Store>>>> = LazyLock::new(Mutex::default);

impl Store {
    /// The store with an id. The id is that of its marker, so it is independent of the address.
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
    fn handles_to_one_store_share_its_state() {
        let (one, other) = (Store::of("a"), Store::of("b"));
        assert!(Arc::ptr_eq(&one, &Store::of("a")));
        assert!(!Arc::ptr_eq(&one, &other));
    }
}
