//! Scenarios by the names that arguments give them.

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
        let bytes = self.read().map_err(|error| format!("{self}: {error}"))?;
        Scenario::parse(&bytes).map_err(|error| format!("{self}:{}: {}", error.line(), error.problem()))
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
