//! Identification of stores: the marker that Broadside writes, and the catalog for databases without a marker.
//!
//! The marker is the comment of the table `broadside_store`: the creator, the layout and version of the schema, the
//! time of creation, whether it is a scratch store, and a unique id. The comment is created together with its table,
//! and of concurrent `CREATE TABLE IF NOT EXISTS` only one takes effect: the marker is atomic, and concurrent
//! initialisations of a store agree on it. The rows of the table are the properties of the store.
//!
//! A scratch database has a separate marker from its creation on, before it has tables: the comment of the database.
//! Only databases with this marker are listed and dropped as scratch stores.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::config::ClickHouseConfig;
use super::connection::Connection;
use super::layout::Layout;
use super::row::TableRow;
use super::statement::{Statement, Values};
use super::tables::{self, STORE};
use crate::connect::ScratchInfo;
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::time::Timestamp;

/// The version of the schema in this release.
const SCHEMA: u32 = 1;

const MADE_BY: &str = "broadside";

/// The marker of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Marker {
    made_by: String,
    schema: u32,
    layout: Layout,
    /// Identifies the store, independent of its address.
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

/// The content of a database.
#[derive(Debug)]
pub(super) enum Content {
    /// No table with one of Broadside's names, or no database.
    Nothing,
    /// A store with a marker.
    Store(Marker),
    /// Tables with Broadside's names and without a marker, and the id that their marker will have. So the handles of a
    /// process exclude each other, whether they were opened before or after the adoption.
    Unmarked(String),
}

impl Marker {
    /// The marker of a new store, or of adopted tables.
    pub(super) fn new(layout: Layout, scratch: bool, content: &Content) -> Self {
        let id = match content {
            Content::Unmarked(id) => id.clone(),
            Content::Nothing | Content::Store(_) => Uuid::new_v4().to_string(),
        };
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
                format!("the schema of the store has version {}, and this release supports {SCHEMA}", self.schema);
            return Err(wrong_store(operation, message));
        }
        if self.layout != layout {
            return Err(another_layout(operation, self.layout));
        }
        Ok(())
    }
}

impl Content {
    /// Identifies the content of a configuration's database, and checks its layout, its version and the engine of its
    /// tables.
    ///
    /// # Errors
    ///
    /// `WrongStore` if the tables have another layout or version, if they are Distributed and the configuration has no
    /// cluster or vice versa, or if they have no marker and other columns.
    pub(super) async fn read(connection: &Connection, operation: Operation, config: &ClickHouseConfig) -> Result<Self> {
        let tables: Vec<TableRow> =
            connection.without_database().fetch(operation, &tables_of(&config.database)).await?;
        if let Some(marker) = tables.iter().find(|table| table.name == STORE) {
            let marker = Marker::parse(&marker.comment)
                .ok_or_else(|| wrong_store(operation, format!("the table {STORE} has no marker of Broadside")))?;
            marker.check(operation, config.layout)?;
            check_cluster(operation, &tables, config)?;
            return Ok(Self::Store(marker));
        }
        if let Some(job) = tables.iter().find(|table| table.name == "job") {
            let replaces = job.engine.contains("Replacing") || job.engine == "Distributed";
            let layout = if replaces { Layout::Replacing } else { Layout::Patch };
            if layout != config.layout {
                return Err(another_layout(operation, layout));
            }
        }
        check_cluster(operation, &tables, config)?;
        // In the order of names: that of `job`, if it exists.
        let Some(id) = tables.first().map(|table| table.id.clone()) else { return Ok(Self::Nothing) };
        let found: Vec<String> = connection.without_database().fetch(operation, &columns_of(&config.database)).await?;
        let found: HashSet<_> = found.iter().map(String::as_str).collect();
        for TableRow { name, .. } in tables {
            let column = tables::columns(&name).find(|column| !found.contains(format!("{name}.{column}").as_str()));
            if let Some(column) = column {
                let message =
                    format!("the table {name} of the database is not one of Broadside: it has no column {column}");
                return Err(wrong_store(operation, message));
            }
        }
        Ok(Self::Unmarked(id))
    }
}

