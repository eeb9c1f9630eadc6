//! The tables of the engines.
//!
//! Annotations are there twice: as JSON in the job's row, for the page that shows them, and as
//! rows of their own, by which they are found. Transition times are there as seconds too, as
//! in Lookout, for that is what jobs are ordered and averaged by.

/// The columns of a table: name and type, which both engines understand.
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
        ("last_transition", "BIGINT NOT NULL"),
        ("last_transition_second", "BIGINT NOT NULL"),
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

/// `CREATE TABLE` with more after the columns, such as a key.
pub(super) fn create(table: Table, more: &str) -> String {
    let (name, columns) = table;
    let columns: Vec<_> = columns.iter().map(|(name, of_type)| format!("{name} {of_type}")).collect();
    format!("CREATE TABLE {name} ({}{more})", columns.join(", "))
}
