//! Conversion of errors of the driver, the network and the server to errors of the API, by the server's code.

use std::error::Error as StdError;
use std::io;

use clickhouse::error::Error as DriverError;

use crate::error::{BackendKind, Error, ErrorKind, Operation};

// ClickHouse's error codes with their names.
const UNKNOWN_TABLE: u32 = 60;
const UNKNOWN_DATABASE: u32 = 81;
const TIMEOUT_EXCEEDED: u32 = 159;
const UNKNOWN_USER: u32 = 192;
const WRONG_PASSWORD: u32 = 193;
const REQUIRED_PASSWORD: u32 = 194;
const TOO_MANY_SIMULTANEOUS_QUERIES: u32 = 202;
const NO_FREE_CONNECTION: u32 = 203;
const SOCKET_TIMEOUT: u32 = 209;
const NETWORK_ERROR: u32 = 210;
/// Returned by DROP DATABASE if the pending statement of a dropped call creates a table concurrently.
const DATABASE_NOT_EMPTY: u32 = 219;
const NO_ZOOKEEPER: u32 = 225;
const ABORTED: u32 = 236;
const TABLE_IS_READ_ONLY: u32 = 242;
/// The query's own limit, or that of all queries and merges of the server. The latter is often exceeded only for a while,
/// and the inserts and the reads of a batch are bounded.
const MEMORY_LIMIT_EXCEEDED: u32 = 241;
const TOO_MANY_PARTS: u32 = 252;
const ALL_CONNECTION_TRIES_FAILED: u32 = 279;
const TOO_FEW_LIVE_REPLICAS: u32 = 285;
/// Another insert into the table waits for its quorum.
const UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE: u32 = 286;
/// The replica does not have all rows yet.
const REPLICA_IS_NOT_IN_QUORUM: u32 = 289;
const UNKNOWN_STATUS_OF_INSERT: u32 = 319;
const QUERY_WAS_CANCELLED: u32 = 394;
const AUTHENTICATION_FAILED: u32 = 516;
const QUERY_CACHE_USED_WITH_SYSTEM_TABLE: u32 = 719;
const SERVER_OVERLOADED: u32 = 745;
const KEEPER_EXCEPTION: u32 = 999;

/// The failure of a request.
#[derive(Debug)]
pub(super) enum Failure {
    /// An error of the driver or the server.
    Driver(DriverError),
    /// The request timed out.
    TimedOut,
}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

impl Failure {
    /// Whether the request may be retried. A request that timed out is not retried, because the caller has waited for
    /// the full timeout.
    pub(super) fn is_transient(&self) -> bool {
        self.kind() == ErrorKind::Unavailable && !self.is_connect_timeout()
    }

    /// Whether the server refuses an insert only until that of another client has its quorum of replicas.
    pub(super) fn waits_for_quorum(&self) -> bool {
        matches!(self, Self::Driver(error) if exception_code(error) == Some(UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE))
    }

    /// Whether the request certainly had no effect: it was not sent, or the server rejected it.
    pub(super) fn had_no_effect(&self) -> bool {
        match self {
            Self::TimedOut => false,
            Self::Driver(DriverError::Network(_)) => self.is_connect(),
            Self::Driver(DriverError::TimedOut) => false,
            Self::Driver(error) => !matches!(
                exception_code(error),
                Some(
                    TIMEOUT_EXCEEDED | SOCKET_TIMEOUT | NETWORK_ERROR | UNKNOWN_STATUS_OF_INSERT | QUERY_WAS_CANCELLED
                )
            ),
        }
    }

    fn refuses_login(&self) -> bool {
        let Self::Driver(error) = self else { return false };
        matches!(exception_code(error), Some(UNKNOWN_USER | WRONG_PASSWORD | REQUIRED_PASSWORD | AUTHENTICATION_FAILED))
    }

    /// A description of the failure that contains no part of the server's message or the address.
    pub(super) fn summary(&self) -> String {
        self.message(self.kind())
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::TimedOut | Self::Driver(DriverError::TimedOut) => ErrorKind::Timeout,
            Self::Driver(DriverError::Network(_)) if self.is_of_tls() => ErrorKind::Backend,
            Self::Driver(DriverError::Network(_)) => ErrorKind::Unavailable,
            Self::Driver(error) => exception_code(error).map_or_else(|| kind_without_code(error), kind_of_code),
        }
    }

    fn is_connect(&self) -> bool {
        self.http_error().is_some_and(hyper_util::client::legacy::Error::is_connect)
    }

    fn is_connect_timeout(&self) -> bool {
        self.is_connect() && self.io_error().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    }

    /// Whether TLS failed: one side rejects the certificate of the other, or the server has no TLS.
    fn is_of_tls(&self) -> bool {
        std::iter::successors(self.io_error(), |&error| error.get_ref()?.downcast_ref())
            .filter_map(io::Error::get_ref)
            .any(|error| error.is::<rustls::Error>())
    }

    fn io_error(&self) -> Option<&io::Error> {
        let first = self.http_error().and_then(StdError::source);
        std::iter::successors(first, |&error| error.source()).find_map(|error| error.downcast_ref())
    }

    fn http_error(&self) -> Option<&hyper_util::client::legacy::Error> {
        match self {
            Self::Driver(DriverError::Network(error)) => error.downcast_ref(),
            _ => None,
        }
    }

    /// Converts the failure to an error of the API.
    pub(super) fn into_error(self, operation: Operation) -> Error {
        let kind = self.kind();
        if kind == ErrorKind::NotInitialised {
            // Calling InitialiseSchema resolves the error, so the server's error is not the source.
            return Error::not_initialised(operation).with_backend(BackendKind::ClickHouse);
        }
        let refused = self.refuses_login();
        let error = Error::new(kind, operation, self.message(kind)).with_backend(BackendKind::ClickHouse);
        match self {
            // The server's message contains the user, which in a mistyped address may contain the password.
            Self::Driver(_) if refused => error,
            Self::Driver(source) => error.with_source(source),
            Self::TimedOut => error,
        }
    }

    fn message(&self, kind: ErrorKind) -> String {
        match (kind, self) {
            (ErrorKind::Timeout, _) | (_, Self::TimedOut) => "the server did not answer in time".to_owned(),
            (ErrorKind::Unavailable, Self::Driver(error)) => match exception_code(error) {
                Some(code) => format!("the server cannot answer now (code {code})"),
                None => "the server cannot be reached".to_owned(),
            },
            (_, Self::Driver(error)) => match exception_code(error) {
                Some(_) if self.refuses_login() => "the server refuses the user or the password".to_owned(),
                Some(QUERY_CACHE_USED_WITH_SYSTEM_TABLE) => {
                    "the user's profile has use_query_cache=1 and the user may not change it: results would be outdated"
                        .to_owned()
                }
                Some(code) => format!("the server refuses or fails (code {code})"),
                None if self.is_of_tls() => "the TLS connection was refused".to_owned(),
                None => "the server or the driver failed".to_owned(),
            },
        }
    }
}

