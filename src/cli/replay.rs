//! `broadside replay`: executes scenario files and compares the responses.

use std::path::PathBuf;

use broadside::DatabaseConfig;
use broadside::scenario::Scenario;
use clap::Args;

use super::messages;
use super::scratch::{check_reachable, run_scenario};
use super::source::Source;
use super::{BackendArgs, ExitStatus, Failure};

/// Execute scenario files, each on an empty scratch store, and compare the responses.
///
/// A scenario is a JSON Lines file with one call per line. Blank lines and lines that begin with `#` are
/// skipped. The calls are ingest, getJobs, getJobGroups, getJobSpec, getJobError, getJobRunError,
/// getJobRunDebugMessage, jobIdFromQuery, populateHistoricalJobs, setClock, initialiseSchema and tearDown. The
/// store has no schema until initialiseSchema.
///
/// The command prints each response as a line of JSON: {"ok":…}, or {"error":{"kind":"…","message":"…"}}, where
/// the kind is invalidArgument, notFound, notInitialised, closed, unavailable or backend. Bytes are base64 and
/// times are RFC 3339. If a line has a key `expect` and the response is not equal to it as a JSON value, the
/// difference is reported on standard error with the file and line.
///
/// The scratch store is a schema or database that is created for the file and removed at the end. Nothing else
/// on the server is changed.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct ReplayArgs {
    #[command(flatten)]
    backend: BackendArgs,

    /// The scenario files; `-` for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

const AFTER_HELP: &str = r#"Examples:
  broadside replay fixtures/*.jsonl
  broadside replay --backend postgres://postgres@localhost/postgres my-scenario.jsonl
  broadside replay - <<'END'
  {"op":"initialiseSchema"}
  {"op":"getJobs","filters":[{"field":"queue","match":"exact","value":"q"}],"take":10,"expect":{"ok":[]}}
  END

Exit codes (the highest of all files):
  0  all responses are as expected
  1  a response differs from the expected one
  2  a file cannot be read, a line is not a valid call, or the backend cannot be reached"#;

pub async fn run(args: &ReplayArgs) -> Result<ExitStatus, Failure> {
    let config = args.backend.config()?;
    check_reachable(std::slice::from_ref(&config)).await?;
    let mut status = ExitStatus::Passed;
    for path in &args.files {
        let source = Source(path);
        status = status.max(match source.scenario() {
            Ok(scenario) => replay(&config, &source, &scenario).await?,
            Err(problem) => {
                messages::problem(problem);
                ExitStatus::Failed
            }
        });
    }
    Ok(status)
}

async fn replay(config: &DatabaseConfig, source: &Source<'_>, scenario: &Scenario) -> Result<ExitStatus, Failure> {
    let mut status = ExitStatus::Passed;
    run_scenario(config, scenario, async |step, response| {
        messages::output_interruptibly(response).await?;
        if !step.accepts(response) {
            messages::difference(source, step, response).await;
            status = ExitStatus::Differed;
        }
        Ok(())
    })
    .await?;
    Ok(status)
}
