//! SQL text with its parameters.

use std::fmt::Write;

use tokio_postgres::types::ToSql;

use super::config::Queries;
use crate::query::{Direction, Page};

type Parameter = Box<dyn ToSql + Send + Sync>;

/// An identifier in double quotes.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string as a literal, independent of `standard_conforming_strings`.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

/// SQL and the values of its parameters `$1`, `$2` and so on.
#[derive(Debug, Default)]
pub(super) struct Statement {
    text: String,
    parameters: Vec<Parameter>,
    /// The form of the parts that are appended.
    pub(super) queries: Queries,
}

impl Statement {
    /// An empty statement whose parts have this form.
    pub(super) fn new(queries: Queries) -> Self {
        Self { queries, ..Self::default() }
    }

    /// Appends SQL.
    pub(super) fn push(&mut self, sql: &str) -> &mut Self {
        self.text.push_str(sql);
        self
    }

    /// Appends a value as a parameter.
    pub(super) fn bind(&mut self, value: impl ToSql + Send + Sync + 'static) -> &mut Self {
        let number = self.add_parameter(value);
        self.push_parameter(number)
    }

    /// Adds the value of a parameter without appending the parameter. Returns its number.
    pub(super) fn add_parameter(&mut self, value: impl ToSql + Send + Sync + 'static) -> usize {
        self.parameters.push(Box::new(value));
        self.parameters.len()
    }

    /// Appends the parameter with a number.
    pub(super) fn push_parameter(&mut self, number: usize) -> &mut Self {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "${number}");
        self
    }

    /// Appends a sort direction.
    pub(super) fn push_direction(&mut self, direction: Direction) -> &mut Self {
        self.push(&format!(" {direction}"))
    }

    /// Appends limit and offset.
    pub(super) fn push_page(&mut self, page: Page) -> &mut Self {
        // Queries limit both to the range of i64.
        let wire = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        if let Some(limit) = page.limit() {
            self.push("\nLIMIT ").bind(wire(limit));
        }
        if page.offset() > 0 {
            self.push("\nOFFSET ").bind(wire(page.offset()));
        }
        self
    }

    /// The SQL.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The values of the parameters.
    pub(super) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.parameters.iter().map(|parameter| parameter.as_ref() as &(dyn ToSql + Sync)).collect()
    }
}
