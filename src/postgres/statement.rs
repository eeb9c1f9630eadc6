//! SQL text with its parameters.

use tokio_postgres::types::ToSql;

use crate::query::Page;

/// An identifier in double quotes.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string as a literal, independent of `standard_conforming_strings`.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

/// SQL and the values of its parameters.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) values: Values,
}

/// The values of the parameters `$1`, `$2` and so on.
#[derive(Debug, Default)]
pub(super) struct Values(Vec<Box<dyn ToSql + Send + Sync>>);

impl Values {
    /// Adds a value, and returns its parameter. So no value becomes part of the SQL.
    pub(super) fn bind(&mut self, value: impl ToSql + Send + Sync + 'static) -> String {
        self.0.push(Box::new(value));
        format!("${}", self.0.len())
    }

    /// The LIMIT and OFFSET clauses.
    pub(super) fn page(&mut self, page: Page) -> String {
        // Queries limit both to the range of i64.
        let wire = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let limit = page.limit().map(|limit| format!("\nLIMIT {}", self.bind(wire(limit)))).unwrap_or_default();
        let offset = match page.offset() {
            0 => String::new(),
            offset => format!("\nOFFSET {}", self.bind(wire(offset))),
        };
        limit + &offset
    }

    /// The values in the form of the driver.
    pub(super) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.0.iter().map(|value| value.as_ref() as &(dyn ToSql + Sync)).collect()
    }
}
