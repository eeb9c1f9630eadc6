//! The schema: creation of the database, the marker and the tables.

use super::change::Change;
use super::config::ClickHouseConfig;
use super::connection::Connection;
use super::marker::{self, Content, Marker};
use super::statement::Statement;
use super::tables::{create_database, create_store_table, create_tables};
use crate::error::{Operation, Result};

/// Creates the database, the marker and the tables, unless they exist. The content is checked before the first change.
pub(super) async fn initialise(connection: &Connection, config: &ClickHouseConfig) -> Result<()> {
    let operation = Operation::InitialiseSchema;
    let ClickHouseConfig { database, layout, cluster, .. } = config;
    let cluster = cluster.as_deref();
    // CREATE DATABASE IF NOT EXISTS requires the privilege to create databases even if the database exists.
    let comment = marker::database_comment(connection, operation, database).await?;
    let content = Content::read(connection, operation, config).await?;
    if matches!(content, Content::Unmarked(_)) && !config.adopt {
        return Err(marker::unmarked(operation));
    }
    let mut change = Change::default();
    if comment.is_none() {
        let statement = create_database(database, cluster);
        change.write(connection.without_database().execute(operation, &statement).await)?;
    }
    if !matches!(content, Content::Store(_)) {
        let scratch = comment.as_deref().and_then(marker::scratch_created).is_some();
        let marker = Marker::new(*layout, scratch, &content).text();
        for statement in create_store_table(&marker, database, cluster) {
            change.write(connection.execute(operation, &statement).await)?;
        }
        // Another process may have created the table with its marker in the meantime.
        change.read(Content::read(connection, operation, config).await)?;
    }
    for statement in create_tables(*layout, database, cluster) {
        change.write(connection.execute(operation, &statement).await)?;
    }
    Ok(())
}

/// Succeeds if the tables exist, for calls that may send no other statement.
pub(super) async fn check(connection: &Connection, operation: Operation) -> Result<()> {
    let statement = Statement::plain("SELECT job_id FROM job WHERE false");
    connection.fetch::<String>(operation, &statement).await.map(drop)
}
