//! How changes reach the tables.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use clickhouse::{Row, RowOwned, RowWrite};

use super::changes::{Changed, Changes};
use super::{OPERATION, patch};
use crate::clickhouse::connection::Connection;
use crate::clickhouse::schema::Layout;
use crate::clickhouse::statement::{MOST_IDS, Statement};
use crate::error::Result;

/// Writes the changes of one batch, table by table. Jobs come last: a job that is there has all
/// that the batch says of it.
///
/// Repeating is harmless. On ReplacingMergeTree of two rows of the same version the later one
/// counts, and they are the same; a row of an older version never counts. With patches an insert
/// carries a token by which the server knows it when it comes again, and an update sets what it
/// had set.
pub(in crate::clickhouse) struct Writer<'a> {
    connection: &'a Connection,
    layout: Layout,
    /// Tells this batch's inserts from all others.
    token: String,
    /// Whether some of the batch is written: then no error leaves the store as it was.
    begun: bool,
}

impl<'a> Writer<'a> {
    pub(in crate::clickhouse) fn new(connection: &'a Connection, layout: Layout) -> Self {
        Self { connection, layout, token: unique_token(), begun: false }
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
                self.insert(table, &inserted).await?;
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
        self.step(inserted)
    }

    async fn update<T>(&mut self, rows: &[T], statement: impl Fn(&[T]) -> Statement) -> Result<()> {
        for rows in rows.chunks(MOST_IDS) {
            let updated = self.connection.execute(OPERATION, &statement(rows)).await;
            self.step(updated)?;
        }
        Ok(())
    }

    fn step(&mut self, result: Result<()>) -> Result<()> {
        let begun = std::mem::replace(&mut self.begun, true);
        result.map_err(|error| if begun { error.with_unknown_outcome() } else { error })
    }
}

/// A token that no other batch of any process has.
fn unique_token() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos());
    format!("{nanos:x}-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}