/// The code of a server exception. The driver keeps only the text of the response, which in ClickHouse's protocol
/// begins with the code: `Code: 60. DB::Exception: …`.
fn exception_code(error: &DriverError) -> Option<u32> {
    let DriverError::BadResponse(text) = error else { return None };
    let number = text.strip_prefix("Code: ")?;
    let digits = number.bytes().take_while(u8::is_ascii_digit).count();
    number[..digits].parse().ok()
}

/// The kind of a response without a code, which does not come from ClickHouse but from a proxy.
fn kind_without_code(error: &DriverError) -> ErrorKind {
    match error {
        DriverError::BadResponse(_) => ErrorKind::Unavailable,
        _ => ErrorKind::Backend,
    }
}

fn kind_of_code(code: u32) -> ErrorKind {
    match code {
        UNKNOWN_TABLE | UNKNOWN_DATABASE => ErrorKind::NotInitialised,
        TIMEOUT_EXCEEDED | SOCKET_TIMEOUT => ErrorKind::Timeout,
        TOO_MANY_SIMULTANEOUS_QUERIES
        | NO_FREE_CONNECTION
        | NETWORK_ERROR
        | DATABASE_NOT_EMPTY
        | NO_ZOOKEEPER
        | ABORTED
        | MEMORY_LIMIT_EXCEEDED
        | TABLE_IS_READ_ONLY
        | TOO_MANY_PARTS
        | ALL_CONNECTION_TRIES_FAILED
        | TOO_FEW_LIVE_REPLICAS
        | UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
        | REPLICA_IS_NOT_IN_QUORUM
        | UNKNOWN_STATUS_OF_INSERT
        | QUERY_WAS_CANCELLED
        | SERVER_OVERLOADED
        | KEEPER_EXCEPTION => ErrorKind::Unavailable,
        _ => ErrorKind::Backend,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Failure {
        Failure::Driver(DriverError::BadResponse(text.to_owned()))
    }

    #[test]
    fn the_code_determines_the_kind() {
        for (text, kind) in [
            ("Code: 60. DB::Exception: Unknown table", ErrorKind::NotInitialised),
            ("Code: 81. DB::Exception: Database x does not exist", ErrorKind::NotInitialised),
            ("Code: 159. DB::Exception: Timeout exceeded", ErrorKind::Timeout),
            ("Code: 202. DB::Exception: Too many", ErrorKind::Unavailable),
            ("Code: 241. DB::Exception: Memory limit (total) exceeded", ErrorKind::Unavailable),
            ("Code: 289. DB::Exception: Replica doesn't have part", ErrorKind::Unavailable),
            ("Code: 516. DB::Exception: default: Authentication failed", ErrorKind::Backend),
            ("Code: 62. DB::Exception: Syntax error, Code: 60.", ErrorKind::Backend),
            ("502 Bad Gateway", ErrorKind::Unavailable),
            ("<html>", ErrorKind::Unavailable),
            ("Code: soon", ErrorKind::Unavailable),
        ] {
            let error = answer(text).into_error(Operation::GetJobs);
            assert_eq!(error.kind(), kind, "{text}");
            assert_eq!(error.backend(), Some(BackendKind::ClickHouse));
        }
        assert_eq!(Failure::TimedOut.into_error(Operation::GetJobs).kind(), ErrorKind::Timeout);
    }

    #[test]
    fn the_error_of_a_rejected_login_does_not_contain_the_user() {
        let error = answer("Code: 516. DB::Exception: hunter2: Authentication failed").into_error(Operation::Connect);
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }

    #[test]
    fn only_rejected_or_unsent_requests_had_no_effect() {
        assert!(answer("Code: 252. DB::Exception: Too many parts").had_no_effect());
        assert!(!answer("Code: 159. DB::Exception: Timeout exceeded").had_no_effect());
        assert!(!Failure::TimedOut.had_no_effect());
        assert!(!Failure::Driver(DriverError::Network("reset".into())).had_no_effect());
    }
}
