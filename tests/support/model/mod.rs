//! The naive model: a simple store that is implemented independently of the backends.
//!
//! It executes the queries of a caller one by one, and evaluates filters as JSON, instead of their validated forms. So
//! it shares neither the batch plan nor the validated queries with the backends, and errors in those appear as
//! differences. It also has its own limits for validation. Through [`Database`] it executes the same validated calls as
//! a backend.

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
    /// `None` before the schema is initialised.
    store: Arc<Mutex<Option<Store>>>,
    closed: AtomicBool,
}

/// The data of the model, by id.
#[derive(Debug, Clone, Default)]
pub struct Store {
    /// Jobs without their runs, which are added when a job is read.
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
    /// Creates an empty store without a schema.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, store: Arc::default(), closed: AtomicBool::new(false) }
    }

    /// Another handle to the store.
    pub fn handle(&self) -> Self {
        Self { clock: self.clock.clone(), store: self.store.clone(), closed: AtomicBool::new(false) }
    }
}
