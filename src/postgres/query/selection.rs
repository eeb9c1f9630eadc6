//! Selections of jobs: joins and conditions.

use std::collections::BTreeMap;

use tokio_postgres::types::Json;

use crate::model::StateSet;
use crate::postgres::config::Queries;
use crate::postgres::layout::Relations;
use crate::postgres::row::PgTimestamp;
use crate::postgres::statement::Values;
use crate::query::{AnnotationTest, IntegerTest, Predicate, Selection, TextField, TextTest};

/// The join with the latest run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LatestRun {
    /// No join.
    Unused,
    /// An inner join, which excludes jobs without a latest run.
    Required,
    /// A left join, which includes jobs without a latest run.
    Optional,
}

/// The tables and the conditions of a selection, with a further condition.
pub(super) fn from_where(
    selection: &Selection,
    further: Option<&Predicate>,
    relations: &Relations,
    queries: Queries,
    latest_run: LatestRun,
    values: &mut Values,
) -> String {
    let Relations { jobs, runs } = relations;
    let latest_run = match latest_run {
        LatestRun::Unused => String::new(),
        LatestRun::Required => format!("\nJOIN {runs} AS lr ON lr.run_id = j.latest_run_id"),
        LatestRun::Optional => format!("\nLEFT JOIN {runs} AS lr ON lr.run_id = j.latest_run_id"),
    };
    let active = StateSet::ACTIVE.ordinals();
    let mut active_job_sets = String::new();
    let mut conditions = Vec::new();
    match queries {
        _ if !selection.active_job_sets() => {}
        Queries::Lookout => {
            active_job_sets = format!(
                "\nJOIN (SELECT DISTINCT queue, jobset FROM job WHERE state IN ({active})) AS active\n    \
                 ON active.queue = j.queue AND active.jobset = j.jobset"
            );
        }
        // The planner has more choices than for the join. It can read jobs in their order until the page is full.
        Queries::Indexed => conditions.push(format!(
            "EXISTS (SELECT FROM job AS active WHERE active.queue = j.queue AND active.jobset = j.jobset \
             AND active.state IN ({active}))"
        )),
    }
    let predicates = selection.predicates().iter().chain(further);
    conditions.extend(predicates.map(|predicate| condition(predicate, queries, values)));
    let conditions =
        if conditions.is_empty() { String::new() } else { format!("\nWHERE {}", conditions.join("\n    AND ")) };
    format!("\nFROM {jobs} AS j{latest_run}{active_job_sets}{conditions}")
}

fn condition(predicate: &Predicate, queries: Queries, values: &mut Values) -> String {
    match predicate {
        Predicate::Text(field, test) => {
            let column = text_column(*field);
            let matches = text_test(test, |_| column.clone(), values);
            if can_be_empty(*field) && test.holds("") { format!("{matches} AND {column} <> ''") } else { matches }
        }
        Predicate::State(states) => {
            let ordinals: Vec<i16> = states.iter().map(|state| i16::from(state.ordinal())).collect();
            match ordinals[..] {
                [ordinal] => format!("j.state = {}", values.bind(ordinal)),
                _ => format!("j.state = ANY({})", values.bind(ordinals)),
            }
        }
        Predicate::Integer(field, IntegerTest::Compare(comparison, value)) => {
            format!("j.{} {comparison} {}", field.column(), values.bind(*value))
        }
        Predicate::Integer(field, IntegerTest::AnyOf(list)) => {
            format!("j.{} = ANY({})", field.column(), values.bind(list.clone()))
        }
        Predicate::Time(field, comparison, time) => {
            format!("j.{} {comparison} {}", field.column(), values.bind(PgTimestamp(*time)))
        }
        Predicate::Annotation(key, test) => annotation_test(key, test, queries, values),
    }
}

/// No stored string contains a NUL, and the protocol cannot send one: a string with a NUL matches nothing.
fn text_test(test: &TextTest, column: impl FnOnce(&mut Values) -> String, values: &mut Values) -> String {
    match test {
        TextTest::Exact(text) | TextTest::StartsWith(text) | TextTest::Contains(text) if text.contains('\0') => {
            "false".to_owned()
        }
        TextTest::Exact(text) => format!("{} = {}", column(values), values.bind(text.clone())),
        TextTest::AnyOf(texts) => {
            let possible: Vec<String> = texts.iter().filter(|text| !text.contains('\0')).cloned().collect();
            format!("{} = ANY({})", column(values), values.bind(possible))
        }
        TextTest::StartsWith(text) => format!("{} LIKE {}", column(values), values.bind(format!("{}%", plain(text)))),
        TextTest::Contains(text) => format!("{} LIKE {}", column(values), values.bind(format!("%{}%", plain(text)))),
    }
}

/// The index on annotations supports containment and existence. For a predicate on a part of a value, it finds the jobs
/// with the key.
fn annotation_test(key: &str, test: &AnnotationTest, queries: Queries, values: &mut Values) -> String {
    if key.contains('\0') {
        return "false".to_owned();
    }
    let key = key.to_owned();
    match test {
        AnnotationTest::Value(TextTest::Exact(value)) if !value.contains('\0') => {
            format!("j.annotations @> {}", values.bind(Json(BTreeMap::from([(key, value.clone())]))))
        }
        // Another program may have stored a null, a list or a string, in which the key has no text.
        AnnotationTest::Exists => {
            let key = values.bind(key);
            format!("j.annotations ? {key} AND (j.annotations ->> {key}) IS NOT NULL")
        }
        AnnotationTest::Value(test) if queries == Queries::Lookout => {
            text_test(test, |values| format!("(j.annotations ->> {})", values.bind(key)), values)
        }
        AnnotationTest::Value(test) => {
            let key = values.bind(key);
            let test = text_test(test, |_| format!("(j.annotations ->> {key})"), values);
            format!("j.annotations ? {key} AND {test}")
        }
    }
}

/// Whether Lookout stores an empty string for a job or run without a value. Such a string is null for all reads.
fn can_be_empty(field: TextField) -> bool {
    matches!(field, TextField::Namespace | TextField::PriorityClass | TextField::Node | TextField::Pool)
}

/// The column of a text field. Lookout's column of the job set is `jobset`.
pub(super) fn text_column(field: TextField) -> String {
    match field {
        TextField::JobSet => "j.jobset".to_owned(),
        field if field.is_of_latest_run() => format!("lr.{}", field.column()),
        field => format!("j.{}", field.column()),
    }
}

/// The LIKE pattern that matches exactly this string.
fn plain(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}
