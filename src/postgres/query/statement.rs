//! A statement in the making: its text, and the parameters it stands for.

use std::fmt::Write;

use futures::future::try_join;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::postgres::connection::Client;
use crate::postgres::error::Attempt;
use crate::postgres::layout::Layout;
use crate::postgres::store::{self, UNSPLIT};
use crate::query::{Direction, Page};

type Parameter = Box<dyn ToSql + Send + Sync>;

/// A statement and its parameters.
#[derive(Debug, Default)]
pub(in crate::postgres) struct Statement {
    pub(super) text: String,
    pub(super) parameters: Vec<Parameter>,
}

impl Statement {
    pub(super) fn push(&mut self, sql: &str) -> &mut Self {
        self.text.push_str(sql);
        self
    }

    /// Appends a value, as a parameter.
    pub(super) fn bind(&mut self, value: impl ToSql + Send + Sync + 'static) -> &mut Self {
        let number = self.keep(value);
        self.refer(number)
    }

    /// Keeps a value for [`refer`](Self::refer).
    pub(super) fn keep(&mut self, value: impl ToSql + Send + Sync + 'static) -> usize {
        self.parameters.push(Box::new(value));
        self.parameters.len()
    }

    /// Appends a value that was kept; a statement may do so more than once.
    pub(super) fn refer(&mut self, number: usize) -> &mut Self {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "${number}");
        self
    }

    pub(super) fn push_direction(&mut self, direction: Direction) -> &mut Self {
        self.push(match direction {
            Direction::Ascending => " ASC",
            Direction::Descending => " DESC",
        })
    }

    pub(super) fn push_page(&mut self, page: Page) -> &mut Self {
        // Validation keeps both within i64, so none is ever cut.
        let wire = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        if let Some(take) = page.limit() {
            self.push("\nLIMIT ").bind(wire(take));
        }
        if page.offset() > 0 {
            self.push("\nOFFSET ").bind(wire(page.offset()));
        }
        self
    }

    /// Runs the statement on a store of this layout.
    pub(in crate::postgres) async fn run(&self, client: &Client, layout: Layout) -> Attempt<Vec<Row>> {
        let statement = client.prepare(&self.text).await?;
        let parameters = self.parameters();
        let read = client.query(&statement, &parameters);
        if layout != Layout::Lookout {
            return Ok(read.await?);
        }
        // Both are prepared before, so that the question follows the read.
        let question = client.prepare(UNSPLIT).await?;
        let (rows, unsplit) = try_join(read, client.query_one(&question, &[])).await?;
        if unsplit.try_get(0)? { Ok(rows) } else { Err(store::split()) }
    }

    /// Its text and its parameters.
    pub(in crate::postgres) fn text(&self) -> &str {
        &self.text
    }

    pub(in crate::postgres) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.parameters.iter().map(|parameter| parameter.as_ref() as &(dyn ToSql + Sync)).collect()
    }
}
