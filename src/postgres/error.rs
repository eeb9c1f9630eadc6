//! Conversion of errors of the driver and the server to errors of the API, by SQLSTATE.

use std::error::Error as StdError;
use std::io;

use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::error::{BackendKind, Error, ErrorKind, Operation};

/// The failure of an attempt at a call. Its text is for logs.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the handle is closed")]
    Closed,
    /// No connection became free in time.
    #[error("no free connection")]
    NoFreeConnection,
    /// The server did not accept a connection within the connect timeout.
    #[error("connect timeout")]
    ConnectTimeout,
    /// No host accepted a session of the configured kind in its share of the connect timeout.
    #[error("no host accepts such a session")]
    NoHost,
    /// The last attempt to connect failed.
    #[error("{}", text(.0))]
    Unreachable(tokio_postgres::Error),
    /// The driver or the server failed.
    #[error("{}", text(.0))]
    Driver(#[from] tokio_postgres::Error),
    /// The connection was lost during COMMIT; the transaction may have committed.
    #[error("{}", text(.0))]
    InDoubt(tokio_postgres::Error),
    /// The server is read-only, and has accepted writes of this handle before: another one has taken its place.
    #[error("{}", text(.0))]
    Demoted(tokio_postgres::Error),
    /// The store is not the one that the configuration describes.
    #[error("{0}")]
    WrongStore(String),
    /// The value of a compressed record has more bytes than this.
    #[error("more than {0} bytes")]
    TooLong(u64),
    /// The encoding of the database, in which strings cannot be stored or compared correctly.
    #[error("encoding {0}")]
    Encoding(String),
    /// A statement of a key of the configuration failed.
    #[error("{}", text(.1))]
    Configured(&'static str, tokio_postgres::Error),
}

/// A step of a call that commits separately, for error messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    operation: Operation,
    /// What earlier steps of the call have committed.
    done: Option<&'static str>,
}

impl Step {
    /// A step after others that have committed.
    pub(super) const fn after(operation: Operation, done: &'static str) -> Self {
        Self { operation, done: Some(done) }
    }

    pub(super) fn operation(self) -> Operation {
        self.operation
    }
}

impl From<Operation> for Step {
    /// The first step of a call.
    fn from(operation: Operation) -> Self {
        Self { operation, done: None }
    }
}

/// The action that may resolve a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing.
    None,
    /// A retry: two transactions conflicted.
    Repeat,
    /// A new connection: the server is down, overloaded, restarting or replaced by another one.
    Reconnect,
}

/// The result of an attempt.
pub(super) type Attempt<T> = std::result::Result<T, Failure>;

impl Failure {
    /// The failure of COMMIT.
    pub(super) fn of_commit(error: tokio_postgres::Error) -> Self {
        let is_lost = remedy(&error) == Remedy::Reconnect || error.as_db_error().is_some_and(ends_session);
        if is_lost { Self::InDoubt(error) } else { Self::Driver(error) }
    }

    /// Whether the transaction is read-only.
    pub(super) fn is_read_only(&self) -> bool {
        matches!(self, Self::Driver(error) if is_read_only(error))
    }

    /// The failure of a handle whose writes the server has accepted before.
    pub(super) fn after_writes(self) -> Self {
        match self {
            Self::Driver(error) if is_read_only(&error) => Self::Demoted(error),
            other => other,
        }
    }

    /// Whether the session cannot be used for another call.
    pub(super) fn ends_session(&self) -> bool {
        let answer = match self {
            Self::Driver(error) | Self::InDoubt(error) => error.as_db_error(),
            _ => None,
        };
        self.remedy() == Remedy::Reconnect || self.is_read_only() || answer.is_some_and(ends_session)
    }

    /// The failure of the last attempt to connect.
    pub(super) fn while_connecting(self) -> Self {
        match self {
            Self::Driver(error) => Self::Unreachable(error),
            other => other,
        }
    }

