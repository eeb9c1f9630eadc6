//! DuckDB in memory with one thread, through its Python package, which contains the same library. Building the library
//! would take longer than the rest of the build.
//!
//! The child process executes the statements and measures their time, which excludes the pipe and the start of Python.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{SqlEngine, answer};
use crate::cell::{Cell, failed};
use crate::schema::{ANNOTATION, JOB, JOB_ERROR, JOB_RUN, JOB_SPEC, Table, create};
use crate::sql::{Dialect, Statement};
use broadside::Result;
use broadside::StoreInfo;
use broadside::Timestamp;
use broadside::compare::Target;
use broadside::ingest::{IngestionBatch, JobInsert, JobUpdate, RecordInsert, RunInsert, RunUpdate};
use broadside::model::{JobState, RunState};
use broadside::{ReadCall, ReadResult};

const SCRIPT: &str = include_str!("duckdb.py");
/// One thread, and late materialization of whole pages.
const SETTINGS: [&str; 2] = ["SET threads = 1", "SET late_materialization_max_rows = 1000"];
const TABLES: [Table; 5] = [JOB, JOB_RUN, ANNOTATION, JOB_SPEC, JOB_ERROR];
/// Executed after loading, so that predicates on annotations use zone maps, and lookups by id an index.
const AFTER_LOADING: [&str; 7] = [
    "CREATE TABLE sorted AS SELECT * FROM annotation ORDER BY key, value, job_id",
    "DROP TABLE annotation",
    "ALTER TABLE sorted RENAME TO annotation",
    "CREATE UNIQUE INDEX job_by_id ON job (job_id)",
    "CREATE UNIQUE INDEX run_by_id ON job_run (run_id)",
    "CREATE INDEX run_by_job ON job_run (job_id)",
    "CREATE UNIQUE INDEX spec_by_job ON job_spec (job_id)",
];
const ERROR_INDEX: &str = "CREATE UNIQUE INDEX error_by_job ON job_error (job_id)";

/// An in-memory DuckDB database in a child process.
#[derive(Debug)]
pub struct DuckDb {
    process: Mutex<Process>,
    version: String,
    now: Timestamp,
    /// The file from which rows are loaded.
    file: PathBuf,
}

#[derive(Debug)]
struct Process {
    child: Child,
    requests: ChildStdin,
    responses: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Response {
    Rows { rows: Vec<Vec<Value>>, nanos: u64 },
    Error { error: String },
}

impl DuckDb {
    /// Creates an empty database whose clock is fixed at `now`. It requires `python3` with the package `duckdb`.
    ///
    /// # Errors
    ///
    /// Those of DuckDB, and if Python or the package is not installed.
    pub fn new(now: Timestamp) -> Result<Self> {
        let mut child = Command::new("python3")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(&format_args!("cannot run python3: {error}")))?;
        let (Some(requests), Some(responses)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(&"python3 has no standard input or output"));
        };
        let process = Process { child, requests, responses: BufReader::new(responses) };
        let name = format!("broadside-duckdb-{}.ndjson", process.child.id());
        let mut database =
            Self { process: Mutex::new(process), version: String::new(), now, file: std::env::temp_dir().join(name) };
        SETTINGS.iter().try_for_each(|setting| database.execute(setting).map(drop))?;
        TABLES.iter().try_for_each(|table| database.execute(&create(*table, "")).map(drop))?;
        let (rows, _) = database.rows(&Statement { sql: "SELECT version()".to_owned(), parameters: Vec::new() })?;
        if let Some([Cell::Text(version)]) = rows.first().map(Vec::as_slice) {
            database.version = format!("DuckDB {version}, in memory, one thread");
        }
        Ok(database)
    }

    fn execute(&self, sql: &str) -> Result<Duration> {
        let (_, time) = self.rows(&Statement { sql: sql.to_owned(), parameters: Vec::new() })?;
        Ok(time)
    }

    /// Appends rows to a table from a file, which is the fastest method.
    fn append(&self, table: Table, rows: impl Iterator<Item = Value>) -> Result<Duration> {
        let mut file = BufWriter::new(File::create(&self.file).map_err(|error| failed(&error))?);
        let mut any = false;
        for row in rows {
            any = true;
            writeln!(file, "{row}").map_err(|error| failed(&error))?;
        }
        file.flush().map_err(|error| failed(&error))?;
        drop(file);
        if !any {
            return Ok(Duration::ZERO);
        }
        let (name, columns) = table;
        let is_bytes = |of_type: &str| of_type.starts_with("BLOB");
        let read = columns.iter().map(|(column, of_type)| {
            let as_read = if is_bytes(of_type) { "TEXT" } else { of_type.split(' ').next().unwrap_or(of_type) };
            format!("{column}: '{as_read}'")
        });
        let taken =
            columns.iter().map(
                |(column, of_type)| {
                    if is_bytes(of_type) { format!("from_base64({column})") } else { (*column).to_owned() }
                },
            );
        let sql = format!(
            "INSERT INTO {name} SELECT {} FROM read_json('{}', format = 'newline_delimited', columns = {{{}}})",
            taken.collect::<Vec<_>>().join(", "),
            self.file.display(),
            read.collect::<Vec<_>>().join(", "),
        );
        self.execute(&sql)
    }
}

