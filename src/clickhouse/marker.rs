//! What a store says it is.
//!
//! Each store has a table `broadside_store`, whose comment is the marker: who made the store, the layout and
//! the version of its schema, when, whether it is a scratch store, and an id that no other store has. A
//! comment is there as soon as its table is, and `CREATE TABLE IF NOT EXISTS` has one winner, so a marker is
//! never half written, and processes that initialise one store at once agree on it. The rows of the table are
//! the store's properties.
//!
//! A scratch database carries a marker of its own from its creation, before it has any table: the comment of
//! the database. Only databases with it are listed and dropped as scratch stores.

use serde::{Deserialize, Serialize};

use super::config::ClickHouseConfig;
use super::connection::Connection;
use super::row::{DatabaseRow, IdRow, TableRow};
use super::schema::{self, Layout};
use super::statement::{Statement, Values};
use crate::connect::ScratchInfo;
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::time::Timestamp;

/// The table whose comment is the marker.
pub(super) const TABLE: &str = "broadside_store";

/// The version of the schema that this release makes and reads.
const SCHEMA: u32 = 1;

const MADE_BY: &str = "broadside";

/// The marker of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Marker {
    made_by: String,
    schema: u32,
    layout: Layout,
    /// What tells the store from all others, whatever the address that leads to it.
    pub(super) id: String,
    created: Timestamp,
    scratch: bool,
}

/// The marker of a scratch database.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScratchMarker {
    made_by: String,
    scratch: bool,
    created: Timestamp,
}

/// What a database holds.
#[derive(Debug)]
pub(super) enum Content {
    /// No table of Broadside's names, or no database.
    Nothing,
    /// A store with a marker.
    Store(Marker),
    /// Tables of Broadside's names without a marker.
    Unmarked,
}

impl Marker {
    pub(super) fn new(id: String, layout: Layout, scratch: bool) -> Self {
        Self { made_by: MADE_BY.to_owned(), schema: SCHEMA, layout, id, created: now(), scratch }
    }

    /// The marker as a comment.
    pub(super) fn text(&self) -> String {
        json(self)
    }

    fn parse(comment: &str) -> Option<Self> {
        serde_json::from_str(comment).ok().filter(|marker: &Self| marker.made_by == MADE_BY)
    }

    fn check(&self, operation: Operation, layout: Layout) -> Result<()> {
        if self.schema != SCHEMA {
            let message =
                format!("the schema of the store has version {}, and this release knows {SCHEMA}", self.schema);
            return Err(wrong_store(operation, message));
        }
        if self.layout != layout {
            return Err(another_layout(operation, self.layout));
        }
        Ok(())
    }
}

impl Content {
    /// Reads what the database of a configuration holds, and checks that it fits the configuration.
    ///
    /// # Errors
    ///
    /// `WrongStore` if the tables have another layout, or another version of the schema.
    pub(super) async fn read(connection: &Connection, operation: Operation, config: &ClickHouseConfig) -> Result<Self> {
        let tables: Vec<TableRow> = connection.fetch_on_server(operation, &tables_of(&config.database)).await?;
        if let Some(marker) = tables.iter().find(|table| table.name == TABLE) {
            let marker = Marker::parse(&marker.comment).ok_or_else(|| {
                wrong_store(operation, format!("the table {TABLE} has no marker of Broadside's: it is another's"))
            })?;
            marker.check(operation, config.layout)?;
            return Ok(Self::Store(marker));
        }
        if let Some(job) = tables.iter().find(|table| table.name == "job") {
            let replaces = job.engine.contains("Replacing") || job.engine == "Distributed";
            let layout = if replaces { Layout::Replacing } else { Layout::Patch };
            if layout != config.layout {
                return Err(another_layout(operation, layout));
            }
        }
        Ok(if tables.is_empty() { Self::Nothing } else { Self::Unmarked })
    }
}

fn tables_of(database: &str) -> Statement {
    let mut values = Values::default();
    let database = values.text(database);
    let names = values.texts(schema::TABLES.into_iter().chain([TABLE]));
    let sql =
        format!("SELECT name, engine, comment FROM system.tables WHERE database = {database} AND name IN {names}");
    Statement { sql, values }
}

