//! The response to a call of a scenario.

use std::error::Error as _;
use std::fmt;

use serde_json::{Value, json};

use crate::error::{Error, ErrorKind};

/// The response to a call: in JSON `{"ok":…}` or `{"error":{"kind":"…","message":"…"}}`.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    /// The result of the call; null for a call without one.
    Ok(Value),
    /// The error of the call.
    Error {
        /// The kind of the error.
        kind: ErrorKind,
        /// The name of the call and the message, which for errors of arguments and of the store's state is the same on
        /// every backend.
        message: String,
    },
}

impl Response {
    /// The response as JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Ok(value) => json!({ "ok": value }),
            Self::Error { kind, message } => {
                json!({ "error": { "kind": kind.name(), "message": message } })
            }
        }
    }
}

impl From<&Error> for Response {
    fn from(error: &Error) -> Self {
        let mut message = format!("{}: {}", error.operation(), error.message());
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::Error { kind: error.kind(), message }
    }
}

/// Formats the response as a line of JSON.
impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_json())
    }
}
