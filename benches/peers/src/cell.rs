//! Values of columns and parameters, and the errors of the engines.

use broadside::Timestamp;
use broadside::{Error, ErrorKind, Operation};

/// A value of a column or a parameter.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<i64> for Cell {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl From<Timestamp> for Cell {
    fn from(time: Timestamp) -> Self {
        Self::Integer(time.as_micros())
    }
}

/// The error of an engine.
pub(super) fn failed(problem: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Backend, Operation::Connect, problem.to_string())
}
