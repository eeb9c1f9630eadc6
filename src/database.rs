//! The interface of a store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::api;
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::historical::HistoricalJobs;
use crate::ingest::IngestionBatch;
use crate::model::{Job, JobGroup};
use crate::query::{GroupQuery, JobQuery, ReadCall};

/// The progress of a long call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The number of jobs that are stored.
    pub done: u64,
    /// The number of jobs of the whole call.
    pub total: u64,
}

/// Receives progress reports: the first has 0 jobs done, the last has all, and the number never decreases.
pub type ProgressFn<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// Facts about a store and its server, as far as the server reports them. An implementation sets fields of the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreInfo {
    /// The name and version of the server's software.
    pub version: Option<String>,
    /// The size of the data and the indexes, in bytes.
    pub bytes: Option<u64>,
    /// The memory of the server, in bytes: shared memory on PostgreSQL, tracked memory on ClickHouse.
    pub server_memory: Option<u64>,
    /// The settings of the server that affect measurements, by name.
    pub settings: BTreeMap<String, String>,
}

/// The execution of a read: its statements, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The statements of the call.
    pub statements: Vec<ExplainedStatement>,
}

/// A statement and its plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedStatement {
    /// The statement exactly as the backend sends it; for the memory engine, the call.
    pub statement: String,
    /// The plan as the store prints it, with the metrics of its operators where the store has them.
    pub plan: String,
}

/// A store of Lookout's jobs.
///
/// Guarantees of every call on every backend:
///
/// - **Order of errors.** Arguments are validated before a call exists, so an argument error
///   never depends on the store. Then `Closed`, then `NotInitialised`, then the rest.
/// - **Atomicity.** A batch is seen whole or not at all. ClickHouse alone, which has no
///   transaction across tables, may after a failure hold the batch's parts of some tables
///   (specs, errors, runs, jobs: in that order); repeating the batch completes it.
/// - **Cancellation.** Dropping a future never leaves a half-applied batch: either nothing or
///   all of it is applied, perhaps after the future was dropped.
/// - **Read-your-writes.** When a call returns, every later read from any handle sees it, of this process or
///   another.
/// - **Isolation of batches.** The result is that of the batches one after another. On ClickHouse this holds
///   among the handles of one process; processes that write at once must write different jobs.
/// - **Isolation of reads.** No read waits for a batch, and no batch for a read. The memory engine reads a
///   snapshot, and PostgreSQL answers each call by one statement (read committed): both show the state after
///   some whole number of batches. ClickHouse shows each table so, and may show one batch's specs, errors and
///   runs before its jobs; a page never shows its jobs before their runs. Two calls are never one snapshot.
/// - **Repetition.** A batch may be repeated after any failure, also one whose
///   [`Outcome`](crate::Outcome) is unknown: the result is as if it had been executed once, so long as no
///   other batch on the same jobs came between.
///
/// Comparison of texts is byte-wise everywhere, and a null matches no filter.
#[async_trait]
pub trait Database: fmt::Debug + Send + Sync {
    /// The backend.
    fn backend(&self) -> BackendKind;

    /// Creates the schema; keeps existing data. Several processes may call it at once.
    async fn initialise_schema(&self) -> Result<()>;

    /// Applies a validated batch.
    ///
    /// Inserts take effect before updates, the first insert of an id wins, updates of unknown
    /// ids are ignored, and a job that has ended changes no more, except that a preemption
    /// overrides SUCCEEDED, FAILED and CANCELLED. All of this is decided against the stored
    /// state, so splitting a batch never changes the outcome.
    async fn execute_ingestion_query_batch(&self, batch: &IngestionBatch) -> Result<()>;

    /// The page of jobs that a query selects, in its order, each with its annotations and all
    /// its runs. Ties come in any order. A skip past the end gives an empty list.
    async fn get_jobs(&self, query: &JobQuery) -> Result<Vec<Job>>;

    /// The page of groups of the jobs that a query selects, in its order.
    ///
    /// Jobs without the grouped annotation form no group; jobs without a namespace, latest
    /// run, node or pool form the group named "".
    async fn get_job_groups(&self, query: &GroupQuery) -> Result<Vec<JobGroup>>;

    /// The spec of an existing job; `NotFound` if there is no such job or it has no spec.
    async fn get_job_spec(&self, job_id: &str) -> Result<api::Job>;

    /// The error of an existing job, invalid UTF-8 replaced by U+FFFD; `NotFound` if there is
    /// no such job or it has no error.
    async fn get_job_error(&self, job_id: &str) -> Result<String>;

    /// The error of a run, which needs no job; `NotFound` if there is no such run or it has none.
    async fn get_job_run_error(&self, run_id: &str) -> Result<String>;

    /// The debug message of a run, which needs no job; `NotFound` if there is no such run or
    /// it has none.
    async fn get_job_run_debug_message(&self, run_id: &str) -> Result<String>;

    /// Adds finished jobs in bulk, leaving alone those that are there already, so that an
    /// interrupted call can simply be repeated. Atomic per chunk, not as a whole.
    async fn populate_historical_jobs(&self, jobs: &HistoricalJobs, progress: ProgressFn<'_>) -> Result<()>;

    /// The version and the size of the store, for comparisons.
    async fn store_info(&self) -> Result<StoreInfo> {
        Ok(StoreInfo::default())
    }

    /// The plan of a read, executed once where the store measures its operators.
    ///
    /// # Errors
    ///
    /// Those of the read itself, and `Backend` from a store that explains nothing, which is the default.
    async fn explain(&self, call: &ReadCall) -> Result<Explanation> {
        let _ = call;
        Err(Error::new(ErrorKind::Backend, Operation::Explain, "the store explains no calls")
            .with_backend(self.backend()))
    }

    /// A text that [`set_property`](Self::set_property) stored under `key`, if any.
    async fn property(&self, key: &str) -> Result<Option<String>> {
        let _ = key;
        Ok(None)
    }

    /// Stores a text about the store, beside its jobs, in place of the one before. `tear_down` removes it.
    /// The load driver stores the fingerprint of the historical jobs' configuration in one.
    ///
    /// # Errors
    ///
    /// `NotInitialised`, and `Backend` from a store that keeps no properties, which is the default.
    async fn set_property(&self, key: &str, value: &str) -> Result<()> {
        let _ = (key, value);
        Err(Error::new(ErrorKind::Backend, Operation::Property, "the store keeps no properties")
            .with_backend(self.backend()))
    }

    /// Another handle to the same store, with the same clock. It is open even if this one is closed, and closing one
    /// does not close the other.
    ///
    /// The memory engine's store lives as long as one of its handles. A handle to a server has connections of its own.
    ///
    /// # Errors
    ///
    /// On a server, `Unavailable` if it cannot be reached.
    async fn another_handle(&self) -> Result<Arc<dyn Database>>;

    /// Removes all data and leaves a usable, empty, initialised store.
    async fn tear_down(&self) -> Result<()>;

    /// Closes the handle: every later call through it returns `Closed`. Closing again does nothing.
    async fn close(&self) -> Result<()>;
}
