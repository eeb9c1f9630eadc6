//! `broadside sql`: SQL queries on the memory engine.

mod commands;
mod completion;
mod expanded;
mod output;
mod shell;
mod statements;

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broadside::ManualClock;
use broadside::memory::{MemoryDatabase, SqlSession};
use clap::Args;

use self::output::Format;
use self::statements::Part;
use super::arguments::Address;
use super::interrupt::{self, Guard};
use super::source::Source;
use super::{ExitStatus, Failure, file, fill, format};

/// Query the memory engine with SQL.
///
/// The tables are job, job_run, job_spec and job_error. They are filled by a scenario, with generated jobs, or with
/// the rows of another store, and are read-only. Times are in UTC. EXPLAIN shows the plan with the indexes that it uses. Without a query, the
/// command starts an interactive shell, or reads statements from standard input if that is not a terminal.
#[derive(Debug, Args)]
#[command(after_long_help = format!("{DIALECT}\n{EXAMPLES}"))]
pub struct SqlArgs {
    /// The query in DataFusion's SQL dialect. Several statements are separated by semicolons.
    query: Option<String>,

    /// A query. Repeatable.
    #[arg(short = 'c', long = "command", value_name = "QUERY", conflicts_with = "query")]
    commands: Vec<String>,

    /// Fill the store with the calls of this scenario; `-` for standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "jobs")]
    scenario: Option<PathBuf>,

    /// Fill the store with this number of generated jobs.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    jobs: u64,

    /// Fill the store with the rows of this store: a backend, a URL, or parquet:FOLDER.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["jobs", "scenario"])]
    from: Option<Address>,

    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// The memory budget of queries: bytes, or a number with K, M, G or T. A query that exceeds it writes temporary
    /// files, or fails. The default is half of the memory of the machine, or less if that of the process is limited.
    #[arg(long, value_name = "SIZE", value_parser = format::parse_bytes)]
    memory: Option<u64>,

    /// Write the results to this file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// The deviations of the dialect from PostgreSQL's.
const DIALECT: &str = "\
The dialect is PostgreSQL's, with the functions of DataFusion:
  integers    of the tables are 64 bits wide, int is 32 bits wide. An overflow is an error, also of sum. A division truncates.
  casts       of a fraction to an integer round, a half away from zero.
  times       have microseconds and no time zone. extract(second ...) has no fraction, extract(epoch ...) has.
  intervals   are compared by their length, with days of 24 hours and months of 30 days, if they are literals.
  patterns    of to_char are those of strftime: '%Y-%m-%d'. A pattern without a field is refused.
  names       of columns may be repeated. JSON, Parquet and Arrow number them.
  functions   fail if their results for 8,192 rows exceed 1 GiB, as of repeat and range, or if they compare more than 2^30
              characters or elements, as levenshtein and array_has_all.
Refused are SIMILAR TO (use ~ with a regular expression), TABLESAMPLE, FETCH ... WITH TIES, lists over ordered windows, and IN and EXISTS
with a subquery outside of WHERE.";

const EXAMPLES: &str = r#"
Examples:
  broadside sql
  broadside sql "SELECT queue, state, count(*) AS jobs FROM job GROUP BY queue, state ORDER BY jobs DESC LIMIT 10"
  broadside sql --jobs 1000000 -c "EXPLAIN SELECT job_id FROM job WHERE queue = 'risk' ORDER BY job_id DESC LIMIT 5"
  broadside sql --scenario my-scenario.jsonl "DESCRIBE job"
  broadside sql --jobs 1000000 --memory 512M "SELECT * FROM job ORDER BY owner, submitted"
  broadside sql --from postgres://reader@replica/lookout "SELECT state, count(*) FROM job GROUP BY state"
  broadside sql --format parquet --out job.parquet "SELECT * FROM job"

Exit codes:
  0  all queries succeeded
  2  a query or the scenario is invalid, or a query failed"#;

pub async fn run(args: &SqlArgs) -> Result<ExitStatus, Failure> {
    let texts: Vec<&str> = args.commands.iter().chain(&args.query).map(String::as_str).collect();
    let queries: Vec<String> = texts.iter().flat_map(|text| all_statements(text)).collect();
    check(args, texts.is_empty(), queries.len())?;
    let clock = Arc::new(ManualClock::default());
    let database = MemoryDatabase::new().with_clock(clock.clone());
    let database = match args.memory {
        Some(bytes) => database.with_sql_memory(bytes),
        None => database,
    };
    match (&args.scenario, &args.from) {
        (Some(path), _) => {
            let source = Source(path);
            fill::execute(&database, &clock, &source, &fill::scenario(&source)?).await;
        }
        (None, Some(address)) => fill::import(&database, &address.endpoint()?.open().await?).await?,
        (None, None) => fill::generate(&database, args.jobs).await?,
    }
    let session = database.sql_session().await?;
    if texts.is_empty() {
        return shell::run(&session, args.format).await;
    }
    match &args.out {
        Some(path) => to_file(path, &session, &queries, args.format).await?,
        None => {
            for query in queries {
                if output::print(&session, &query, args.format.into()).await?.is_none() {
                    break;
                }
            }
        }
    }
    Ok(ExitStatus::Passed)
}

fn all_statements(text: &str) -> Vec<String> {
    let split = statements::split(text);
    let parts = split.statements.iter().chain([&split.rest].into_iter().filter(|rest| !rest.text.is_empty()));
    parts.map(Part::in_place).collect()
}

fn check(args: &SqlArgs, shell: bool, queries: usize) -> Result<(), Failure> {
    let from_stdin = args.scenario.as_deref() == Some(Path::new("-"));
    let problem = match (args.format.is_binary(), &args.out) {
        (_, _) if shell && args.out.is_some() => "--out requires a query",
        (_, _) if shell && from_stdin => "a scenario from standard input requires a query",
        (_, _) if !shell && queries == 0 => "the query is empty",
        (true, None) => "the formats parquet and arrow require --out",
        (true, Some(_)) if queries > 1 => "the formats parquet and arrow support only one query",
        _ => return Ok(()),
    };
    Err(Failure::message(problem))
}

/// Writes the results to a file. The file is replaced only after all queries have succeeded.
async fn to_file(path: &Path, session: &SqlSession, queries: &[String], format: Format) -> Result<(), Failure> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let part = file::temporary(path);
    // A signal must not leave the partial file behind.
    let _guard = Guard::of_results()?;
    let file = File::create(&part).map_err(named)?;
    let written = async {
        let mut out = BufWriter::new(&file);
        for query in queries {
            output::write(session, query, format.into(), &mut out).await?;
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
            // The failure is more important than an error of the removal.
            let _ = fs::remove_file(&part);
            Err(failure)
        }
    }
}
