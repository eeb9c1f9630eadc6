//! The key of a grouping: a dictionary, whose codes number the groups.

use std::cmp::Ordering;

use smol_str::{SmolStr, ToSmolStr};

use crate::memory::storage::{Dictionary, JobColumnIndex, Tables, job_state};
use crate::query::{GroupBy, TextField};

/// The key of a grouping.
///
/// The group of a code is the code plus one. Group 0 contains the rows with a null key. The group of a state is its
/// ordinal.
#[derive(Debug, Clone)]
pub(in crate::memory) enum GroupKey {
    /// With the number of ordinals up to the greatest one of a job.
    State(u32),
    Text(TextField, Dictionary),
    /// Rows without the key are in no group.
    Annotation(u32, Dictionary),
    /// An annotation key that no job has.
    Nothing,
}

impl GroupKey {
    pub(in crate::memory) fn new(tables: &Tables, group_by: &GroupBy) -> Self {
        match group_by {
            GroupBy::State => Self::State(tables.indexes.states.codes()),
            GroupBy::Text(field) => match tables.dictionaries.of(field.column()) {
                Some(texts) => Self::Text(*field, texts.clone()),
                None => Self::Nothing,
            },
            GroupBy::Annotation(key) => {
                let catalog = &tables.dictionaries.annotations;
                let code = catalog.keys.code(key);
                code.map_or(Self::Nothing, |key| Self::Annotation(key, catalog.values(key).clone()))
            }
        }
    }

    /// The number of groups, including group 0.
    pub(in crate::memory) fn groups(&self) -> usize {
        match self {
            Self::State(ordinals) => *ordinals as usize,
            Self::Text(_, dictionary) | Self::Annotation(_, dictionary) => dictionary.len() + 1,
            Self::Nothing => 1,
        }
    }

    pub(in crate::memory) fn groups_nulls(&self) -> bool {
        matches!(self, Self::Text(..))
    }

    pub(in crate::memory) fn name(&self, group: u32) -> SmolStr {
        match self {
            Self::State(_) => job_state(group as u8).to_smolstr(),
            _ => SmolStr::from(self.text(group)),
        }
    }

    fn text(&self, group: u32) -> &str {
        match self {
            Self::Text(_, dictionary) | Self::Annotation(_, dictionary) => {
                group.checked_sub(1).map_or("", |code| dictionary.text(code))
            }
            Self::State(_) | Self::Nothing => "",
        }
    }

    /// Compares names; states compare by their ordinal.
    pub(in crate::memory) fn compare_names(&self, a: u32, b: u32) -> Ordering {
        match self {
            Self::State(_) => a.cmp(&b),
            _ => self.text(a).cmp(self.text(b)),
        }
    }

    /// The stored column of the key; `None` for annotations.
    pub(in crate::memory) fn stored(&self) -> Option<JobColumnIndex> {
        match self {
            Self::State(_) => Some(JobColumnIndex::state),
            Self::Text(field, _) => JobColumnIndex::named(field.column()),
            Self::Annotation(..) | Self::Nothing => None,
        }
    }
}
