//! What jobs are grouped by: a dictionary, so that a group is a number.

use std::cmp::Ordering;

use smol_str::SmolStr;

use crate::memory::storage::{Dictionary, JobPlace, Tables};
use crate::model::JobState;
use crate::query::{GroupBy, TextField};

/// What is grouped by, with what names the groups.
///
/// The group of a code is one more than the code; 0 is the group of the rows without a text. The
/// group of a state is its ordinal.
#[derive(Debug, Clone)]
pub(in crate::memory) enum GroupKey {
    State,
    Text(TextField, Dictionary),
    /// Rows without the key are in no group.
    Annotation(u32, Dictionary),
    /// An annotation key that no job has.
    Nothing,
}

impl GroupKey {
    pub(in crate::memory) fn new(tables: &Tables, group_by: &GroupBy) -> Self {
        match group_by {
            GroupBy::State => Self::State,
            GroupBy::Text(field) => match tables.dictionaries.of(*field) {
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

    /// How many groups there can be, that of the rows without a value among them.
    pub(in crate::memory) fn groups(&self) -> usize {
        match self {
            Self::State => JobState::ALL.len() + 1,
            Self::Text(_, dictionary) | Self::Annotation(_, dictionary) => dictionary.len() + 1,
            Self::Nothing => 1,
        }
    }

    /// Whether rows without a value make a group.
    pub(in crate::memory) fn groups_nulls(&self) -> bool {
        matches!(self, Self::Text(..))
    }

    pub(in crate::memory) fn name(&self, group: u32) -> SmolStr {
        SmolStr::from(self.text(group))
    }

    fn text(&self, group: u32) -> &str {
        match self {
            Self::State => JobState::from_ordinal(group as u8).map_or("", JobState::name),
            Self::Text(_, dictionary) | Self::Annotation(_, dictionary) => {
                group.checked_sub(1).map_or("", |code| dictionary.text(code))
            }
            Self::Nothing => "",
        }
    }

    /// By name; states by ordinal, which is their group.
    pub(in crate::memory) fn compare_names(&self, a: u32, b: u32) -> Ordering {
        match self {
            Self::State => a.cmp(&b),
            _ => self.text(a).cmp(self.text(b)),
        }
    }

    /// The place of the stored column that is grouped by; none for annotations.
    pub(in crate::memory) fn stored(&self) -> Option<JobPlace> {
        Some(match self {
            Self::State => JobPlace::state,
            Self::Text(field, _) => match field {
                TextField::JobId => return None,
                TextField::Queue => JobPlace::queue,
                TextField::JobSet => JobPlace::job_set,
                TextField::Owner => JobPlace::owner,
                TextField::Namespace => JobPlace::namespace,
                TextField::PriorityClass => JobPlace::priority_class,
                TextField::Cluster => JobPlace::cluster,
                TextField::Node => JobPlace::node,
                TextField::Pool => JobPlace::pool,
            },
            Self::Annotation(..) | Self::Nothing => return None,
        })
    }
}
