//! Configuration of the memory engine.

/// Configuration of the memory engine. There is nothing to set: the engine allocates what its jobs need, and runs on
/// the threads that call it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryConfig {}