impl Drop for DuckDb {
    fn drop(&mut self) {
        let process = self.process.get_mut();
        // A failed clean-up has no further consequence.
        let _ = process.child.kill();
        let _ = process.child.wait();
        let _ = std::fs::remove_file(&self.file);
    }
}

impl Process {
    fn run(&mut self, statement: &Statement) -> Result<(Vec<Vec<Value>>, Duration)> {
        let parameters: Vec<_> = statement.parameters.iter().map(parameter).collect();
        let request = json!({"sql": statement.sql, "parameters": parameters});
        writeln!(self.requests, "{request}").map_err(|error| failed(&error))?;
        let mut line = String::new();
        if self.responses.read_line(&mut line).map_err(|error| failed(&error))? == 0 {
            return Err(failed(&"DuckDB's process ended: python3 needs the package duckdb"));
        }
        match serde_json::from_str(&line).map_err(|error| failed(&error))? {
            Response::Rows { rows, nanos } => Ok((rows, Duration::from_nanos(nanos))),
            Response::Error { error } => Err(failed(&format_args!("{error}: {}", statement.sql))),
        }
    }
}

fn parameter(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Integer(integer) => (*integer).into(),
        Cell::Text(text) => text.as_str().into(),
        Cell::Bytes(bytes) => BASE64_STANDARD.encode(bytes).into(),
    }
}

fn cell(value: Value) -> Result<Cell> {
    Ok(match value {
        Value::Null => Cell::Null,
        Value::String(text) => Cell::Text(text),
        Value::Number(number) => number.as_i64().map_or(Cell::Null, Cell::Integer),
        Value::Object(object) => {
            let text = object.get("base64").and_then(Value::as_str).unwrap_or_default();
            Cell::Bytes(BASE64_STANDARD.decode(text).map_err(|error| failed(&error))?)
        }
        other => return Err(failed(&format_args!("{other} is not a value of a column"))),
    })
}

#[async_trait]
impl Target for DuckDb {
    fn name(&self) -> &str {
        "duckdb"
    }

    /// Jobs are loaded in their final state, because column stores are inefficient for updates of single rows.
    fn supports_updates(&self) -> bool {
        false
    }

    async fn ingest(&self, batch: &IngestionBatch) -> Result<Duration> {
        let ends: HashMap<_, _> = batch.job_updates().iter().map(|update| (update.job_id.as_str(), update)).collect();
        let run_ends: HashMap<_, _> =
            batch.run_updates().iter().map(|update| (update.run_id.as_str(), update)).collect();
        let jobs = batch.jobs().iter().map(|job| job_row(job, ends.get(job.job_id.as_str()).copied()));
        let runs = batch.runs().iter().map(|run| run_row(run, run_ends.get(run.run_id.as_str()).copied()));
        let annotations = batch.jobs().iter().flat_map(|job| {
            job.annotations.iter().map(|(key, value)| json!({"key": key, "value": value, "job_id": job.job_id}))
        });
        let mut time = self.append(JOB, jobs)? + self.append(JOB_RUN, runs)? + self.append(ANNOTATION, annotations)?;
        for (table, column, records) in [(JOB_SPEC, "spec", batch.specs()), (JOB_ERROR, "error", batch.errors())] {
            time += self.append(table, records.iter().map(|record| record_row(column, record)))?;
        }
        Ok(time)
    }

