//! Configuration of the memory engine.

use std::fmt;

/// Configuration of the memory engine. There is nothing to set: the engine allocates what its jobs need, and runs on
/// the threads that call it.
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
