//! The layouts of the tables.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How updates are stored. The semantics are the same in each layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Layout {
    /// ReplacingMergeTree: an update inserts the whole row with a higher version.
    Replacing,
    /// MergeTree: an update is a lightweight `UPDATE`, stored as a patch part.
    Patch,
}

/// The name of the layout in addresses and markers.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
