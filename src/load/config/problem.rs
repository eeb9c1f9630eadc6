//! What is wrong with a configuration.

use std::fmt;

use super::node::Place;

/// A value or key that a configuration should not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// The key, with the sections around it: `queueConfig[0].proportion`. Empty for the file as a whole.
    pub key: String,
    /// The value as it is written, or a stand-in for a secret. Empty for a value that is no scalar.
    pub value: String,
    /// What is wrong with it.
    pub message: String,
}

impl Problem {
    pub(super) fn new(place: &Place, key: &str, value: &str, message: impl Into<String>) -> Self {
        Self {
            file: place.file.to_string(),
            line: place.line,
            key: key.to_owned(),
            value: value.to_owned(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        match (self.key.as_str(), self.value.as_str()) {
            ("", _) => {}
            (key, "") => write!(f, "{key} ")?,
            (key, value) => write!(f, "{key}: {value:?} ")?,
        }
        f.write_str(&self.message)
    }
}

/// Why a configuration cannot be used: everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The problems, by file and line.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
