//! Writes of changes.

use clickhouse::{Row, RowOwned, RowWrite};
use uuid::Uuid;

use super::changes::{Changed, Changes};
use super::{OPERATION, patch};
use crate::clickhouse::change::Change;
use crate::clickhouse::connection::Connection;
use crate::clickhouse::layout::Layout;
use crate::clickhouse::statement::{MAX_IDS, Statement};
use crate::clickhouse::tables;
use crate::error::Result;

/// Writes the changes of a batch, table by table. Jobs are last, so that a stored job has its runs, spec and error.
///
/// Each statement is idempotent, and harmless if the server executes it after a later batch. With
/// [`Layout::Replacing`], rows of older versions are never read, and two rows of the same version are equal. With
/// [`Layout::Patch`], the server deduplicates a repeated insert by its token, the view skips existing ids, and an
/// update skips rows of its own or a higher version.
pub(in crate::clickhouse) struct Writer<'a> {
    connection: &'a Connection,
    layout: Layout,
    /// The deduplication token of the batch's inserts.
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
                self.insert(&tables::null_table(table), &inserted).await?;
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
        for rows in rows.chunks(MAX_IDS) {
            let updated = self.connection.execute(OPERATION, &statement(rows)).await;
            self.change.write(updated)?;
        }
        Ok(())
    }
}

/// A unique token of an insert.
pub(in crate::clickhouse) fn unique_token() -> String {
    Uuid::new_v4().to_string()
}
