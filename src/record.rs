//! The kinds of single records that the servers store.

use bytes::Bytes;

use crate::error::{BackendKind, Error, Operation};

/// A kind of record of a job or run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Record {
    JobSpec,
    JobError,
    RunError,
    RunDebugMessage,
}

impl Record {
    /// The call that reads the record.
    pub(crate) fn operation(self) -> Operation {
        match self {
            Self::JobSpec => Operation::GetJobSpec,
            Self::JobError => Operation::GetJobError,
            Self::RunError => Operation::GetJobRunError,
            Self::RunDebugMessage => Operation::GetJobRunDebugMessage,
        }
    }

    /// The error of a record that does not exist.
    pub(crate) fn not_found(self, backend: BackendKind, id: &str) -> Error {
        let (what, entity) = match self {
            Self::JobSpec => ("spec", "job"),
            Self::JobError => ("error", "job"),
            Self::RunError => ("error", "run"),
            Self::RunDebugMessage => ("debug message", "run"),
        };
        Error::not_found(self.operation(), what, entity, id).with_backend(backend)
    }
}

/// The text of a stored error or debug message.
pub(crate) fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
