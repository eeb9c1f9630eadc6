//! The predicates of each field.

use super::field::{Annotation, IntegerField, StateField, TextField, TimeField};
use super::predicate::{AnnotationTest, Comparison, IntegerTest, Predicate, TextTest};
use crate::model::{JobState, StateSet};
use crate::time::Timestamp;

impl TextField {
    /// The text is `value`.
    pub fn equals(self, value: impl Into<String>) -> Predicate {
        Predicate::Text(self, TextTest::Exact(value.into()))
    }

    /// The text is one of `values`; without values no job matches.
    pub fn any_of<V: Into<String>>(self, values: impl IntoIterator<Item = V>) -> Predicate {
        Predicate::Text(self, TextTest::AnyOf(values.into_iter().map(Into::into).collect()))
    }

    /// The text begins with `prefix`.
    pub fn starts_with(self, prefix: impl Into<String>) -> Predicate {
        Predicate::Text(self, TextTest::StartsWith(prefix.into()))
    }

    /// The text contains `part`.
    pub fn contains(self, part: impl Into<String>) -> Predicate {
        Predicate::Text(self, TextTest::Contains(part.into()))
    }
}

impl StateField {
    /// The state is `state`.
    pub fn equals(self, state: JobState) -> Predicate {
        Predicate::State(StateSet::EMPTY.with(state))
    }

    /// The state is one of `states`; without states no job matches.
    pub fn any_of(self, states: impl IntoIterator<Item = JobState>) -> Predicate {
        Predicate::State(states.into_iter().collect())
    }
}

impl IntegerField {
    /// The integer is `value`.
    pub fn equals(self, value: i64) -> Predicate {
        self.compare(Comparison::Equal, value)
    }

    /// The integer is one of `values`; without values no job matches.
    pub fn any_of(self, values: impl IntoIterator<Item = i64>) -> Predicate {
        Predicate::Integer(self, IntegerTest::AnyOf(values.into_iter().collect()))
    }

    /// The integer is greater than `value`.
    pub fn greater_than(self, value: i64) -> Predicate {
        self.compare(Comparison::Greater, value)
    }

    /// The integer is less than `value`.
    pub fn less_than(self, value: i64) -> Predicate {
        self.compare(Comparison::Less, value)
    }

    /// The integer is greater than or equal to `value`.
    pub fn at_least(self, value: i64) -> Predicate {
        self.compare(Comparison::GreaterOrEqual, value)
    }

    /// The integer is less than or equal to `value`.
    pub fn at_most(self, value: i64) -> Predicate {
        self.compare(Comparison::LessOrEqual, value)
    }

    /// A comparison with `value`.
    pub fn compare(self, comparison: Comparison, value: i64) -> Predicate {
        Predicate::Integer(self, IntegerTest::Compare(comparison, value))
    }
}

impl TimeField {
    /// The instant is `time`.
    pub fn equals(self, time: Timestamp) -> Predicate {
        self.compare(Comparison::Equal, time)
    }

    /// The instant is later than `time`.
    pub fn greater_than(self, time: Timestamp) -> Predicate {
        self.compare(Comparison::Greater, time)
    }

    /// The instant is earlier than `time`.
    pub fn less_than(self, time: Timestamp) -> Predicate {
        self.compare(Comparison::Less, time)
    }

    /// The instant is `time` or later.
    pub fn at_least(self, time: Timestamp) -> Predicate {
        self.compare(Comparison::GreaterOrEqual, time)
    }

    /// The instant is `time` or earlier.
    pub fn at_most(self, time: Timestamp) -> Predicate {
        self.compare(Comparison::LessOrEqual, time)
    }

    /// A comparison with `time`.
    pub fn compare(self, comparison: Comparison, time: Timestamp) -> Predicate {
        Predicate::Time(self, comparison, time)
    }
}

impl<K: Into<String>> Annotation<K> {
    /// The job has the annotation.
    pub fn exists(self) -> Predicate {
        Predicate::Annotation(self.0.into(), AnnotationTest::Exists)
    }

    /// The value is `value`.
    pub fn equals(self, value: impl Into<String>) -> Predicate {
        self.value(TextTest::Exact(value.into()))
    }

    /// The value is one of `values`; without values no job matches.
    pub fn any_of<V: Into<String>>(self, values: impl IntoIterator<Item = V>) -> Predicate {
        self.value(TextTest::AnyOf(values.into_iter().map(Into::into).collect()))
    }

    /// The value begins with `prefix`.
    pub fn starts_with(self, prefix: impl Into<String>) -> Predicate {
        self.value(TextTest::StartsWith(prefix.into()))
    }

    /// The value contains `part`.
    pub fn contains(self, part: impl Into<String>) -> Predicate {
        self.value(TextTest::Contains(part.into()))
    }

    fn value(self, test: TextTest) -> Predicate {
        Predicate::Annotation(self.0.into(), AnnotationTest::Value(test))
    }
}
