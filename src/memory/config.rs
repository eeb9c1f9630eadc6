//! Configuration of the memory engine.

use std::fmt;

/// Configuration of the memory engine. It has no options: the engine allocates memory on demand and runs on the threads
/// of its callers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryConfig {}

impl MemoryConfig {
    /// The default configuration, which is the only one.
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Display for MemoryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}
