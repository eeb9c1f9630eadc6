//! Writes of changes.

use clickhouse::{Row, RowOwned, RowWrite};
use uuid::Uuid;

use super::changes::{Changed, ChangedRow, Changes};
use super::{OPERATION, patch};
use crate::clickhouse::change::Change;
use crate::clickhouse::connection::{Connection, INSERT_BYTES};
use crate::clickhouse::layout::Layout;
use crate::clickhouse::statement::{MAX_IDS, Statement};
use crate::clickhouse::tables;
use crate::clickhouse::turns::{InsertTurns, Turns};
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
    /// The turns of inserts, if the tables are replicated.
    turns: Option<&'a Turns>,
    /// The first part of the deduplication tokens of the batch's inserts.
    token: String,
    change: Change,
}

impl<'a> Writer<'a> {
    pub(in crate::clickhouse) fn new(connection: &'a Connection, layout: Layout, turns: Option<&'a Turns>) -> Self {
        Self { connection, layout, turns, token: unique_token(), change: Change::default() }
    }

    pub(in crate::clickhouse) async fn write(mut self, changes: Changes) -> Result<()> {
        let Changes { specs, errors, runs, jobs } = changes;
        self.insert("job_spec", &specs, |turns| &turns.specs).await?;
        self.insert("job_error", &errors, |turns| &turns.errors).await?;
        self.write_table("job_run", runs, |turns| &turns.runs, patch::update_runs).await?;
        self.write_table("job", jobs, |turns| &turns.jobs, patch::update_jobs).await
    }

    async fn write_table<T>(
        &mut self,
        table: &str,
        changed: Changed<T>,
        turns: fn(&Turns) -> &InsertTurns<T>,
        update: impl Fn(&[T]) -> Statement,
    ) -> Result<()>
    where
        T: ChangedRow + Clone + RowOwned + RowWrite + for<'r> Row<Value<'r> = T>,
    {
        let Changed { mut inserted, mut updated } = changed;
        match self.layout {
            Layout::Replacing => {
                inserted.append(&mut updated);
                self.insert(table, &inserted, turns).await
            }
            Layout::Patch => {
                self.insert(&tables::null_table(table), &inserted, turns).await?;
                self.update(&updated, update).await
            }
        }
    }

    async fn insert<T>(&mut self, table: &str, rows: &[T], turns: fn(&Turns) -> &InsertTurns<T>) -> Result<()>
    where
        T: ChangedRow + Clone + RowOwned + RowWrite + for<'r> Row<Value<'r> = T>,
    {
        for (number, rows) in inserts(rows).enumerate() {
            let token = (self.layout == Layout::Patch).then(|| format!("{}-{number}", self.token));
            let inserted = match self.turns.map(turns) {
                Some(turns) => {
                    let bytes = rows.iter().map(ChangedRow::bytes).sum();
                    let insert = async |rows: Vec<T>| self.connection.insert(OPERATION, table, &rows, None).await;
                    turns.insert(rows.to_vec(), bytes, insert).await
                }
                None => self.connection.insert(OPERATION, table, rows, token.as_deref()).await,
            };
            self.change.write(inserted)?;
        }
        Ok(())
    }

    async fn update<T>(&mut self, rows: &[T], statement: impl Fn(&[T]) -> Statement) -> Result<()> {
        for rows in rows.chunks(MAX_IDS) {
            let updated = self.connection.execute(OPERATION, &statement(rows)).await;
            self.change.write(updated)?;
        }
        Ok(())
    }
}

/// The rows of each insert into a table: all of them, unless they exceed [`INSERT_BYTES`].
fn inserts<T: ChangedRow>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    let mut bytes = 0;
    rows.chunk_by(move |row, next| {
        bytes += row.bytes();
        let fits = bytes + next.bytes() <= INSERT_BYTES;
        if !fits {
            bytes = 0;
        }
        fits
    })
}

/// A unique token of an insert.
pub(in crate::clickhouse) fn unique_token() -> String {
    Uuid::new_v4().to_string()
}
