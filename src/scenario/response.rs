//! What a call of a scenario gets.

use std::error::Error as _;
use std::fmt;

use serde_json::{Value, json};

use crate::error::{Error, ErrorKind};

/// The response to a call: in JSON `{"ok":…}` or `{"error":{"kind":"…","message":"…"}}`.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    /// What the call gave; null if it gives nothing.
    Ok(Value),
    /// Why it failed.
    Error {
        /// What went wrong, as far as a caller can act on it.
        kind: ErrorKind,
        /// The call and what was wrong with it. For the errors that arguments and the store's
        /// state alone decide it is the same on every backend.
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

/// The response as one line of JSON.
impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_json())
    }
}
