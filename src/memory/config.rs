//! Configuration of the memory engine.

/// Configuration of the memory engine, which has nothing to set: it takes what memory its jobs
/// need, and runs on the threads that call it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryConfig {}
