//! The layouts of the tables.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How updates are stored. The semantics are the same in each layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Layout {
    /// ReplacingMergeTree: an update inserts the whole row with a higher version.
    Replacing,
    /// MergeTree: an update is a lightweight `UPDATE`, stored as a patch part.
    Patch,
}

impl Layout {
    /// The name of the layout in addresses and markers.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Replacing => "replacing",
            Self::Patch => "patch",
        }
    }
}

impl FromStr for Layout {
    type Err = ();

    fn from_str(name: &str) -> std::result::Result<Self, ()> {
        match name {
            "replacing" => Ok(Self::Replacing),
            "patch" => Ok(Self::Patch),
            _ => Err(()),
        }
    }
}
