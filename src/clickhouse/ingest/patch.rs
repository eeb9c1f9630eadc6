//! Lightweight updates: one `UPDATE` for each table sets the columns of all changed rows.
//!
//! The new values of each row are looked up by id in constant arrays, for which `transform` builds hash tables. The
//! server writes a patch part with only the assigned columns. Rows that a later batch has updated are excluded by their
//! version, because the server may execute the statement late.

use crate::clickhouse::row::{JobRow, StoredRun};
use crate::clickhouse::statement::{Statement, Values};
use crate::time::Timestamp;

/// Represents null in arrays of integers; less than every time and exit code.
const NULL: i64 = i64::MIN / 2;

/// The statement that updates the mutable columns of jobs.
pub(in crate::clickhouse) fn update_jobs(rows: &[JobRow]) -> Statement {
    let mut lists = Lists::new("job_id", rows.iter().map(|row| row.job_id.as_str()));
    let assignments = [
        format!("priority = {}", lists.integers(rows.iter().map(|row| row.priority))),
        format!("state = {}", lists.texts(rows.iter().map(|row| Some(row.state.name())))),
        format!("last_transition_time = {}", lists.time(rows.iter().map(|row| row.last_transition_time))),
        format!("latest_run_id = {}", lists.texts(rows.iter().map(|row| row.latest_run_id.as_deref()))),
        format!("cancelled = {}", lists.nullable_time(rows.iter().map(|row| row.cancelled))),
        format!("cancel_reason = {}", lists.texts(rows.iter().map(|row| row.cancel_reason.as_deref()))),
        format!("cancel_user = {}", lists.texts(rows.iter().map(|row| row.cancel_user.as_deref()))),
    ];
    lists.update("job", &assignments, rows.iter().map(|row| row.version).max())
}

/// The statement that updates the mutable columns of runs.
pub(in crate::clickhouse) fn update_runs(rows: &[StoredRun]) -> Statement {
    let mut lists = Lists::new("run_id", rows.iter().map(|row| row.run_id.as_str()));
    let assignments = [
        format!("node = {}", lists.texts(rows.iter().map(|row| row.node.as_deref()))),
        format!("state = {}", lists.texts(rows.iter().map(|row| Some(row.state.name())))),
        format!("pending = {}", lists.nullable_time(rows.iter().map(|row| row.pending))),
        format!("started = {}", lists.nullable_time(rows.iter().map(|row| row.started))),
        format!("finished = {}", lists.nullable_time(rows.iter().map(|row| row.finished))),
        format!("exit_code = {}", lists.nullable_integers(rows.iter().map(|row| row.exit_code.map(i64::from)))),
        format!("error = {}", lists.bytes(rows.iter().map(|row| row.error.as_deref()))),
        format!("debug = {}", lists.bytes(rows.iter().map(|row| row.debug.as_deref()))),
    ];
    lists.update("job_run", &assignments, rows.iter().map(|row| row.version).max())
}

/// Builds an `UPDATE` from arrays of values in the order of the array of ids.
struct Lists {
    values: Values,
    key: &'static str,
    ids: String,
}

impl Lists {
    fn new<'a>(key: &'static str, ids: impl Iterator<Item = &'a str>) -> Self {
        let mut values = Values::default();
        let ids = values.texts(ids);
        Self { values, key, ids }
    }

    /// The statement; `version` is that of the batch.
    fn update(self, table: &str, assignments: &[String], version: Option<u64>) -> Statement {
        let Self { mut values, key, ids } = self;
        let version = values.count(version.unwrap_or_default());
        let assignments = assignments.join(", ");
        let sql = format!(
            "UPDATE {table} SET version = {version}, {assignments} WHERE {key} IN {ids} AND version < {version}"
        );
        Statement { sql, values }
    }

    /// The expression of the value of a row in an array.
    fn look_up(&self, list: &str, default: &str) -> String {
        format!("transform({}, {}, {list}, {default})", self.key, self.ids)
    }

    fn texts<'a>(&mut self, texts: impl Iterator<Item = Option<&'a str>>) -> String {
        let list = self.values.texts(texts.map(Option::unwrap_or_default));
        self.look_up(&list, "''")
    }

    fn bytes<'a>(&mut self, bytes: impl Iterator<Item = Option<&'a [u8]>>) -> String {
        let list = self.values.hex_texts(bytes.map(Option::unwrap_or_default));
        format!("unhex({})", self.look_up(&list, "''"))
    }

    fn integers(&mut self, integers: impl Iterator<Item = i64>) -> String {
        let list = self.values.integers(&integers.collect::<Vec<_>>());
        self.look_up(&list, "toInt64(0)")
    }

    fn nullable_integers(&mut self, integers: impl Iterator<Item = Option<i64>>) -> String {
        let integers = self.integers(integers.map(|integer| integer.unwrap_or(NULL)));
        format!("nullIf({integers}, {NULL})")
    }

    fn time(&mut self, times: impl Iterator<Item = Timestamp>) -> String {
        format!("fromUnixTimestamp64Micro({}, 'UTC')", self.integers(times.map(Timestamp::as_micros)))
    }

    fn nullable_time(&mut self, times: impl Iterator<Item = Option<Timestamp>>) -> String {
        let micros = self.nullable_integers(times.map(|time| time.map(Timestamp::as_micros)));
        format!("fromUnixTimestamp64Micro({micros}, 'UTC')")
    }
}
