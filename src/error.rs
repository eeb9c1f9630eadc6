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
    /// The arguments are invalid: nothing was sent to the store, and repeating the call fails again.
    InvalidArgument,
    /// The job, run, spec, error or message does not exist.
    NotFound,
    /// The store has no schema: call `initialise_schema` first.
    NotInitialised,
    /// The handle was closed.
    Closed,
    /// The store was not created by Broadside, or has another layout or version of the schema than the configuration.
    /// Nothing was written. In scenarios this kind is named `backend`.
    #[serde(rename = "backend")]
    WrongStore,
    /// The store cannot be reached, is overloaded, is restarting, or has reached its memory limit. A later call may
    /// succeed.
    Unavailable,
    /// The store did not answer within the timeout. In scenarios this kind is named `unavailable`.
    #[serde(rename = "unavailable")]
    Timeout,
    /// The store refused the call, or failed in a way that the caller cannot correct.
    Backend,
}

impl ErrorKind {
    /// The name of the kind in scenarios.
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
    /// The call may have been applied as a whole (on ClickHouse, in part): the connection was lost or the timeout
    /// expired after the request was sent. Or the call consists of several commits, of which only the first succeeded:
    /// then the message describes their effect. Repeating an ingestion batch is always safe: inserts of existing ids
    /// are ignored, and updates set the same values.
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
    /// A schema for ClickHouse.
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

/// A call of the API, or another operation that fails with an [`Error`].
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
    /// `job_count`
    JobCount,
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
    /// `export`
    Export,
    /// `import`
    Import,
    /// `store_info`
    StoreInfo,
    /// `activity`
    Activity,
    /// `explain`
    Explain,
    /// `analyse`
    Analyse,
    /// An SQL statement.
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
            Self::JobCount => "JobCount",
            Self::GetJobSpec => "GetJobSpec",
            Self::GetJobError => "GetJobError",
            Self::GetJobRunError => "GetJobRunError",
            Self::GetJobRunDebugMessage => "GetJobRunDebugMessage",
            Self::PopulateHistoricalJobs => "PopulateHistoricalJobs",
            Self::Export => "Export",
            Self::Import => "Import",
            Self::StoreInfo => "StoreInfo",
            Self::Activity => "Activity",
            Self::Explain => "Explain",
            Self::Analyse => "Analyse",
            Self::Sql => "Sql",
            Self::LoadTest => "LoadTest",
            Self::Property => "Property",
            Self::TearDown => "TearDown",
            Self::Close => "Close",
        })
    }
}

/// The error of every call: its kind, the call, the backend if one was involved, and the driver's error as
/// [`source`](StdError::source).
///
/// The message names the call and, for an invalid argument, the field and the value. It never contains a password.
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
    /// Creates an error without a backend and a source. The outcome is [`Outcome::NotApplied`].
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

    /// Creates an error of an invalid argument.
    pub fn invalid(operation: Operation, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, operation, message)
    }

    /// Creates the error of a record that does not exist: `what` is the record (`spec`) of the `entity` (`job`) with
    /// the given id. All stores use this message.
    pub fn not_found(operation: Operation, what: &str, entity: &str, id: &str) -> Self {
        Self::new(ErrorKind::NotFound, operation, format!("no {what} for {entity} {id:?}"))
    }

    /// Creates the error of a store without a schema. All stores use this message.
    pub fn not_initialised(operation: Operation) -> Self {
        Self::new(ErrorKind::NotInitialised, operation, "the store has no schema: call InitialiseSchema first")
    }

    /// Creates the error of a closed handle. All stores use this message.
    pub fn closed(operation: Operation) -> Self {
        Self::new(ErrorKind::Closed, operation, "the handle is closed")
    }

    /// Sets the backend.
    pub fn with_backend(mut self, backend: BackendKind) -> Self {
        self.0.backend = Some(backend);
        self
    }

    /// Sets the source.
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds an earlier change of the same call to the message, and sets the outcome to unknown.
    #[cfg(feature = "postgres")]
    pub(crate) fn after(mut self, done: &str) -> Self {
        self.0.message = format!("{done}; then: {}", self.0.message);
        self.with_unknown_outcome()
    }

    /// Sets the outcome to unknown.
    pub fn with_unknown_outcome(mut self) -> Self {
        self.0.outcome = Outcome::Unknown;
        self
    }

    /// Appends a note to the message.
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

    /// The backend that failed; `None` if the call did not reach one.
    pub fn backend(&self) -> Option<BackendKind> {
        self.0.backend
    }

    /// The effect of the call on the store.
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// The message without the call and the source.
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
