//! `broadside replay`: runs scenario files and compares the responses.

use std::path::PathBuf;

use broadside::DatabaseConfig;
use broadside::scenario::Scenario;
use clap::Args;

use super::report::{self, Output};
use super::scratch::{reach, run_scenario};
use super::source::Source;
use super::{BackendArgs, Failure, Verdict};

/// Run scenario files, each on an empty store of its own, and compare the responses.
///
/// A scenario is JSON Lines: one call a line, in order; blank lines and lines that begin with
/// `#` are skipped. Every response is printed as one line of JSON. A line may say what it
/// expects; a response that differs (as a JSON value, key order aside) is shown on standard
/// error with its file and line.
///
/// Each file runs on a schema or database that is made for it and dropped after it; nothing
/// else on the server is touched.
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

Exit codes (the worst of all files):
  0  every line with an `expect` got exactly that response
  1  one did not
  2  a file cannot be read, a line is no valid call, or the backend cannot be reached"#;

pub async fn run(args: &ReplayArgs) -> Result<Verdict, Failure> {
    let config = args.backend.config()?;
    reach(std::slice::from_ref(&config)).await?;
    let mut output = Output::default();
    let mut verdict = Verdict::Agreed;
    for path in &args.files {
        let source = Source(path);
        verdict = verdict.max(match source.scenario() {
            Ok(scenario) => replay(&config, &source, &scenario, &mut output).await?,
            Err(problem) => {
                report::problem(problem);
                Verdict::Failed
            }
        });
    }
    Ok(verdict)
}

async fn replay(
    config: &DatabaseConfig,
    source: &Source<'_>,
    scenario: &Scenario,
    output: &mut Output,
) -> Result<Verdict, Failure> {
    let mut verdict = Verdict::Agreed;
    run_scenario(config, scenario, |step, response| {
        output.line(response)?;
        if !step.accepts(response) {
            report::difference(source, step, response);
            verdict = Verdict::Differed;
        }
        Ok(())
    })
    .await?;
    Ok(verdict)
}
