//! The outcome of changes of several statements.

use crate::error::Result;

/// A change of several statements, each of which the server commits separately. After the first commit, an error has an
/// unknown outcome.
#[derive(Debug, Default)]
pub(super) struct Change {
    begun: bool,
}

impl Change {
    /// The result of a writing statement.
    pub(super) fn write<T>(&mut self, result: Result<T>) -> Result<T> {
        let result = self.read(result);
        self.begun |= result.is_ok();
        result
    }

    /// The result of a reading statement.
    pub(super) fn read<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| if self.begun { error.with_unknown_outcome() } else { error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Operation, Outcome};

    #[test]
    fn an_error_after_a_commit_has_an_unknown_outcome() {
        let failed = || Err::<(), _>(Error::not_initialised(Operation::TearDown));
        let mut change = Change::default();
        assert!(change.read(Ok(())).is_ok());
        assert_eq!(change.write(failed()).unwrap_err().outcome(), Outcome::NotApplied);
        assert!(change.write(Ok(())).is_ok());
        assert_eq!(change.read(failed()).unwrap_err().outcome(), Outcome::Unknown);
        assert_eq!(change.write(failed()).unwrap_err().outcome(), Outcome::Unknown);
    }
}
