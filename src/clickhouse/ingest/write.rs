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

/// The maximum number of bytes of unlimited length in an update. They are sent in hexadecimal in form fields of up to
/// 48 KiB. Together with the other values of [`MAX_IDS`] rows, these are fewer fields than a server accepts.
const UPDATE_BYTES: usize = 4 << 20;

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

    async fn update<T: ChangedRow>(&mut self, rows: &[T], statement: impl Fn(&[T]) -> Statement) -> Result<()> {
        for rows in updates(rows) {
            let updated = self.connection.execute(OPERATION, &statement(rows)).await;
            self.change.write(updated)?;
        }
        Ok(())
    }
}

/// The rows of each insert into a table: all of them, unless they exceed [`INSERT_BYTES`].
fn inserts<T: ChangedRow>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    pieces(rows, INSERT_BYTES, T::bytes)
}

/// The rows of each update of a table.
fn updates<T: ChangedRow>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    pieces(rows, UPDATE_BYTES, T::updated_bytes).flat_map(|rows| rows.chunks(MAX_IDS))
}

/// Rows in pieces of at most `max` bytes, or of a single row.
fn pieces<T>(rows: &[T], max: usize, bytes_of: fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut bytes = 0;
    rows.chunk_by(move |row, next| {
        bytes += bytes_of(row);
        let fits = bytes + bytes_of(next) <= max;
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::clickhouse::row::StoredRun;
    use crate::ingest::IngestionBatch;

    /// The number of form fields that a server accepts.
    const HTTP_MAX_FIELDS: usize = 1000;

    /// Runs with values of the maximum length, and with a debug message of this length for one in `every` runs.
    fn runs(count: usize, every: usize, bytes: usize) -> Vec<StoredRun> {
        let run = json!({"type": "insertJobRun", "jobRunId": "r".repeat(36), "jobId": "j".repeat(32), "cluster": "c",
            "node": "n".repeat(512), "time": "2026-01-01T00:00:00Z"});
        let batch = IngestionBatch::new([serde_json::from_value(run).unwrap()]).unwrap();
        let mut runs = vec![StoredRun::from(&batch.runs()[0]); count];
        runs.iter_mut().step_by(every).for_each(|run| run.debug = Some(Bytes::from(vec![0; bytes])));
        runs
    }

    #[test]
    fn an_update_has_fewer_values_than_a_server_accepts() {
        // More than half a parameter, and more than a parameter, which separates the values before and after it.
        for (count, every, bytes) in [
            (2_100, 1, 10_000),
            (MAX_IDS, 1, 0),
            (700, 1, 12_300),
            (MAX_IDS, 120, 24_577),
            (MAX_IDS, 10_000, UPDATE_BYTES),
        ] {
            let runs = runs(count, every, bytes);
            let updates: Vec<_> = updates(&runs).collect();
            assert_eq!(updates.concat(), runs);
            for rows in updates {
                let values = patch::update_runs(rows).values.iter().count();
                assert!(values < HTTP_MAX_FIELDS, "{values} values for {count} runs");
            }
        }
    }
}