    /// The action that may resolve the failure.
    pub(super) fn remedy(&self) -> Remedy {
        match self {
            Self::Driver(error) | Self::InDoubt(error) => remedy(error),
            Self::Configured(_, error) => remedy(error),
            Self::Demoted(_) => Remedy::Reconnect,
            Self::Closed
            | Self::NoFreeConnection
            | Self::ConnectTimeout
            | Self::NoHost
            | Self::Unreachable(_)
            | Self::WrongStore(_)
            | Self::TooLong(_)
            | Self::Encoding(_) => Remedy::None,
        }
    }

    /// Whether a table or schema does not exist.
    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Self::Driver(error) if error.code().is_some_and(is_undefined))
    }

    /// Whether the wait for a lock has exceeded its limit.
    pub(super) fn is_locked(&self) -> bool {
        matches!(self, Self::Driver(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
    }

    /// Whether the user lacks a privilege, or the transaction is read-only.
    pub(super) fn is_forbidden(&self) -> bool {
        let is_denied = matches!(self, Self::Driver(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE));
        is_denied || self.is_read_only()
    }

    /// Converts the failure to an error of the API.
    pub(super) fn into_error(self, step: Step) -> Error {
        let operation = step.operation;
        let unavailable = |message: &str| Error::new(ErrorKind::Unavailable, operation, message);
        let error = match self {
            Self::Closed => Error::closed(operation),
            Self::NoFreeConnection => unavailable("no connection became free within the acquire timeout"),
            Self::ConnectTimeout => unavailable("the server accepted no connection within the connect timeout"),
            Self::NoHost => {
                unavailable("no host accepted a session of the kind of target_session_attrs within the connect timeout")
            }
            Self::Driver(error) | Self::Unreachable(error) => driver_error(error, step),
            Self::InDoubt(error) => {
                with_cause(unavailable(&format!("the connection was lost during the commit: {}", text(&error))), error)
            }
            Self::Demoted(error) => unavailable(&text(&error)),
            Self::WrongStore(message) => Error::new(ErrorKind::WrongStore, operation, message),
            Self::TooLong(bytes) => {
                let message = format!("the value has more than {} MiB", bytes >> 20);
                Error::new(ErrorKind::Backend, operation, message)
            }
            Self::Encoding(encoding) => Error::new(
                ErrorKind::Backend,
                operation,
                format!("the encoding of the database is {encoding}: it must be UTF8 or SQL_ASCII"),
            ),
            Self::Configured(key, error) => {
                with_cause(Error::new(kind(&error), operation, format!("{key}: {}", text(&error))), error)
            }
        };
        let error = error.with_backend(BackendKind::Postgres);
        match step.done {
            Some(done) => error.after(done),
            None => error,
        }
    }
}

fn is_read_only(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
}

/// Whether a table or schema does not exist.
fn is_undefined(code: &SqlState) -> bool {
    [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME].contains(code)
}

/// Whether two transactions conflicted. A unique violation means that another transaction inserted the same id after
/// this one had looked for it.
fn is_conflict(code: &SqlState) -> bool {
    [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::UNIQUE_VIOLATION].contains(code)
}

/// Whether the server closes or rejects the connection for a transient reason.
fn is_disconnection(code: &SqlState) -> bool {
    code.code().starts_with("08")
        || [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::IDLE_SESSION_TIMEOUT,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            SqlState::TOO_MANY_CONNECTIONS,
        ]
        .contains(code)
}

/// Whether the server lacks memory, locks, disk space or connections, or a configured limit is exceeded.
fn is_shortage(code: &SqlState) -> bool {
    code.code().starts_with("53")
}

/// Whether the server closed the connection with this answer.
fn ends_session(answer: &DbError) -> bool {
    matches!(answer.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}

/// Whether the server closed the connection for lack of a resource, which other sessions may free. A statement that
/// fails for the same reason keeps its connection, and may itself require more of the resource than the server has.
fn is_fatal_shortage(answer: &DbError) -> bool {
    ends_session(answer) && is_shortage(answer.code())
}

/// Whether a column of a cached statement has got another type.
fn is_outdated_plan(answer: &DbError) -> bool {
    *answer.code() == SqlState::FEATURE_NOT_SUPPORTED && answer.routine() == Some("RevalidateCachedQuery")
}

/// Whether the statement was cancelled by the server or a timeout.
fn is_timeout(code: &SqlState) -> bool {
    [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE].contains(code)
}

/// The message for a rejected login. The server's message contains the user and the database, which in a mistyped
/// address may contain the password.
fn refused_login(code: &SqlState) -> Option<&'static str> {
    match code.code() {
        "28P01" => Some("the server refuses the user or the password (SQLSTATE 28P01)"),
        "28000" => Some("the server accepts no such user, database and kind of connection (SQLSTATE 28000)"),
        // Poolers answer so to any login that they refuse.
        "08P01" => Some("the server refuses the session (SQLSTATE 08P01)"),
        "3D000" => Some("the server has no such database (SQLSTATE 3D000)"),
        _ => None,
    }
}

fn remedy(error: &tokio_postgres::Error) -> Remedy {
    match error.code() {
        Some(code) if is_conflict(code) => Remedy::Repeat,
        // The statements of a transaction are sent without waiting for responses, so the error of the one that failed may
        // be read after that of a later one, which does not tell the cause.
        Some(code) if *code == SqlState::IN_FAILED_SQL_TRANSACTION => Remedy::Repeat,
        Some(code) if is_disconnection(code) => Remedy::Reconnect,
        Some(_) if error.as_db_error().is_some_and(|answer| is_fatal_shortage(answer) || is_outdated_plan(answer)) => {
            Remedy::Reconnect
        }
        Some(_) => Remedy::None,
        None if error.is_closed() || is_network_failure(error) => Remedy::Reconnect,
        None => Remedy::None,
    }
}

/// Whether the network failed. The driver also reports an untrusted certificate as an I/O error, of kind `InvalidData`.
fn is_network_failure(error: &tokio_postgres::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io_error) = cause.downcast_ref::<io::Error>() {
            return !matches!(
                io_error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied
            );
        }
        source = cause.source();
    }
    false
}

