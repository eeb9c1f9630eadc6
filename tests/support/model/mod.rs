//! A store written straight from the contract, in the plainest way there is.
//!
//! It takes what callers write, not what validation makes of it: lists of queries one by one,
//! and filters as JSON. So it shares neither the batch plan nor the validated queries with the
//! backends, and a mistake in those shows as a difference. Through [`Database`] it takes the
//! same validated calls as any backend.

mod database;
mod historical;
mod ingest;
mod read;
mod unvalidate;

use std::collections::BTreeMap;

use broadside::model::Run;
use broadside::{Job, SharedClock};
use bytes::Bytes;
use parking_lot::Mutex;

pub use read::OrderKey;

/// The model of a store, with its lifecycle.
#[derive(Debug)]
pub struct NaiveModel {
    clock: SharedClock,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// No schema yet.
    Bare,
    /// In use.
    Open(Store),
    /// Closed for good.
    Closed,
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
        Self { clock, state: Mutex::new(State::Bare) }
    }
}
