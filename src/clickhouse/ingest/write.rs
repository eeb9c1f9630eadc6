//! How changes reach the tables.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use clickhouse::{Row, RowOwned, RowWrite};

use super::changes::{Changed, Changes};
use super::{OPERATION, patch};
use crate::clickhouse::change::Change;
use crate::clickhouse::connection::Connection;
use crate::clickhouse::schema::{self, Layout};
use crate::clickhouse::statement::{MOST_IDS, Statement};
use crate::error::Result;

/// Writes the changes of one batch, table by table. Jobs come last: a job that is there has all
/// that the batch says of it.
///
/// Repeating is harmless, and so is a statement that the server executes later than a batch that came after.
/// On ReplacingMergeTree a row of an older version never counts, and of two rows of the same version, which
/// are equal, either does. With patches an insert carries a token by which the server knows it when it comes
/// again, and leaves out rows whose ids are there; an update leaves out rows of its own or a higher version.
pub(in crate::clickhouse) struct Writer<'a> {
    connection: &'a Connection,
    layout: Layout,
    /// Tells this batch's inserts from all others.
    token: String,
    change: Change,
}

impl<'a> Writer<'a> {
    pub(in crate::clickhouse) fn new(connection: &'a Connection, layout: Layout) -> Self {
        Self { connection, layout, token: unique_token(), change: Change::default() }
    }

    pub(in crate::clickhouse) async fn write(mut self, changes: Changes) -> Result<()> {
        let Changes { specs, errors, runs, jobs } = changes;
        self.insert("job_spec", &specs).await?;
        self.insert("job_error", &errors).await?;
        self.write_table("job_run", runs, patch::update_runs).await?;
        self.write_table("job", jobs, patch::update_jobs).await
    }

    async fn write_table<T>(
        &mut self,
        table: &str,
        changed: Changed<T>,
        update: impl Fn(&[T]) -> Statement,
    ) -> Result<()>
    where
        T: RowOwned + RowWrite + for<'r> Row<Value<'r> = T>,
    {
        let Changed { mut inserted, mut updated } = changed;
        match self.layout {
            Layout::Replacing => {
                inserted.append(&mut updated);
                self.insert(table, &inserted).await
            }
            Layout::Patch => {
                self.insert(&schema::entrance(table), &inserted).await?;
                self.update(&updated, update).await
            }
        }
    }

    async fn insert<T>(&mut self, table: &str, rows: &[T]) -> Result<()>
    where
        T: RowOwned + RowWrite + for<'r> Row<Value<'r> = T>,
    {
        if rows.is_empty() {
            return Ok(());
        }
        let token = match self.layout {
            Layout::Replacing => None,
            Layout::Patch => Some(self.token.as_str()),
        };
        let inserted = self.connection.insert(OPERATION, table, rows, token).await;
        self.change.write(inserted)
    }

    async fn update<T>(&mut self, rows: &[T], statement: impl Fn(&[T]) -> Statement) -> Result<()> {
        for rows in rows.chunks(MOST_IDS) {
            let updated = self.connection.execute(OPERATION, &statement(rows)).await;
            self.change.write(updated)?;
        }
        Ok(())
    }
}

/// A token that no other insert of any process has.
pub(in crate::clickhouse) fn unique_token() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos());
    format!("{nanos:x}-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}
