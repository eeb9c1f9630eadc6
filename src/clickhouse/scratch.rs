//! Opening handles; creating, listing and removing scratch stores.

use super::config::ClickHouseConfig;
use super::connection::Connection;
use super::database::ClickHouseDatabase;
use super::marker::{self, Content};
use super::tables;
use crate::connect::ScratchInfo;
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::time::SharedClock;

const OPERATION: Operation = Operation::Connect;

impl ClickHouseConfig {
    /// Opens a handle. The server must respond and accept the user; the database need not exist.
    pub(crate) async fn connect(&self, clock: SharedClock) -> Result<ClickHouseDatabase> {
        let connection = Connection::open(self).await?;
        Content::read(&connection, OPERATION, self).await?;
        Ok(ClickHouseDatabase::new(self, connection, clock))
    }

    /// The scratch stores on the server, oldest first. They are identified by their markers.
    pub(crate) async fn scratch_stores(&self) -> Result<Vec<ScratchInfo>> {
        marker::scratch_stores(&Connection::open(self).await?).await
    }

    /// Removes a scratch store.
    pub(crate) async fn remove_scratch(&self, name: &str) -> Result<()> {
        let connection = Connection::open(self).await?;
        let comment = marker::database_comment(&connection, OPERATION, name).await?;
        if comment.as_deref().and_then(marker::scratch_created).is_none() {
            return Err(marker::wrong_store(OPERATION, format!("{name:?} has no marker of a scratch store")));
        }
        connection.without_database().execute(OPERATION, &tables::drop_database(name, self.cluster.as_deref())).await
    }

    /// Creates a database that contains only the marker of a scratch store, and returns its configuration.
    pub(crate) async fn create_scratch(&self, name: &str) -> Result<Self> {
        let scratch = Self { database: name.to_owned(), ..self.clone() };
        let connection = Connection::open(&scratch).await?;
        let marker = marker::scratch();
        let statement = tables::create_scratch_database(name, &marker, self.cluster.as_deref());
        connection.without_database().execute(OPERATION, &statement).await?;
        // The statement is idempotent, so it succeeds even if the database exists; then its marker is a different one.
        if marker::database_comment(&connection, OPERATION, name).await?.as_ref() != Some(&marker) {
            return Err(Error::new(ErrorKind::Backend, OPERATION, format!("the database {name:?} already exists"))
                .with_backend(BackendKind::ClickHouse));
        }
        Ok(scratch)
    }

    /// Removes the scratch store of this configuration, if it exists.
    pub(crate) async fn drop_scratch(&self) -> Result<()> {
        let connection = Connection::open(self).await?;
        match marker::database_comment(&connection, OPERATION, &self.database).await? {
            None => Ok(()),
            Some(_) => self.remove_scratch(&self.database).await,
        }
    }
}
