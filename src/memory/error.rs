//! Converts errors of DataFusion and Arrow to errors of the API.

use datafusion::error::DataFusionError;

use crate::error::{BackendKind, Error, ErrorKind, Operation};

/// Converts an error of the engine. The plans do not come from the caller, so every error is of kind `Backend`. The
/// message distinguishes exhausted memory.
pub(super) fn engine_error(operation: Operation, error: DataFusionError) -> Error {
    let message = match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => "the query needs more memory than the engine may use",
        _ => "the engine could not run the query",
    };
    Error::new(ErrorKind::Backend, operation, message).with_backend(BackendKind::Memory).with_source(error)
}
