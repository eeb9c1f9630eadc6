//! A store written straight from the contract, in the plainest way there is.
//!
//! It takes what callers write, not what validation makes of it: lists of queries one by one,
//! and filters as JSON. So it shares neither the batch plan nor the validated queries with the
//! backends, and a mistake in those shows as a difference. Its own limits decide what is valid. Through [`Database`] it takes the
//! same validated calls as any backend.

mod database;
mod historical;
mod ingest;
mod read;
mod requests;
mod validity;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use broadside::model::Run;
use broadside::{Job, SharedClock};
use bytes::Bytes;
use parking_lot::Mutex;

pub use read::OrderKey;

/// A handle to a model of a store.
#[derive(Debug)]
pub struct NaiveModel {
    clock: SharedClock,
    /// None before the schema is initialised.
    store: Arc<Mutex<Option<Store>>>,
    closed: AtomicBool,
}

/// What the model holds: the contract's nouns, by id.
#[derive(Debug, Clone, Default)]
pub struct Store {
    /// Jobs without their runs, which are looked up when a job is read.
    jobs: BTreeMap<String, Job>,
    specs: BTreeMap<String, Bytes>,
    errors: BTreeMap<String, Bytes>,
    runs: BTreeMap<String, StoredRun>,
}

#[derive(Debug, Clone)]
struct StoredRun {
    job_id: String,
    run: Run,
    error: Option<Bytes>,
    debug: Option<Bytes>,
}

impl NaiveModel {
    /// An empty store without a schema.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, store: Arc::default(), closed: AtomicBool::new(false) }
    }

    /// Another handle to the same store.
    pub fn handle(&self) -> Self {
        Self { clock: self.clock.clone(), store: self.store.clone(), closed: AtomicBool::new(false) }
    }
}
