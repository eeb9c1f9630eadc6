//! Pages of jobs and groups as SQL. Values are always parameters, never part of the text.

mod groups;
mod jobs;
mod selection;

use futures::future::try_join;
use tokio_postgres::Row;

use super::connection::Client;
use super::error::Attempt;
use super::layout::Layout;
use super::marker::{self, UNSPLIT};
use super::statement::Statement;

pub(super) use groups::{group, groups};
pub(super) use jobs::jobs;

/// Executes a statement on a store with this layout and returns the rows.
pub(super) async fn fetch(client: &Client, layout: Layout, statement: &Statement) -> Attempt<Vec<Row>> {
    let prepared = client.prepare(&statement.sql).await?;
    let parameters = statement.values.parameters();
    let read = client.query(&prepared, &parameters);
    if layout != Layout::Lookout {
        return Ok(read.await?);
    }
    // Prepared first, so that the check is sent after the read and covers it.
    let check = client.prepare(UNSPLIT).await?;
    let (rows, unsplit) = try_join(read, client.query_one(&check, &[])).await?;
    if unsplit.try_get(0)? { Ok(rows) } else { Err(marker::split()) }
}
