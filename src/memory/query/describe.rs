//! Predicates in the output of EXPLAIN.

use std::fmt::Debug;

use crate::model::JobState;
use crate::query::{AnnotationTest, IntegerTest, Predicate, TextTest};

/// The number of values of a list that are shown.
const SHOWN: usize = 8;

fn list<T: Debug>(values: &[T]) -> String {
    match values.split_at_checked(SHOWN) {
        Some((first, rest)) if !rest.is_empty() => format!("{first:?} and {} more", rest.len()),
        _ => format!("{values:?}"),
    }
}

pub(super) fn describe(predicate: &Predicate) -> String {
    let test = |name: &str, test: &TextTest| match test {
        TextTest::Exact(value) => format!("{name} = {value:?}"),
        TextTest::AnyOf(values) => format!("{name} in {}", list(values)),
        TextTest::StartsWith(start) => format!("{name} starts with {start:?}"),
        TextTest::Contains(part) => format!("{name} contains {part:?}"),
    };
    match predicate {
        Predicate::Text(field, of) => test(field.column(), of),
        Predicate::State(states) => {
            let names: Vec<_> = states.iter().map(JobState::name).collect();
            format!("state in [{}]", names.join(", "))
        }
        Predicate::Integer(field, IntegerTest::Compare(comparison, value)) => {
            format!("{} {comparison} {value}", field.column())
        }
        Predicate::Integer(field, IntegerTest::AnyOf(values)) => {
            format!("{} in {}", field.column(), list(values))
        }
        Predicate::Time(field, comparison, time) => {
            format!("{} {comparison} {time}", field.column())
        }
        Predicate::Annotation(key, AnnotationTest::Exists) => format!("annotation {key:?} exists"),
        Predicate::Annotation(key, AnnotationTest::Value(of)) => test(&format!("annotation {key:?}"), of),
    }
}
