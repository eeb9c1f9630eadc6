//! The error type of the public API.

use std::error::Error as StdError;
use std::fmt;

use serde::{Serialize, Serializer};

/// The result of every call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error, by what a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The arguments are malformed; nothing was sent to the store, and repeating the call fails again.
    InvalidArgument,
    /// The job, run, spec, error or message does not exist.
    NotFound,
    /// The store has no schema yet: call `initialise_schema` first.
    NotInitialised,
    /// The handle was closed.
    Closed,
    /// The store is not Broadside's, or holds another layout or version of the schema than the
    /// configuration asks for. Nothing was written. The contract's JSON has no word of its own for
    /// this: there it is `backend`.
    #[serde(rename = "backend")]
    WrongStore,
    /// The store cannot be reached, is overloaded or is restarting; a later call may succeed.
    Unavailable,
    /// The store was reached and did not answer in the time allowed. In the contract's JSON
    /// it is `unavailable`.
    #[serde(rename = "unavailable")]
    Timeout,
    /// The store refused or failed in a way that the caller cannot correct.
    Backend,
}

impl ErrorKind {
    /// The contract's JSON name of the kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalidArgument",
            Self::NotFound => "notFound",
            Self::NotInitialised => "notInitialised",
            Self::Closed => "closed",
            Self::Unavailable | Self::Timeout => "unavailable",
            Self::WrongStore | Self::Backend => "backend",
        }
    }
}

/// The effect of a failed call on the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The store is unchanged.
    NotApplied,
    /// The call may have been applied in whole (on ClickHouse, in part): the connection broke or the time ran out
    /// after it was sent. Or it is a change of the store in several commits, of which only the first were made: then
    /// the message says what they did. Repeating an ingestion batch is always safe: inserts of known
    /// ids are ignored and updates set what they had set.
    Unknown,
}

/// A backend. It serializes as its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// The embedded Arrow engine.
    Memory,
    /// Lookout's schema on PostgreSQL.
    Postgres,
    /// ClickHouse.
    ClickHouse,
    /// A store outside this crate that implements [`Database`](crate::Database), by its name.
    Other(&'static str),
}

impl BackendKind {
    /// The name in commands and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Postgres => "postgres",
            Self::ClickHouse => "clickhouse",
            Self::Other(name) => name,
        }
    }
}

impl Serialize for BackendKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A call of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Opening a handle: configuration and first connection.
    Connect,
    /// `initialise_schema`
    InitialiseSchema,
    /// `execute_ingestion_query_batch`
    ExecuteIngestionQueryBatch,
    /// `get_jobs`
    GetJobs,
    /// `get_job_groups`
    GetJobGroups,
    /// `get_job_spec`
    GetJobSpec,
    /// `get_job_error`
    GetJobError,
    /// `get_job_run_error`
    GetJobRunError,
    /// `get_job_run_debug_message`
    GetJobRunDebugMessage,
    /// `populate_historical_jobs`
    PopulateHistoricalJobs,
    /// `store_info`
    StoreInfo,
    /// `explain`
    Explain,
    /// A statement of SQL.
    Sql,
    /// A load test.
    LoadTest,
    /// `property` and `set_property`
    Property,
    /// `tear_down`
    TearDown,
    /// `close`
    Close,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "Connect",
            Self::InitialiseSchema => "InitialiseSchema",
            Self::ExecuteIngestionQueryBatch => "ExecuteIngestionQueryBatch",
            Self::GetJobs => "GetJobs",
            Self::GetJobGroups => "GetJobGroups",
            Self::GetJobSpec => "GetJobSpec",
            Self::GetJobError => "GetJobError",
            Self::GetJobRunError => "GetJobRunError",
            Self::GetJobRunDebugMessage => "GetJobRunDebugMessage",
            Self::PopulateHistoricalJobs => "PopulateHistoricalJobs",
            Self::StoreInfo => "StoreInfo",
            Self::Explain => "Explain",
            Self::Sql => "Sql",
            Self::LoadTest => "LoadTest",
            Self::Property => "Property",
            Self::TearDown => "TearDown",
            Self::Close => "Close",
        })
    }
}

/// The error of every call: its kind, the call, the backend where one was involved, and the
/// driver's own error as [`source`](StdError::source).
///
/// The text names the call and, for a bad argument, the field and the value. It never holds a
/// password.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: Operation,
    backend: Option<BackendKind>,
    outcome: Outcome,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` in `operation`, of no backend and without a source.
    pub fn new(kind: ErrorKind, operation: Operation, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            operation,
            backend: None,
            outcome: Outcome::NotApplied,
            message: message.into(),
            source: None,
        }))
    }

    /// A malformed argument.
    pub fn invalid(operation: Operation, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, operation, message)
    }

    /// `what` (`spec`, say) of `entity` (`job`, say) `id` does not exist. Every store has this message.
    pub fn not_found(operation: Operation, what: &str, entity: &str, id: &str) -> Self {
        Self::new(ErrorKind::NotFound, operation, format!("no {what} for {entity} {id:?}"))
    }

    /// The store has no schema yet. Every store has this message.
    pub fn not_initialised(operation: Operation) -> Self {
        Self::new(ErrorKind::NotInitialised, operation, "the store has no schema: call InitialiseSchema first")
    }

    /// The handle was closed. Every store has this message.
    pub fn closed(operation: Operation) -> Self {
        Self::new(ErrorKind::Closed, operation, "the handle is closed")
    }

    /// The same error, of `backend`.
    pub fn with_backend(mut self, backend: BackendKind) -> Self {
        self.0.backend = Some(backend);
        self
    }

    /// The same error, caused by `source`.
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error of a call that had made a change before: the message names the change, and the outcome is
    /// unknown.
    #[cfg(feature = "postgres")]
    pub(crate) fn after(mut self, done: &str) -> Self {
        self.0.message = format!("{done}; then: {}", self.0.message);
        self.with_unknown_outcome()
    }

    /// The same error, with its effect on the store unknown.
    pub fn with_unknown_outcome(mut self) -> Self {
        self.0.outcome = Outcome::Unknown;
        self
    }

    /// The same error, with a note at the end of its message.
    pub(crate) fn with_note(mut self, note: &str) -> Self {
        self.0.message.push_str("; ");
        self.0.message.push_str(note);
        self
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The call that failed.
    pub fn operation(&self) -> Operation {
        self.0.operation
    }

    /// The backend that failed; `None` if the call reached none.
    pub fn backend(&self) -> Option<BackendKind> {
        self.0.backend
    }

    /// The effect of the call on the store.
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// The message alone, without the call and the source.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.operation)?;
        if let Some(backend) = self.0.backend {
            write!(f, " ({backend})")?;
        }
        write!(f, ": {}", self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("operation", &self.0.operation)
            .field("backend", &self.0.backend)
            .field("outcome", &self.0.outcome)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
