//! References between tables.

/// A reference by id to a row of another table, which need not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reference {
    /// The row.
    Row(u32),
    /// The index of an id without a row.
    Dangling(u32),
}

/// The flag of a dangling index; rows are below it.
const DANGLING: u32 = 1 << 31;

impl Reference {
    pub(crate) const fn pack(self) -> u32 {
        match self {
            Self::Row(row) => row,
            Self::Dangling(index) => DANGLING | index,
        }
    }

    pub(crate) const fn unpack(packed: u32) -> Self {
        if packed < DANGLING { Self::Row(packed) } else { Self::Dangling(packed & !DANGLING) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_round_trip() {
        for reference in [Reference::Row(0), Reference::Row(DANGLING - 1), Reference::Dangling(12)] {
            assert_eq!(Reference::unpack(reference.pack()), reference);
        }
    }
}
