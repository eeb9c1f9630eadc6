//! Predicates on jobs, and selections, which are conjunctions of them.

use std::fmt;

use super::field::{IntegerField, TextField, TimeField};
use crate::model::StateSet;
use crate::time::Timestamp;

/// A selection of jobs: the conjunction of its predicates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    predicates: Vec<Predicate>,
    active_job_sets: bool,
}

impl Selection {
    /// The predicates, which are combined by AND. At most one of them is on the state, and it is the last.
    pub fn predicates(&self) -> &[Predicate] {
        &self.predicates
    }

    /// Whether the (queue, job set) of a job must contain an active job.
    pub fn active_job_sets(&self) -> bool {
        self.active_job_sets
    }

    /// The states that the predicates admit; all nine without a predicate on the state.
    pub fn states(&self) -> StateSet {
        self.state_predicate().unwrap_or(StateSet::ALL)
    }

    /// Whether a predicate is on a field of the latest run.
    pub fn uses_latest_run(&self) -> bool {
        self.predicates
            .iter()
            .any(|predicate| matches!(predicate, Predicate::Text(field, _) if field.is_of_latest_run()))
    }

    fn state_predicate(&self) -> Option<StateSet> {
        match self.predicates.last() {
            Some(Predicate::State(states)) => Some(*states),
            _ => None,
        }
    }

    /// Adds a predicate. Predicates on the state are intersected.
    pub(super) fn add(&mut self, predicate: Predicate) {
        let states = self.state_predicate();
        if states.is_some() {
            self.predicates.pop();
        }
        let states = match predicate {
            Predicate::State(more) => Some(states.unwrap_or(StateSet::ALL).intersection(more)),
            other => {
                self.predicates.push(other);
                states
            }
        };
        self.predicates.extend(states.map(Predicate::State));
    }

    pub(super) fn require_active_job_sets(&mut self) {
        self.active_job_sets = true;
    }
}

/// A predicate on a job. Nulls and absent annotations do not match.
///
/// Predicates are created by the methods of the fields: see [`TextField`], [`IntegerField`], [`TimeField`],
/// [`StateField`](super::StateField) and [`Annotation`](super::Annotation).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Predicate {
    /// A predicate on a text field.
    Text(TextField, TextTest),
    /// The state is in the set, which may be empty.
    State(StateSet),
    /// A predicate on an integer field.
    Integer(IntegerField, IntegerTest),
    /// A comparison of a time field, by microseconds.
    Time(TimeField, Comparison, Timestamp),
    /// A predicate on an annotation, by its key.
    Annotation(String, AnnotationTest),
}

impl Predicate {
    /// The size of the values on the heap, in bytes.
    #[cfg(feature = "memory")]
    pub(crate) fn heap_bytes(&self) -> usize {
        let text_bytes = |test: &TextTest| match test {
            TextTest::AnyOf(values) => values.iter().map(|value| size_of::<String>() + value.len()).sum(),
            TextTest::Exact(value) | TextTest::StartsWith(value) | TextTest::Contains(value) => value.len(),
        };
        match self {
            Self::Text(_, test) => text_bytes(test),
            Self::Annotation(key, AnnotationTest::Value(test)) => key.len() + text_bytes(test),
            Self::Annotation(key, AnnotationTest::Exists) => key.len(),
            Self::Integer(_, IntegerTest::AnyOf(values)) => size_of_val(values.as_slice()),
            Self::Integer(..) | Self::State(_) | Self::Time(..) => 0,
        }
    }
}

/// A predicate on a string. Strings are compared by bytes, and no character is a wildcard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextTest {
    /// Equality.
    Exact(String),
    /// Membership in a list; an empty list matches nothing.
    AnyOf(Vec<String>),
    /// A prefix.
    StartsWith(String),
    /// A substring.
    Contains(String),
}

impl TextTest {
    /// Whether a string matches.
    pub fn holds(&self, text: &str) -> bool {
        match self {
            Self::Exact(value) => text == value,
            Self::AnyOf(values) => values.iter().any(|value| value == text),
            Self::StartsWith(prefix) => text.starts_with(prefix.as_str()),
            Self::Contains(part) => text.contains(part.as_str()),
        }
    }
}

/// A predicate on an annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnnotationTest {
    /// The annotation exists.
    Exists,
    /// The annotation exists and its value matches.
    Value(TextTest),
}

impl AnnotationTest {
    /// Whether the value of an annotation matches.
    pub fn holds(&self, value: &str) -> bool {
        match self {
            Self::Exists => true,
            Self::Value(test) => test.holds(value),
        }
    }
}

/// A predicate on an integer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntegerTest {
    /// A comparison with one value.
    Compare(Comparison, i64),
    /// Membership in a list; an empty list matches nothing.
    AnyOf(Vec<i64>),
}

impl IntegerTest {
    /// Whether an integer matches.
    pub fn holds(&self, column: i64) -> bool {
        match self {
            Self::Compare(comparison, value) => comparison.holds(&column, value),
            Self::AnyOf(values) => values.contains(&column),
        }
    }
}

/// A comparison operator with the column on the left. It is displayed as the SQL operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// column = value
    Equal,
    /// column > value
    Greater,
    /// column < value
    Less,
    /// column ≥ value
    GreaterOrEqual,
    /// column ≤ value
    LessOrEqual,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::GreaterOrEqual => ">=",
            Self::LessOrEqual => "<=",
        })
    }
}

impl Comparison {
    /// Every operator.
    pub const ALL: [Self; 5] = [Self::Equal, Self::Greater, Self::Less, Self::GreaterOrEqual, Self::LessOrEqual];

    /// Evaluates the comparison.
    pub fn holds<T: Ord + ?Sized>(self, column: &T, value: &T) -> bool {
        match self {
            Self::Equal => column == value,
            Self::Greater => column > value,
            Self::Less => column < value,
            Self::GreaterOrEqual => column >= value,
            Self::LessOrEqual => column <= value,
        }
    }
}
