//! The tables of the engines.
//!
//! Annotations are stored twice: as JSON in the row of the job, for pages of jobs, and as rows of a separate table, for
//! predicates. Transition times are also stored in seconds, as in Lookout, because orders and averages use seconds.

/// A table: its name, and the names and types of its columns, which both engines accept.
pub(super) type Table = (&'static str, &'static [(&'static str, &'static str)]);

pub(super) const JOB: Table = (
    "job",
    &[
        ("job_id", "TEXT NOT NULL"),
        ("queue", "TEXT NOT NULL"),
        ("owner", "TEXT NOT NULL"),
        ("namespace", "TEXT"),
        ("job_set", "TEXT NOT NULL"),
        ("cpu", "BIGINT NOT NULL"),
        ("memory", "BIGINT NOT NULL"),
        ("ephemeral_storage", "BIGINT NOT NULL"),
        ("gpu", "BIGINT NOT NULL"),
        ("priority", "BIGINT NOT NULL"),
        ("priority_class", "TEXT"),
        ("submitted", "BIGINT NOT NULL"),
        ("cancelled", "BIGINT"),
        ("state", "SMALLINT NOT NULL"),
        ("last_transition_time", "BIGINT NOT NULL"),
        ("last_transition_time_seconds", "BIGINT NOT NULL"),
        ("latest_run_id", "TEXT"),
        ("annotations", "TEXT NOT NULL"),
        ("cancel_reason", "TEXT"),
        ("cancel_user", "TEXT"),
    ],
);

pub(super) const JOB_RUN: Table = (
    "job_run",
    &[
        ("run_id", "TEXT NOT NULL"),
        ("job_id", "TEXT NOT NULL"),
        ("cluster", "TEXT NOT NULL"),
        ("node", "TEXT"),
        ("pool", "TEXT"),
        ("leased", "BIGINT"),
        ("pending", "BIGINT"),
        ("started", "BIGINT"),
        ("finished", "BIGINT"),
        ("state", "SMALLINT NOT NULL"),
        ("exit_code", "INTEGER"),
        ("error", "BLOB"),
        ("debug", "BLOB"),
    ],
);

pub(super) const ANNOTATION: Table =
    ("annotation", &[("key", "TEXT NOT NULL"), ("value", "TEXT NOT NULL"), ("job_id", "TEXT NOT NULL")]);
pub(super) const JOB_SPEC: Table = ("job_spec", &[("job_id", "TEXT NOT NULL"), ("spec", "BLOB NOT NULL")]);
pub(super) const JOB_ERROR: Table = ("job_error", &[("job_id", "TEXT NOT NULL"), ("error", "BLOB NOT NULL")]);

/// `CREATE TABLE` with further elements after the columns, such as a key.
pub(super) fn create(table: Table, more: &str) -> String {
    let (name, columns) = table;
    let columns: Vec<_> = columns.iter().map(|(name, of_type)| format!("{name} {of_type}")).collect();
    format!("CREATE TABLE {name} ({}{more})", columns.join(", "))
}
