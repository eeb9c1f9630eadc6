//! Selections of jobs: conditions of WHERE.

use super::Reads;
use crate::clickhouse::statement::Values;
use crate::clickhouse::tables::ANNOTATION_PAIRS;
use crate::model::{JobState, StateSet};
use crate::query::{AnnotationTest, IntegerField, IntegerTest, Predicate, Selection, TextTest};

/// The maximum number of values of an annotation that are compared as whole pairs. Each pair of a row is compared with
/// each value, which for more values costs more than the index saves.
const MAX_PAIRS: usize = 1000;

/// A condition that is always false.
const NONE: &str = "false";

/// The conditions of `WHERE`.
#[derive(Default)]
pub(super) struct Conditions(Vec<String>);

impl Conditions {
    /// The conditions of a selection.
    pub(super) fn of(reads: Reads, selection: &Selection, values: &mut Values) -> Self {
        let Reads { merged, global } = reads;
        let mut conditions = Self::default();
        let mut of_latest_run = Vec::new();
        for predicate in selection.predicates() {
            match predicate {
                Predicate::Text(field, test) if field.is_of_latest_run() => {
                    of_latest_run.push(text_test(field.column(), test, values));
                }
                Predicate::Text(field, test) => conditions.0.push(text_test(field.column(), test, values)),
                Predicate::State(states) => conditions.0.push(state_test(*states, values)),
                Predicate::Integer(field, test) => conditions.0.push(integer_test(*field, test, values)),
                Predicate::Time(field, comparison, time) => conditions.0.push(format!(
                    "toUnixTimestamp64Micro({}) {} {}",
                    field.column(),
                    comparison,
                    values.integer(time.as_micros())
                )),
                Predicate::Annotation(key, test) => conditions.0.push(annotation_test(key, test, values)),
            }
        }
        if !of_latest_run.is_empty() {
            conditions.0.push(format!(
                "latest_run_id {global}IN (SELECT run_id FROM job_run{merged} WHERE {})",
                of_latest_run.join(" AND ")
            ));
        }
        if selection.active_job_sets() {
            conditions.0.push(format!(
                "(queue, job_set) {global}IN (SELECT queue, job_set FROM job{merged} WHERE {} GROUP BY queue, job_set)",
                state_test(StateSet::ACTIVE, values)
            ));
        }
        conditions
    }

    /// Adds the condition that a job has an annotation.
    pub(super) fn require_annotation(&mut self, key: &str, values: &mut Values) {
        self.0.push(annotation_exists(key, values));
    }

    /// The WHERE clause.
    pub(super) fn sql(self) -> String {
        if self.0.is_empty() { String::new() } else { format!(" WHERE {}", self.0.join(" AND ")) }
    }
}

/// A predicate on a string column, in which an empty string represents null and matches nothing.
fn text_test(column: &str, test: &TextTest, values: &mut Values) -> String {
    match test {
        TextTest::Exact(text) if text.is_empty() => NONE.to_owned(),
        TextTest::Exact(text) => format!("{column} = {}", values.text(text)),
        TextTest::AnyOf(texts) => {
            let texts: Vec<_> = texts.iter().filter(|text| !text.is_empty()).collect();
            if texts.is_empty() { NONE.to_owned() } else { values.is_in(column, &texts) }
        }
        TextTest::StartsWith(text) | TextTest::Contains(text) if text.is_empty() => format!("{column} != ''"),
        TextTest::StartsWith(text) => format!("startsWith({column}, {})", values.text(text)),
        TextTest::Contains(text) => format!("position({column}, {}) > 0", values.text(text)),
    }
}

fn state_test(states: StateSet, values: &mut Values) -> String {
    if states.is_empty() {
        return NONE.to_owned();
    }
    format!("state IN {}", values.texts(states.iter().map(JobState::name)))
}

fn integer_test(field: IntegerField, test: &IntegerTest, values: &mut Values) -> String {
    let column = field.column();
    match test {
        IntegerTest::Compare(comparison, value) => {
            format!("{column} {} {}", comparison, values.integer(*value))
        }
        IntegerTest::AnyOf(list) if list.is_empty() => NONE.to_owned(),
        IntegerTest::AnyOf(list) => values.is_in_integers(column, list),
    }
}

/// A predicate on an annotation, whose value may be empty. Comparisons of whole pairs use the index.
fn annotation_test(key: &str, test: &AnnotationTest, values: &mut Values) -> String {
    let pair = |value: &String| format!("{key}\0{value}");
    match test {
        AnnotationTest::Exists => annotation_exists(key, values),
        AnnotationTest::Value(TextTest::Exact(value)) => {
            format!("has({ANNOTATION_PAIRS}, {})", values.text(&pair(value)))
        }
        AnnotationTest::Value(TextTest::AnyOf(list)) if list.is_empty() => NONE.to_owned(),
        AnnotationTest::Value(TextTest::AnyOf(list)) if list.len() > MAX_PAIRS => {
            let exists = annotation_exists(key, values);
            let value = format!("annotations[{}]", values.text(key));
            format!("{exists} AND {}", values.is_in(&value, list))
        }
        AnnotationTest::Value(TextTest::AnyOf(list)) => {
            format!("hasAny({ANNOTATION_PAIRS}, {})", values.texts(list.iter().map(pair)))
        }
        AnnotationTest::Value(TextTest::StartsWith(prefix)) => {
            let exists = annotation_exists(key, values);
            format!("{exists} AND startsWith(annotations[{}], {})", values.text(key), values.text(prefix))
        }
        AnnotationTest::Value(TextTest::Contains(part)) => {
            let exists = annotation_exists(key, values);
            format!("{exists} AND position(annotations[{}], {}) > 0", values.text(key), values.text(part))
        }
    }
}

fn annotation_exists(key: &str, values: &mut Values) -> String {
    format!("mapContains(annotations, {})", values.text(key))
}
