//! `broadside sql`: questions to the memory engine in SQL.

mod format;
mod shell;
mod statements;

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broadside::ingest::IngestionBatch;
use broadside::memory::{MemoryConfig, MemoryDatabase, SqlSession};
use broadside::workload::{Workload, WorkloadOptions};
use broadside::{Database, ManualClock};
use clap::Args;

use self::format::{Format, Stdout};
use super::source::Source;
use super::{Failure, Verdict, interrupt, report};

/// Ask the memory engine in SQL.
///
/// The tables are job, job_run, job_spec and job_error, filled by the calls of a scenario or
/// with generated jobs. They can only be read. Times are in UTC. EXPLAIN shows the plan, with the
/// indexes it uses. Without a query, statements are read from a shell, or from standard input.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct SqlArgs {
    /// The query: DataFusion's SQL, several statements with a semicolon after each.
    query: Option<String>,

    /// A query; may be given several times.
    #[arg(short = 'c', long = "command", value_name = "QUERY", conflicts_with = "query")]
    commands: Vec<String>,

    /// Make the calls of this scenario first; `-` for standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "jobs")]
    scenario: Option<PathBuf>,

    /// Generate this many jobs first.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    jobs: u64,

    /// How answers are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// Write the answers to this file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

const AFTER_HELP: &str = r#"Examples:
  broadside sql
  broadside sql "SELECT queue, state, count(*) AS jobs FROM job GROUP BY queue, state ORDER BY jobs DESC LIMIT 10"
  broadside sql --jobs 1000000 -c "EXPLAIN SELECT job_id FROM job WHERE queue = 'risk' ORDER BY job_id DESC LIMIT 5"
  broadside sql --scenario my-scenario.jsonl "DESCRIBE job"
  broadside sql --format parquet --out job.parquet "SELECT * FROM job"

Exit codes:
  0  the answers are printed
  2  a query or the scenario is invalid, or a query failed"#;

const JOBS_PER_BATCH: u64 = 1000;

/// The arguments do not fit each other.
#[derive(Debug)]
struct Misuse(&'static str);

impl std::fmt::Display for Misuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Misuse {}

pub async fn run(args: &SqlArgs) -> Result<Verdict, Failure> {
    let texts: Vec<&str> = args.commands.iter().chain(&args.query).map(String::as_str).collect();
    let queries: Vec<&str> = texts.iter().flat_map(|text| all_statements(text)).collect();
    check(args, texts.is_empty(), queries.len())?;
    let clock = Arc::new(ManualClock::default());
    let database = MemoryDatabase::new(&MemoryConfig::default(), clock.clone());
    match &args.scenario {
        Some(path) => make_calls(&database, &clock, &Source(path)).await?,
        None => generate(&database, args.jobs).await?,
    }
    let session = database.sql_session().await?;
    if texts.is_empty() {
        return shell::run(&session, args.format).await;
    }
    match &args.out {
        Some(path) => to_file(path, &session, &queries, args.format).await?,
        None => {
            for query in queries {
                format::write(session.query(query).await?, args.format, BufWriter::new(Stdout::default())).await?;
            }
        }
    }
    Ok(Verdict::Agreed)
}

fn all_statements(text: &str) -> Vec<&str> {
    let split = statements::split(text);
    split.statements.into_iter().chain([split.rest].into_iter().filter(|rest| !rest.is_empty())).collect()
}

fn check(args: &SqlArgs, shell: bool, queries: usize) -> Result<(), Misuse> {
    let from_stdin = args.scenario.as_deref() == Some(Path::new("-"));
    match (args.format.is_binary(), &args.out) {
        (_, _) if shell && args.out.is_some() => Err(Misuse("--out needs a query")),
        (_, _) if shell && from_stdin => Err(Misuse("with a scenario from standard input, a query is needed")),
        (_, _) if !shell && queries == 0 => Err(Misuse("the query is empty")),
        (true, None) => Err(Misuse("Parquet and Arrow need a file: --out FILE")),
        (true, Some(_)) if queries > 1 => Err(Misuse("a Parquet or Arrow file holds the answer of one query")),
        _ => Ok(()),
    }
}

/// Writes the answers to a file, which is there only when they all are.
async fn to_file(path: &Path, session: &SqlSession, queries: &[&str], format: Format) -> Result<(), Failure> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    // A signal must not leave half a file behind.
    let _hold = interrupt::hold()?;
    let file = File::create(&part).map_err(named)?;
    let written = async {
        let mut out = BufWriter::new(&file);
        for query in queries {
            format::write(session.query(query).await?, format, &mut out).await?;
        }
        Ok(())
    };
    let outcome = tokio::select! {
        outcome = written => outcome,
        () = interrupt::requested() => Err(Failure::Interrupted),
    };
    match outcome {
        Ok(()) => Ok(fs::rename(&part, path).map_err(named)?),
        Err(failure) => {
            // The failure says what matters; the file may be gone already.
            let _ = fs::remove_file(&part);
            Err(failure)
        }
    }
}

/// Makes a scenario's calls, and shows those that fail or get another response than they expect.
async fn make_calls(database: &MemoryDatabase, clock: &ManualClock, source: &Source<'_>) -> Result<(), Failure> {
    for step in source.scenario().map_err(io::Error::other)?.steps {
        let response = step.call.execute(database, clock).await;
        if step.expect.is_some() {
            report::difference(source, &step, &response);
        } else {
            report::failed_call(source, &step, &response);
        }
    }
    Ok(())
}

async fn generate(database: &MemoryDatabase, jobs: u64) -> Result<(), Failure> {
    database.initialise_schema().await?;
    for batch in Workload::new(WorkloadOptions { jobs, ..WorkloadOptions::default() }).batches(JOBS_PER_BATCH) {
        database.execute_ingestion_query_batch(&IngestionBatch::new(batch)?).await?;
    }
    Ok(())
}
