//! The interface of a store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::api::JobSpec;
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::exchange::{Part, Parts};
use crate::historical::HistoricalJobs;
use crate::ingest::{IngestionBatch, IngestionQuery};
use crate::model::{Job, JobGroup};
use crate::query::{GroupField, GroupQuery, JobQuery, ReadCall, ReadResult};

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

/// Properties of a store and its server, as far as the server reports them. An implementation sets fields of the
/// default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreInfo {
    /// The name and version of the server's software.
    pub version: Option<String>,
    /// The size of the data and the indexes, in bytes.
    pub bytes: Option<u64>,
    /// The size of the indexes, in bytes.
    pub index_bytes: Option<u64>,
    /// The memory of the server, in bytes: shared memory on PostgreSQL, tracked memory on ClickHouse.
    pub server_memory: Option<u64>,
    /// The settings of the server that affect measurements, by name.
    pub settings: BTreeMap<String, String>,
}

/// The activity of a server at a moment: statistics by name.
///
/// A name ends in the unit of its value: `Bytes`, `Micros` for microseconds, and nothing for a number. Statistics of
/// different servers have the same name only if they have the same meaning. An implementation sets fields of the
/// default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Activity {
    /// Totals, which only grow until the server restarts or its statistics are reset.
    pub counters: BTreeMap<String, u64>,
    /// Current values.
    pub gauges: BTreeMap<String, u64>,
    /// The views that the user may not read. Their statistics are left out.
    pub unreadable: Vec<String>,
}

/// The plan of a read: its statements, in order of execution.
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
/// All backends guarantee for every call:
///
/// - **Order of errors.** Arguments are validated when a query or a batch is built, so argument errors do not depend on
///   the store. `Closed` precedes `NotInitialised`, which precedes all other errors.
/// - **Atomicity.** A batch is visible as a whole or not at all. ClickHouse has no transactions across tables: after a
///   failure, it may contain the batch's rows of some tables (specs, errors, runs and jobs are written in this order);
///   repeating the batch completes it.
/// - **Cancellation.** Dropping a future never leaves part of a batch applied: either nothing or all of it is applied,
///   perhaps after the future was dropped.
/// - **Read-your-writes.** When a call has returned, every later read sees its effect, from any handle of any process.
/// - **Isolation of batches.** Batches are serializable: the result is that of executing them one after another. On
///   ClickHouse this holds among the handles of one process; processes that write concurrently must write different
///   jobs.
/// - **Isolation of reads.** Reads and batches do not wait for each other. The memory engine reads a snapshot, and
///   PostgreSQL executes each call as one statement (read committed): both read the state after a whole number of
///   batches. ClickHouse guarantees this for each table, and may show the specs, errors and runs of a batch before its
///   jobs; a page never shows jobs before their runs. Two calls do not share a snapshot.
/// - **Repetition.** A batch may be repeated after any failure, including one with an unknown
///   [`Outcome`](crate::Outcome): the result is that of executing it once, unless another batch on the same jobs was
///   executed in between.
///
/// Strings are compared by bytes, and a null matches no predicate.
#[async_trait]
pub trait Database: fmt::Debug + Send + Sync {
    /// The backend.
    fn backend(&self) -> BackendKind;

    /// Creates the schema and keeps existing data. Several processes may call it concurrently.
    async fn initialise_schema(&self) -> Result<()>;

    /// Applies a validated batch.
    ///
    /// Inserts precede updates, and the first insert of an id takes effect. Updates of unknown ids are ignored, and so
    /// are updates of terminal jobs, except that a preemption overrides SUCCEEDED, FAILED and CANCELLED. These rules
    /// apply to the stored state, so splitting a batch does not change the result.
    async fn execute_ingestion_query_batch(&self, batch: &IngestionBatch) -> Result<()>;

    /// Returns the jobs that a query selects, in its sort order, each with its annotations and all its runs. An offset
    /// beyond the last job returns an empty list.
    ///
    /// The order of ties is the same for every page of an unchanged store, so that consecutive pages return each job
    /// once. PostgreSQL guarantees it only for sort keys with an index that contains the id.
    ///
    /// A stored value that no batch can contain does not fail the page: an unknown state is returned as such, and a time
    /// outside the limits as the nearest one within them.
    async fn get_jobs(&self, query: &JobQuery) -> Result<Vec<Job>>;