    async fn finish_ingestion(&self) -> Result<()> {
        AFTER_LOADING.iter().chain([&ERROR_INDEX]).try_for_each(|statement| self.execute(statement).map(drop))
    }

    async fn answer(&self, query: &ReadCall) -> Result<(ReadResult, Duration)> {
        answer(self, query, self.now)
    }

    async fn info(&self) -> Result<StoreInfo> {
        let sql = "SELECT CAST(sum(memory_usage_bytes) AS BIGINT) FROM duckdb_memory()".to_owned();
        let (rows, _) = self.rows(&Statement { sql, parameters: Vec::new() })?;
        let bytes = match rows.first().map(Vec::as_slice) {
            Some([Cell::Integer(bytes)]) => u64::try_from(*bytes).ok(),
            _ => None,
        };
        let mut info = StoreInfo::default();
        (info.version, info.bytes) = (Some(self.version.clone()), bytes);
        Ok(info)
    }
}

impl SqlEngine for DuckDb {
    const DIALECT: Dialect = Dialect::DuckDb;

    fn rows(&self, statement: &Statement) -> Result<(Vec<Vec<Cell>>, Duration)> {
        let (rows, time) = self.process.lock().run(statement)?;
        let rows = rows.into_iter().map(|row| row.into_iter().map(cell).collect::<Result<_>>());
        Ok((rows.collect::<Result<_>>()?, time))
    }
}

/// A job in its final state.
fn job_row(job: &JobInsert, update: Option<&JobUpdate>) -> Value {
    let patch = update.map(|update| &update.if_active);
    let (state, time) = patch.and_then(|patch| patch.transition).unwrap_or((JobState::Queued, job.submitted));
    let cancellation = patch.and_then(|patch| patch.cancellation.as_ref());
    json!({
        "job_id": job.job_id,
        "queue": job.queue,
        "owner": job.owner,
        "namespace": job.namespace,
        "job_set": job.job_set,
        "cpu": job.cpu,
        "memory": job.memory,
        "ephemeral_storage": job.ephemeral_storage,
        "gpu": job.gpu,
        "priority": patch.and_then(|patch| patch.priority).unwrap_or(job.priority),
        "priority_class": job.priority_class,
        "submitted": job.submitted.as_micros(),
        "cancelled": cancellation.map(|cancellation| cancellation.time.as_micros()),
        "state": state.ordinal(),
        "last_transition_time": time.as_micros(),
        "last_transition_time_seconds": time.floor_seconds(),
        "latest_run_id": patch.and_then(|patch| patch.latest_run_id.as_ref()),
        "annotations": serde_json::to_string(&job.annotations).unwrap_or_default(),
        "cancel_reason": cancellation.and_then(|cancellation| cancellation.reason.as_ref()),
        "cancel_user": cancellation.and_then(|cancellation| cancellation.user.as_ref()),
    })
}

/// A run in its final state.
fn run_row(run: &RunInsert, update: Option<&RunUpdate>) -> Value {
    let micros = |time: Option<Timestamp>| time.map(Timestamp::as_micros);
    let node = update.and_then(|update| update.node.as_ref()).or(run.node.as_ref());
    json!({
        "run_id": run.run_id,
        "job_id": run.job_id,
        "cluster": run.cluster,
        "node": node,
        "pool": run.pool,
        "leased": run.leased.as_micros(),
        "pending": micros(update.and_then(|update| update.pending)),
        "started": micros(update.and_then(|update| update.started)),
        "finished": micros(update.and_then(|update| update.finished)),
        "state": update.map_or(RunState::Leased, |update| update.state).ordinal(),
        "exit_code": update.and_then(|update| update.exit_code),
        "error": update.and_then(|update| update.error.as_ref()).map(|bytes| BASE64_STANDARD.encode(bytes)),
        "debug": update.and_then(|update| update.debug.as_ref()).map(|bytes| BASE64_STANDARD.encode(bytes)),
    })
}

fn record_row(column: &str, record: &RecordInsert) -> Value {
    json!({"job_id": record.job_id, column: BASE64_STANDARD.encode(&record.value)})
}
