//! Scenarios from files and standard input.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use broadside::scenario::Scenario;

/// The source of a scenario: a file, or `-` for standard input.
pub struct Source<'a>(pub &'a Path);

impl Source<'_> {
    fn is_stdin(&self) -> bool {
        self.0 == Path::new("-")
    }

    /// Reads and parses the scenario.
    pub fn scenario(&self) -> Result<Scenario, String> {
        let bytes = self.read().map_err(|error| {
            if self.may_be_an_address() {
                format!("cannot read a file (its name may be part of an address and is not shown): {error}")
            } else {
                format!("{self}: {error}")
            }
        })?;
        Scenario::parse(&bytes).map_err(|error| format!("{self}:{}: {}", error.line(), error.problem()))
    }

    /// Returns true if the file name may be part of an unquoted address, and so contain a password.
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