fn driver_error(error: tokio_postgres::Error, step: Step) -> Error {
    if step.done.is_none() && error.code().is_some_and(is_undefined) {
        return Error::not_initialised(step.operation);
    }
    let kind = match error.code() {
        // The rows of a batch are validated before, those of an import are not.
        Some(code) if step.operation == Operation::Import && is_bad_value(code) => ErrorKind::InvalidArgument,
        _ => kind(&error),
    };
    with_cause(Error::new(kind, step.operation, text(&error)), error)
}

/// Whether a table cannot have a value.
fn is_bad_value(code: &SqlState) -> bool {
    code.code().starts_with("22") || [SqlState::NOT_NULL_VIOLATION, SqlState::CHECK_VIOLATION].contains(code)
}

/// Adds the cause of the driver's error, unless it is the server's answer, which the message contains.
fn with_cause(error: Error, driver: tokio_postgres::Error) -> Error {
    if driver.as_db_error().is_some() {
        return error;
    }
    match driver.into_source() {
        Some(cause) => error.with_source(cause),
        None => error,
    }
}

fn kind(error: &tokio_postgres::Error) -> ErrorKind {
    match error.code() {
        Some(code) if is_timeout(code) => ErrorKind::Timeout,
        Some(code) if is_conflict(code) || is_disconnection(code) || is_shortage(code) => ErrorKind::Unavailable,
        None if remedy(error) == Remedy::Reconnect => ErrorKind::Unavailable,
        _ => ErrorKind::Backend,
    }
}

/// The server's message, SQLSTATE, detail and hint, or the driver's message without its cause.
fn text(error: &tokio_postgres::Error) -> String {
    let Some(answer) = error.as_db_error() else { return error.to_string() };
    if let Some(refused) = refused_login(answer.code()) {
        return refused.to_owned();
    }
    let notes: String = [answer.detail(), answer.hint()]
        .into_iter()
        .flatten()
        .map(|note| format!("; {}", note.trim_end_matches('.')))
        .collect();
    format!("{} (SQLSTATE {}){notes}", answer.message(), answer.code().code())
}