    /// Returns the groups of the jobs that a query selects, in its sort order. Ties are ordered by name, ascending.
    ///
    /// Jobs without the grouped annotation are in no group; jobs without a namespace, latest run, node or pool are in
    /// the group named "".
    async fn get_job_groups(&self, query: &GroupQuery) -> Result<Vec<JobGroup>>;

    /// The spec of an existing job, byte for byte as it was ingested; `NotFound` if the job does not exist or has no spec.
    async fn get_job_spec(&self, job_id: &str) -> Result<JobSpec>;

    /// The error of an existing job, with invalid UTF-8 replaced by U+FFFD; `NotFound` if the job does not exist or has
    /// no error.
    async fn get_job_error(&self, job_id: &str) -> Result<String>;

    /// The error of a run, whose job need not exist; `NotFound` if the run does not exist or has no error.
    async fn get_job_run_error(&self, run_id: &str) -> Result<String>;

    /// The debug message of a run, whose job need not exist; `NotFound` if the run does not exist or has none.
    async fn get_job_run_debug_message(&self, run_id: &str) -> Result<String>;

    /// Inserts terminal jobs in bulk, except those whose ids exist: repeating an interrupted call completes it. Atomic
    /// for each chunk, not as a whole.
    async fn populate_historical_jobs(&self, jobs: &HistoricalJobs, progress: ProgressFn<'_>) -> Result<()>;

    /// Reads all rows of the store, as of a snapshot, after a position of an earlier export of the same store. The rows
    /// of a job are in one part. Dropping the parts ends the export; memory use does not depend on the size of the
    /// store.
    ///
    /// PostgreSQL reads one snapshot of all tables, and of several rows with one job id only the one that Lookout would
    /// repair last: a terminal one, or that of the last transition. ClickHouse has no snapshot: an export during batches
    /// has each job in a state of its own time. Positions of the memory engine are valid until the process ends.
    ///
    /// # Errors
    ///
    /// Those of a read, also as an element of the stream, after which it ends. `InvalidArgument` for a position that the
    /// store does not understand; `Backend` from a store without exports, which is the default.
    async fn export(&self, after: Option<&str>) -> Result<Parts<'static>> {
        let _ = after;
        Err(Error::new(ErrorKind::Backend, Operation::Export, "the store does not export rows")
            .with_backend(self.backend()))
    }

    /// Adds the rows of a part, except those whose ids exist, so that a repetition after any failure completes it.
    /// Atomic, except on ClickHouse, as for a batch.
    ///
    /// PostgreSQL stores the namespace "" instead of null, as Lookout requires, and leaves out values of columns that
    /// Lookout's tables in this store do not have. ClickHouse stores "" as null, a time outside the limits of ingestion
    /// as the nearest one within them, and no values of the columns that no query of this crate reads; it rejects
    /// unknown states.
    ///
    /// # Errors
    ///
    /// Those of a batch; `InvalidArgument` for a value that the store cannot have, such as an id that is too long;
    /// `Backend` from a store without imports, which is the default.
    async fn import(&self, part: &Part) -> Result<()> {
        let _ = part;
        Err(Error::new(ErrorKind::Backend, Operation::Import, "the store does not import rows")
            .with_backend(self.backend()))
    }

    /// The version, size and settings of the store.
    async fn store_info(&self) -> Result<StoreInfo> {
        Ok(StoreInfo::default())
    }

    /// The activity of the server, without locks on the store's tables. Empty for a store without a server.
    async fn activity(&self) -> Result<Activity> {
        Ok(Activity::default())
    }

    /// Updates the statistics of the store's planner, which otherwise follow large changes of the data with a delay. No
    /// effect on results. A store without such statistics does nothing, which is the default, and a server leaves out
    /// the tables that the user may not analyse.
    ///
    /// # Errors
    ///
    /// Those of a batch.
    async fn analyse(&self) -> Result<()> {
        Ok(())
    }

