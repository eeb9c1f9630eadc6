//! Scenarios by the names that arguments give them.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use broadside::scenario::Scenario;

/// Where a scenario comes from.
pub struct Source<'a>(pub &'a Path);

impl Source<'_> {
    fn is_stdin(&self) -> bool {
        self.0 == Path::new("-")
    }

    /// The scenario, or why there is none.
    pub fn scenario(&self) -> Result<Scenario, String> {
        let bytes = self.read().map_err(|error| {
            if self.may_be_an_address() {
                format!(
                    "a file cannot be read, whose name does not end in .jsonl and may be part of an address: {error}"
                )
            } else {
                format!("{self}: {error}")
            }
        })?;
        Scenario::parse(&bytes).map_err(|error| format!("{self}:{}: {}", error.line(), error.problem()))
    }

    /// Whether what was given as a file may be what a mistake of quoting made of an address, and so a password.
    fn may_be_an_address(&self) -> bool {
        !self.is_stdin() && !self.0.exists() && self.0.extension() != Some(OsStr::new("jsonl"))
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        if !self.is_stdin() {
            return std::fs::read(self.0);
        }
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_stdin() { f.write_str("<stdin>") } else { self.0.display().fmt(f) }
    }
}