/// An id for a new store.
pub(super) async fn new_id(connection: &Connection, operation: Operation) -> Result<String> {
    let statement = Statement::plain("SELECT toString(generateUUIDv4()) AS id");
    let ids: Vec<IdRow> = connection.fetch_on_server(operation, &statement).await?;
    ids.into_iter().next().map(|row| row.id.into()).ok_or_else(|| {
        Error::new(ErrorKind::Backend, operation, "the server makes no id").with_backend(BackendKind::ClickHouse)
    })
}

/// The comment of a new scratch database.
pub(super) fn scratch() -> String {
    json(&ScratchMarker { made_by: MADE_BY.to_owned(), scratch: true, created: now() })
}

/// Whether the comment of a database is the marker of a scratch store, and when that was made.
pub(super) fn scratch_created(comment: &str) -> Option<Timestamp> {
    let marker: ScratchMarker = serde_json::from_str(comment).ok()?;
    (marker.made_by == MADE_BY && marker.scratch).then_some(marker.created)
}

/// The scratch stores of a server, oldest first.
pub(super) async fn scratch_stores(connection: &Connection) -> Result<Vec<ScratchInfo>> {
    let statement = Statement::plain("SELECT name, comment FROM system.databases WHERE comment != ''");
    let rows: Vec<DatabaseRow> = connection.fetch_on_server(Operation::Connect, &statement).await?;
    let info = |row: DatabaseRow| scratch_created(&row.comment).map(|created| ScratchInfo { name: row.name, created });
    let mut stores: Vec<_> = rows.into_iter().filter_map(info).collect();
    stores.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    Ok(stores)
}

/// The comment of a database, if there is such a database.
pub(super) async fn database_comment(
    connection: &Connection,
    operation: Operation,
    database: &str,
) -> Result<Option<String>> {
    let mut values = Values::default();
    let name = values.text(database);
    let sql = format!("SELECT name, comment FROM system.databases WHERE name = {name}");
    let rows: Vec<DatabaseRow> = connection.fetch_on_server(operation, &Statement { sql, values }).await?;
    Ok(rows.into_iter().next().map(|row| row.comment))
}

/// The store is not the one that the configuration asks for.
pub(super) fn wrong_store(operation: Operation, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::WrongStore, operation, message).with_backend(BackendKind::ClickHouse)
}

/// The store has Broadside's tables and no marker.
pub(super) fn unmarked(operation: Operation) -> Error {
    wrong_store(
        operation,
        "the tables of the database have no marker of Broadside's: adopt=true in the address takes them as its own",
    )
}

fn another_layout(operation: Operation, layout: Layout) -> Error {
    wrong_store(operation, format!("the tables of the database have layout={}", layout.name()))
}

fn json(marker: &impl Serialize) -> String {
    serde_json::to_string(marker).unwrap_or_default()
}

fn now() -> Timestamp {
    crate::time::Clock::now(&crate::time::SystemClock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_as_it_was_written() {
        let marker = Marker::new("id".to_owned(), Layout::Patch, true);
        let comment = marker.text();
        assert_eq!(Marker::parse(&comment), Some(marker));
        assert_eq!(Marker::parse("made by hand"), None);
        assert_eq!(Marker::parse(&comment.replace("broadside", "another")), None);
    }

    #[test]
    fn only_the_marker_of_a_scratch_database_makes_it_one() {
        let comment = scratch();
        assert!(scratch_created(&comment).is_some());
        assert_eq!(scratch_created(&comment.replace("true", "false")), None);
        assert_eq!(scratch_created(""), None);
    }

    #[test]
    fn another_layout_or_version_is_a_wrong_store() {
        let marker = Marker::new("id".to_owned(), Layout::Patch, false);
        assert!(marker.check(Operation::Connect, Layout::Patch).is_ok());
        let error = marker.check(Operation::Connect, Layout::Replacing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore);
        let error = Marker { schema: SCHEMA + 1, ..marker }.check(Operation::Connect, Layout::Patch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore);
    }
}