    /// The plan of a read. The read is executed if the plan has the metrics of its operators.
    ///
    /// # Errors
    ///
    /// Those of the read itself, and `Backend` from a store without plans, which is the default.
    async fn explain(&self, call: &ReadCall) -> Result<Explanation> {
        let _ = call;
        Err(Error::new(ErrorKind::Backend, Operation::Explain, "the store does not explain calls")
            .with_backend(self.backend()))
    }

    /// The value of a property that [`set_property`](Self::set_property) has set; `None` if it is not set.
    async fn property(&self, key: &str) -> Result<Option<String>> {
        let _ = key;
        Ok(None)
    }

    /// Sets a property of the store, a string by key, or removes it if the value is `None`. `tear_down` removes all
    /// properties. Load tests store the fingerprint of the configuration of the historical jobs.
    ///
    /// # Errors
    ///
    /// `NotInitialised`, and `Backend` from a store without properties, which is the default.
    async fn set_property(&self, key: &str, value: Option<&str>) -> Result<()> {
        let _ = (key, value);
        Err(Error::new(ErrorKind::Backend, Operation::Property, "the store does not support properties")
            .with_backend(self.backend()))
    }

    /// The number of stored jobs, before `initialise_schema` too: 0 without tables, and all jobs of tables that it would
    /// migrate to the handle's layout. Nothing is changed.
    ///
    /// The default is the sum of the groups by state.
    async fn job_count(&self) -> Result<u64> {
        match self.get_job_groups(&GroupQuery::by(GroupField::State)).await {
            Ok(groups) => Ok(groups.iter().map(|group| group.count).sum()),
            Err(error) if error.kind() == ErrorKind::NotInitialised => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Opens another handle to the same store, with the same clock. Each handle is closed separately.
    ///
    /// The store of the memory engine exists as long as one of its handles. A handle to a server has connections of its
    /// own.
    ///
    /// # Errors
    ///
    /// On a server, `Unavailable` if it cannot be reached.
    async fn another_handle(&self) -> Result<Arc<dyn Database>>;

    /// Removes all data. The store remains initialised.
    async fn tear_down(&self) -> Result<()>;

    /// Closes the handle: every later call returns `Closed`. Closing it again has no effect.
    async fn close(&self) -> Result<()>;
}

/// Shorter forms of the calls of [`Database`], for any of its implementations.
pub trait DatabaseExt: Database {
    /// Validates ingestion queries and applies them as one batch.
    ///
    /// ```
    /// use broadside::ingest::{InsertJob, NewJob};
    /// use broadside::{DatabaseExt, Timestamp};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> broadside::Result<()> {
    /// let database = broadside::connect("memory").await?;
    /// database.initialise_schema().await?;
    /// let job = NewJob::new("job-1", "risk", "nightly", "ann", Timestamp::from_seconds(1_767_225_600));
    /// database.ingest([InsertJob { job, job_spec: None }]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`IngestionBatch::new`] and of [`Database::execute_ingestion_query_batch`].
    fn ingest<Q: Into<IngestionQuery>>(
        &self,
        queries: impl IntoIterator<Item = Q>,
    ) -> impl Future<Output = Result<()>> + Send {
        let batch = IngestionBatch::new(queries.into_iter().map(Into::into));
        async move { self.execute_ingestion_query_batch(&batch?).await }
    }
}

impl<D: Database + ?Sized> DatabaseExt for D {}

impl ReadCall {
    /// Executes the call.
    ///
    /// # Errors
    ///
    /// Those of the method of [`Database`].
    pub async fn execute(&self, database: &dyn Database) -> Result<ReadResult> {
        Ok(match self {
            Self::Jobs(query) => ReadResult::Jobs(database.get_jobs(query).await?),
            Self::Groups(query) => ReadResult::Groups(database.get_job_groups(query).await?),
            Self::JobSpec(job_id) => ReadResult::Spec(database.get_job_spec(job_id).await?),
            Self::JobError(job_id) => ReadResult::Text(database.get_job_error(job_id).await?),
            Self::JobRunError(run_id) => ReadResult::Text(database.get_job_run_error(run_id).await?),
            Self::JobRunDebugMessage(run_id) => ReadResult::Text(database.get_job_run_debug_message(run_id).await?),
        })
    }
}