/// Succeeds if the tables are Distributed and the configuration has a cluster, or neither. Otherwise statements would
/// change only some of the rows.
fn check_cluster(operation: Operation, tables: &[TableRow], config: &ClickHouseConfig) -> Result<()> {
    let table = tables.iter().find(|table| table.name == "job").or(tables.first());
    let advice = match table.map(|table| (table.engine == "Distributed", config.cluster.is_some())) {
        Some((true, false)) => "are those of a cluster: add cluster=NAME to the address",
        Some((false, true)) => "are not those of a cluster: leave out cluster in the address",
        _ => return Ok(()),
    };
    Err(wrong_store(operation, format!("the tables of the database {advice}")))
}

/// The statement that reads the names of all columns of the tables, as `table.column`.
fn columns_of(database: &str) -> Statement {
    let mut values = Values::default();
    let database = values.text(database);
    let names = values.texts(tables::TABLES);
    let sql =
        format!("SELECT concat(table, '.', name) FROM system.columns WHERE database = {database} AND table IN {names}");
    Statement { sql, values }
}

fn tables_of(database: &str) -> Statement {
    let mut values = Values::default();
    let database = values.text(database);
    let names = values.texts(tables::TABLES.into_iter().chain([STORE]));
    // Only Atomic databases give ids to tables.
    let sql = format!(
        "SELECT name, engine, comment, if(empty(uuid), concat(hostName(), '/', database), toString(uuid)) AS id \
         FROM system.tables WHERE database = {database} AND name IN {names} ORDER BY name"
    );
    Statement { sql, values }
}

/// The marker of a new scratch database as a comment.
pub(super) fn scratch() -> String {
    json(&ScratchMarker { made_by: MADE_BY.to_owned(), scratch: true, created: now() })
}

/// The time of creation of the scratch database with this comment; `None` if the comment is not a marker.
pub(super) fn scratch_created(comment: &str) -> Option<Timestamp> {
    let marker: ScratchMarker = serde_json::from_str(comment).ok()?;
    (marker.made_by == MADE_BY && marker.scratch).then_some(marker.created)
}

/// The scratch stores on a server, oldest first.
pub(super) async fn scratch_stores(connection: &Connection) -> Result<Vec<ScratchInfo>> {
    let statement = Statement::plain("SELECT name, comment FROM system.databases WHERE comment != ''");
    let rows: Vec<(String, String)> = connection.without_database().fetch(Operation::Connect, &statement).await?;
    let info = |(name, comment): (String, String)| Some(ScratchInfo { name, created: scratch_created(&comment)? });
    let mut stores: Vec<_> = rows.into_iter().filter_map(info).collect();
    stores.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    Ok(stores)
}

/// The comment of a database; `None` if there is no such database.
pub(super) async fn database_comment(
    connection: &Connection,
    operation: Operation,
    database: &str,
) -> Result<Option<String>> {
    let mut values = Values::default();
    let name = values.text(database);
    let sql = format!("SELECT comment FROM system.databases WHERE name = {name}");
    Ok(connection.without_database().fetch(operation, &Statement { sql, values }).await?.into_iter().next())
}

/// The error of a store that does not match the configuration.
pub(super) fn wrong_store(operation: Operation, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::WrongStore, operation, message).with_backend(BackendKind::ClickHouse)
}

/// The error of tables without a marker.
pub(super) fn unmarked(operation: Operation) -> Error {
    wrong_store(
        operation,
        "the tables of the database have no marker of Broadside: add adopt=true to the address if they may be changed",
    )
}

fn another_layout(operation: Operation, layout: Layout) -> Error {
    wrong_store(operation, format!("the tables of the database have layout={layout}"))
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
    fn markers_round_trip() {
        let marker = Marker::new(Layout::Patch, true, &Content::Nothing);
        let comment = marker.text();
        assert_eq!(Marker::parse(&comment), Some(marker));
        assert_eq!(Marker::parse("made by hand"), None);
        assert_eq!(Marker::parse(&comment.replace("broadside", "another")), None);
    }

    #[test]
    fn only_the_marker_identifies_a_scratch_database() {
        let comment = scratch();
        assert!(scratch_created(&comment).is_some());
        assert_eq!(scratch_created(&comment.replace("true", "false")), None);
        assert_eq!(scratch_created(""), None);
    }

    #[test]
    fn another_layout_or_version_is_a_wrong_store() {
        let marker = Marker::new(Layout::Patch, false, &Content::Nothing);
        assert!(marker.check(Operation::Connect, Layout::Patch).is_ok());
        let error = marker.check(Operation::Connect, Layout::Replacing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore);
        let error = Marker { schema: SCHEMA + 1, ..marker }.check(Operation::Connect, Layout::Patch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore);
    }
}
