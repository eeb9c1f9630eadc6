//! Where the server is and how to talk to it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use url::Url;

use super::ClickHouseDatabase;
use super::connection::Connection;
use super::marker::{self, Content};
use super::schema::{self, Layout};
use crate::connect::ScratchInfo;
use crate::error::{BackendKind, Error, ErrorKind, Operation, Result};
use crate::time::SharedClock;

/// Configuration of the ClickHouse backend.
///
/// As a URL it is `clickhouse+http://user:password@host:port/database?parameter=value&…`, or
/// `clickhouse+https://…` for TLS with the web's certificate authorities. Without a port it is
/// ClickHouse's own, 8123 or 8443; without a database it is `broadside`. Parameters:
///
/// | parameter | values | default |
/// |---|---|---|
/// | `compression` | `lz4`, `none` | `lz4` |
/// | `layout` | `replacing`, `patch`: see the [module](crate::clickhouse) | `replacing` |
/// | `adopt` | `true`, `false`: whether tables without Broadside's marker may be written and emptied | `false` |
/// | `cluster` | a cluster of the server's configuration, for replicated and sharded tables | one server |
/// | `connect_timeout` | seconds | 5 |
/// | `timeout` | seconds, for each request | 60 |
/// | `setting.NAME` | a ClickHouse setting, sent with every request | |
///
/// The characters `% @ : / ? # [ ] & =` of a user, a password or a value are written as `%` and their two
/// hexadecimal digits; a plus is a plus.
///
/// `Debug`, `Display` and errors show nothing that was typed: what was meant as a password may stand in any part of a
/// mistyped address.
///
/// ```
/// use broadside::clickhouse::ClickHouseConfig;
///
/// let config = ClickHouseConfig::from_url("clickhouse+https://user:secret@db.example/lookout?timeout=30")?;
/// assert!(!format!("{config:?}").contains("secret"));
/// # Ok::<(), broadside::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct ClickHouseConfig {
    /// The server's address: scheme, host and port alone.
    pub(super) server: Url,
    pub(super) database: String,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) compression: Compression,
    pub(super) layout: Layout,
    pub(super) adopt: bool,
    pub(super) cluster: Option<String>,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) settings: BTreeMap<String, String>,
}

/// The compression of rows and results on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// LZ4.
    Lz4,
    /// No compression.
    None,
}

impl Compression {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::None => "none",
        }
    }
}

impl fmt::Debug for ClickHouseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickHouseConfig")
            .field("compression", &self.compression)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

impl ClickHouseConfig {
    /// The database that holds the tables.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Opens a handle. The server must answer and know the user; the database need not exist.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the server cannot be reached within the connect timeout, `Timeout` if it
    /// does not answer, `Backend` if it refuses the user or the password, `WrongStore` if the database
    /// holds another layout or version of the schema.
    pub async fn connect(&self, clock: SharedClock) -> Result<ClickHouseDatabase> {
        let connection = Connection::open(self).await?;
        Content::read(&connection, Operation::Connect, self).await?;
        Ok(ClickHouseDatabase::new(self, connection, clock))
    }

    /// The scratch stores on the server, oldest first, by the marker that each carries.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn scratch_stores(&self) -> Result<Vec<ScratchInfo>> {
        marker::scratch_stores(&Connection::open(self).await?).await
    }

    /// Removes a scratch store, which must carry the marker of one.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect); `WrongStore` if `name` is no scratch store.
    pub async fn remove_scratch(&self, name: &str) -> Result<()> {
        let connection = Connection::open(self).await?;
        let comment = marker::database_comment(&connection, Operation::Connect, name).await?;
        if comment.as_deref().and_then(marker::scratch_created).is_none() {
            return Err(marker::wrong_store(Operation::Connect, format!("{name:?} is no scratch store")));
        }
        connection.execute_on_server(Operation::Connect, &schema::drop_database(name, self.cluster.as_deref())).await
    }

    /// Makes an empty database of this name on the same server, with the marker of a scratch store, and
    /// gives the configuration that leads to it.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect); `Backend` also if the server refuses to make it, or has a database of
    /// this name already.
    pub async fn create_scratch(&self, name: &str) -> Result<Self> {
        let operation = Operation::Connect;
        let scratch = Self { database: name.to_owned(), ..self.clone() };
        let connection = Connection::open(&scratch).await?;
        let marker = marker::scratch();
        let statement = schema::create_scratch_database(name, &marker, self.cluster.as_deref());
        connection.execute_on_server(operation, &statement).await?;
        // The statement does nothing if there is such a database, so that it can be repeated. The marker tells
        // whose it is.
        if marker::database_comment(&connection, operation, name).await?.as_ref() != Some(&marker) {
            return Err(Error::new(ErrorKind::Backend, operation, format!("there is a database {name:?} already"))
                .with_backend(BackendKind::ClickHouse));
        }
        Ok(scratch)
    }

    /// Drops the database with all that is in it, if it is there. It must carry the marker of a scratch store.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect); `WrongStore` if it is no scratch store, `Backend` also if the server
    /// refuses to drop it.
    pub async fn drop_scratch(&self) -> Result<()> {
        let connection = Connection::open(self).await?;
        match marker::database_comment(&connection, Operation::Connect, &self.database).await? {
            None => Ok(()),
            Some(_) => self.remove_scratch(&self.database).await,
        }
    }
}
