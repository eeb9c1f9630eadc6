//! Problems of configurations.

use std::fmt;
use std::sync::Arc;

/// The source location of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceLocation {
    /// The name of a file or of an environment variable.
    pub(super) file: Arc<str>,
    /// The line in a file, 0 for a variable.
    pub(super) line: u64,
}

impl SourceLocation {
    pub(super) fn variable(name: &str) -> Self {
        Self { file: name.into(), line: 0 }
    }

    pub(super) fn is_variable(&self) -> bool {
        self.line == 0
    }
}

/// An invalid value or key of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Problem {
    /// The name of the file or of the environment variable.
    pub file: String,
    /// The line, starting at 1; 0 for an environment variable.
    pub line: u64,
    /// The path of the key: `queueConfig[0].proportion`. Empty for the file or variable as a whole.
    pub key: String,
    /// The value as written. Empty for values of `databaseConfig` that may be secrets, and for lists and mappings.
    pub value: String,
    /// The description of the problem.
    pub message: String,
}

impl Problem {
    pub(super) fn new(location: &SourceLocation, key: &str, value: &str, message: impl Into<String>) -> Self {
        Self {
            file: location.file.to_string(),
            line: location.line,
            key: key.to_owned(),
            value: value.to_owned(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.key.as_str()) {
            (0, "") => write!(f, "{} ", self.file)?,
            (0, _) => write!(f, "{}: ", self.file)?,
            (line, _) => write!(f, "{}:{line}: ", self.file)?,
        }
        match (self.key.as_str(), self.value.as_str()) {
            ("", _) => {}
            (key, "") => write!(f, "{key} ")?,
            (key, value) => write!(f, "{key}: {value:?} ")?,
        }
        f.write_str(&self.message)
    }
}

/// An invalid configuration, with all its problems.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
#[non_exhaustive]
pub struct ConfigError {
    /// The problems, ordered by file and line.
    pub problems: Vec<Problem>,
}
