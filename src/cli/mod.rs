//! The command line: subcommands, arguments and exit codes.

mod arguments;
mod clean;
mod compare;
mod copy;
mod explain;
mod file;
mod fill;
mod format;
mod interrupt;
mod logging;
mod messages;
mod page;
mod progress;
mod replay;
mod report;
mod run;
mod scratch;
mod smoke;
mod source;
mod sql;
mod stats;
mod table;
mod terminal;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::process::ExitCode;
use std::{io, panic, process};

use broadside::DatabaseConfig;
use clap::{Args, Parser, Subcommand};
use tokio::runtime::Runtime;

use arguments::Address;
use interrupt::Interrupted;

/// Test, compare and query databases for Armada Lookout: an embedded Arrow engine, PostgreSQL and ClickHouse.
#[derive(Debug, Parser)]
#[command(version, after_long_help = AFTER_HELP, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    logging: logging::LoggingArgs,

    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Backends:
  memory                      the embedded engine; the default
  postgres                    the server whose URL is in BROADSIDE_POSTGRES_URL
  clickhouse                  the server whose URL is in BROADSIDE_CLICKHOUSE_URL
  postgres://user:password@host:5432/database?sslmode=disable
  clickhouse+http://user:password@host:8123/database
  parquet:FOLDER              a copy of a store, for the commands with --from

Exit codes:
  0    success
  1    a check failed: a result differs, an objective is missed, or there is a regression
  2    error: invalid usage, an unreadable file, no connection
  3    a load test whose store did not sustain the load
  4    a load test whose measurements are invalid
  130  interrupted by SIGINT, SIGTERM or SIGHUP; scratch stores are removed";

#[derive(Debug, Subcommand)]
enum Command {
    Smoke(smoke::SmokeArgs),
    Replay(replay::ReplayArgs),
    Compare(compare::CompareArgs),
    Report(report::ReportArgs),
    Copy(copy::CopyArgs),
    Run(run::RunArgs),
    Sql(sql::SqlArgs),
    Explain(explain::ExplainArgs),
    Stats(stats::StatsArgs),
    Clean(clean::CleanArgs),
}

/// The backend argument that several commands share.
#[derive(Debug, Args)]
struct BackendArgs {
    /// The backend: memory, postgres, clickhouse or a URL.
    #[arg(long, value_name = "BACKEND", default_value = "memory")]
    backend: Address,
}

impl BackendArgs {
    fn config(&self) -> broadside::Result<DatabaseConfig> {
        self.backend.config()
    }
}

/// The result of a command, in ascending order of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ExitStatus {
    /// All checks passed.
    Passed,
    /// A result differs from the expected one.
    Differed,
    /// A store did not sustain a load.
    NotSustained,
    /// The measurements are invalid.
    Invalid,
    /// Part of the work failed, and the errors have been reported.
    Failed,
}

impl ExitStatus {
    const fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Differed => 1,
            Self::Failed => 2,
            Self::NotSustained => 3,
            Self::Invalid => 4,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

/// The reason for which a command failed.
#[derive(Debug)]
enum Failure {
    /// A signal interrupted the command.
    Interrupted,
    /// The error has already been reported.
    Reported,
    /// An error that is still to be reported.
    Error(Box<dyn std::error::Error>),
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(Box::new(error))
    }
}

impl Failure {
    /// An error that is only a message.
    fn message(problem: impl Display) -> Self {
        io::Error::other(problem.to_string()).into()
    }
}

impl From<Interrupted> for Failure {
    fn from(Interrupted: Interrupted) -> Self {
        Self::Interrupted
    }
}

/// The names of backends, by which several runs or stores are told apart. Repeated names get a number: `memory`,
/// `memory 2`.
fn numbered<'a>(backends: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut counts = BTreeMap::new();
    let name = |backend: &'a str| match counts.entry(backend).and_modify(|count| *count += 1).or_insert(1) {
        1 => backend.to_owned(),
        count => format!("{backend} {count}"),
    };
    backends.into_iter().map(name).collect()
}

/// Runs the command given by the arguments of the process.
pub fn run() -> ExitCode {
    // First, so that a signal is handled at any time.
    let outcome = interrupt::install().map_err(Failure::from).and_then(|()| execute(arguments::parse()));
    let code = match outcome {
        Ok(status) => status.into(),
        Err(Failure::Interrupted) => interrupt::EXIT_CODE.into(),
        Err(Failure::Reported) => ExitStatus::Failed.into(),
        Err(Failure::Error(error)) => {
            messages::error(error.as_ref());
            ExitStatus::Failed.into()
        }
    };
    if interrupt::is_requested() { interrupt::EXIT_CODE.into() } else { code }
}

/// Ends the process if a thread cannot start: tokio would panic, and then wait forever for the threads that did start.
fn runtime() -> io::Result<Runtime> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|panic| {
        messages::problem(panic.payload_as_str().unwrap_or("the threads of the command cannot start"));
        process::exit(ExitStatus::Failed.code().into());
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // The first blocking task also needs a thread, which the tasks of the next seconds have.
    runtime.block_on(runtime.spawn_blocking(|| ()))?;
    panic::set_hook(hook);
    Ok(runtime)
}

fn execute(cli: Cli) -> Result<ExitStatus, Failure> {
    logging::install(&cli.logging)?;
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Smoke(args) => smoke::run(&args).await,
            Command::Replay(args) => replay::run(&args).await,
            Command::Compare(args) => compare::run(&args).await,
            Command::Report(args) => report::run(&args),
            Command::Copy(args) => copy::run(&args).await,
            Command::Stats(args) => stats::run(&args).await,
            Command::Run(args) => run::run(&args).await,
            Command::Sql(args) => sql::run(&args).await,
            Command::Explain(args) => explain::run(&args).await,
            Command::Clean(args) => clean::run(&args).await,
        }
    });
    // Does not wait for blocking tasks, such as a read of standard input.
    runtime.shutdown_background();
    outcome
}
