//! Selections of jobs: joins and conditions.

use std::collections::BTreeMap;
use std::iter;

use tokio_postgres::types::Json;

use crate::model::StateSet;
use crate::postgres::config::Queries;
use crate::postgres::layout::Layout;
use crate::postgres::row::PgTimestamp;
use crate::postgres::statement::Statement;
use crate::query::{AnnotationTest, Comparison, IntegerTest, Predicate, Selection, TextField, TextTest};

/// The annotations of a job.
const ANNOTATIONS: &str = "j.annotations";

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

impl Statement {
    /// Appends the tables and the conditions of a selection, and a further condition.
    pub(super) fn push_selection(
        &mut self,
        selection: &Selection,
        further: Option<&Predicate>,
        layout: Layout,
        latest_run: LatestRun,
    ) -> &mut Self {
        self.push("\nFROM ").push(layout.all_jobs()).push(" AS j");
        match latest_run {
            LatestRun::Unused => {}
            LatestRun::Required => drop(self.push("\nJOIN job_run AS lr ON lr.run_id = j.latest_run_id")),
            LatestRun::Optional => drop(self.push("\nLEFT JOIN job_run AS lr ON lr.run_id = j.latest_run_id")),
        }
        let mut conjunctions = iter::once("\nWHERE ").chain(iter::repeat("\n    AND "));
        let mut conjunction = || conjunctions.next().unwrap_or_default();
        let active = StateSet::ACTIVE.ordinals();
        match self.queries {
            _ if !selection.active_job_sets() => {}
            Queries::Lookout => {
                self.push("\nJOIN (SELECT DISTINCT queue, jobset FROM job WHERE state IN (").push(&active);
                self.push(")) AS active\n    ON active.queue = j.queue AND active.jobset = j.jobset");
            }
            // The planner has more choices than for the join. It can read jobs in their order until the page is full.
            Queries::Indexed => {
                self.push(conjunction()).push("EXISTS (SELECT FROM job AS active WHERE active.queue = j.queue");
                self.push(" AND active.jobset = j.jobset AND active.state IN (").push(&active).push("))");
            }
        }
        for predicate in selection.predicates().iter().chain(further) {
            self.push(conjunction());
            self.push_predicate(predicate);
        }
        self
    }

    fn push_predicate(&mut self, predicate: &Predicate) {
        match predicate {
            Predicate::Text(field, test) => self.push_text_test(test, |statement| statement.push(&text_column(*field))),
            Predicate::State(states) => self.push_states(*states),
            Predicate::Integer(field, test) => self.push_integer_test(&format!("j.{}", field.column()), test),
            Predicate::Time(field, comparison, time) => {
                self.push("j.").push(field.column()).push_operator(*comparison).bind(PgTimestamp(*time));
            }
            Predicate::Annotation(key, test) => self.push_annotation(key, test),
        }
    }

    /// No stored string contains a NUL, and the protocol cannot send one: a string with a NUL matches nothing.
    fn push_text_test(&mut self, test: &TextTest, column: impl FnOnce(&mut Self) -> &mut Self) {
        match test {
            TextTest::Exact(text) | TextTest::StartsWith(text) | TextTest::Contains(text) if text.contains('\0') => {
                self.push("false");
            }
            TextTest::Exact(text) => drop(column(self).push(" = ").bind(text.clone())),
            TextTest::AnyOf(texts) => {
                let possible: Vec<String> = texts.iter().filter(|text| !text.contains('\0')).cloned().collect();
                column(self).push(" = ANY(").bind(possible).push(")");
            }
            TextTest::StartsWith(text) => drop(column(self).push(" LIKE ").bind(format!("{}%", plain(text)))),
            TextTest::Contains(text) => drop(column(self).push(" LIKE ").bind(format!("%{}%", plain(text)))),
        }
    }

    fn push_states(&mut self, states: StateSet) {
        let ordinals: Vec<i16> = states.iter().map(|state| i16::from(state.ordinal())).collect();
        match ordinals[..] {
            [ordinal] => self.push("j.state = ").bind(ordinal),
            _ => self.push("j.state = ANY(").bind(ordinals).push(")"),
        };
    }

    fn push_integer_test(&mut self, column: &str, test: &IntegerTest) {
        self.push(column);
        match test {
            IntegerTest::Compare(comparison, value) => self.push_operator(*comparison).bind(*value),
            IntegerTest::AnyOf(values) => self.push(" = ANY(").bind(values.clone()).push(")"),
        };
    }

    fn push_operator(&mut self, comparison: Comparison) -> &mut Self {
        self.push(&format!(" {comparison} "))
    }

    /// The index on annotations supports containment and existence. For a predicate on a part of a value, it finds the
    /// jobs with the key.
    fn push_annotation(&mut self, key: &str, test: &AnnotationTest) {
        if key.contains('\0') {
            self.push("false");
            return;
        }
        match test {
            AnnotationTest::Value(TextTest::Exact(value)) if !value.contains('\0') => {
                let wanted = BTreeMap::from([(key.to_owned(), value.clone())]);
                self.push(ANNOTATIONS).push(" @> ").bind(Json(wanted));
            }
            AnnotationTest::Exists => drop(self.push(ANNOTATIONS).push(" ? ").bind(key.to_owned())),
            AnnotationTest::Value(test) if self.queries == Queries::Lookout => {
                self.push_text_test(test, |statement| {
                    statement.push("(j.annotations ->> ").bind(key.to_owned()).push(")")
                });
            }
            AnnotationTest::Value(test) => {
                let key = self.add_parameter(key.to_owned());
                self.push(ANNOTATIONS).push(" ? ").push_parameter(key).push(" AND ");
                self.push_text_test(test, |statement| {
                    statement.push("(j.annotations ->> ").push_parameter(key).push(")")
                });
            }
        }
    }
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
