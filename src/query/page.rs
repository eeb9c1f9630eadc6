//! Sort direction, offset and limit.

use std::fmt;

/// A sort direction. It is displayed as the SQL keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Smallest value first.
    Ascending,
    /// Greatest value first.
    Descending,
}

impl Direction {
    /// Both directions.
    pub const ALL: [Self; 2] = [Self::Ascending, Self::Descending];
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ascending => "ASC",
            Self::Descending => "DESC",
        })
    }
}

/// An offset and a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Page {
    offset: u64,
    limit: Option<u64>,
}

/// The maximum offset and limit: the protocols of the servers use signed 64-bit integers.
const MAX: u64 = i64::MAX as u64;

impl Page {
    /// The offset: the number of rows to skip, at most `i64::MAX`.
    pub fn offset(self) -> u64 {
        self.offset
    }

    /// The limit: the maximum number of rows to return, 1 to `i64::MAX`; `None` for no limit.
    pub fn limit(self) -> Option<u64> {
        self.limit
    }

    pub(super) fn set_offset(&mut self, offset: u64) {
        self.offset = offset.min(MAX);
    }

    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = (limit > 0).then_some(limit.min(MAX));
    }
}
