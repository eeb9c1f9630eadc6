//! `broadside explain`: the statements and plans of a read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broadside::scenario::{Scenario, Step};
use broadside::{BackendKind, Database, DatabaseConfig, ErrorKind, Explanation, ManualClock, ReadCall};
use clap::Args;

use super::arguments::Address;
use super::compare::names;
use super::messages;
use super::scratch::{check_reachable, interruptible, with_scratches};
use super::source::Source;
use super::{ExitStatus, Failure, fill};

/// Show the statements and plans that each backend uses for a read.
///
/// A call is a line of a scenario, such as {"op":"getJobs","take":10}. The output has a section for each
/// backend, with the statements that the backend sends for the call, and the plan of each statement with the
/// actual row counts and times of its operators.
///
/// By default the command uses a scratch store, which it fills with generated jobs or by a scenario and
/// removes at the end. With --existing it uses the store at the address, without modifying it.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct ExplainArgs {
    /// A backend: memory, postgres, clickhouse or a URL. Repeatable.
    #[arg(long = "backend", value_name = "BACKEND", default_value = "memory")]
    backends: Vec<Address>,

    /// The call as JSON, a file with one call per line, or `-` for standard input.
    #[arg(value_name = "CALL|FILE|-")]
    call: String,

    /// Fill the store with the calls of this scenario; `-` for standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["jobs", "existing"])]
    scenario: Option<PathBuf>,

    /// Fill the store with this number of generated jobs.
    #[arg(long, value_name = "N", default_value_t = 10_000, conflicts_with = "existing")]
    jobs: u64,

    /// Fill the store with the rows of this store: a backend, a URL, or parquet:FOLDER.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["scenario", "jobs", "existing"])]
    from: Option<Address>,

    /// Use the existing store at the address, without modifying it.
    #[arg(long)]
    existing: bool,
}

const AFTER_HELP: &str = r#"Examples:
  broadside explain '{"op":"getJobs","filters":[{"field":"state","match":"exact","value":"RUNNING"}],"take":10}'
  broadside explain --backend memory --backend postgres --backend clickhouse \
    '{"op":"getJobGroups","groupedField":{"field":"queue"},"aggregates":["state"]}'
  broadside explain --existing --backend postgres://me@localhost/lookout slow-calls.jsonl

Exit codes:
  0  every call is explained
  2  a call is invalid or not a read, a backend cannot be reached, or its store has no schema"#;

/// A read and its text.
struct ExplainedCall {
    line: String,
    call: ReadCall,
}

pub async fn run(args: &ExplainArgs) -> Result<ExitStatus, Failure> {
    let configs = args.backends.iter().map(Address::config).collect::<broadside::Result<Vec<_>>>()?;
    if args.existing && configs.iter().any(|config: &DatabaseConfig| config.backend() == BackendKind::Memory) {
        return Err(Failure::message("--existing requires a server: a memory store does not outlive its process"));
    }
    if args.call == "-" && args.scenario.as_deref() == Some(Path::new("-")) {
        return Err(Failure::message("standard input cannot be both the call and the scenario"));
    }
    let calls = parse_calls(&args.call)?;
    if args.existing {
        interruptible(explain_existing(&configs, &calls)).await?;
    } else {
        explain_scratch(args, &configs, &calls).await?;
    }
    Ok(ExitStatus::Passed)
}

/// Parses the argument CALL: a call, a file or `-`.
fn parse_calls(argument: &str) -> Result<Vec<ExplainedCall>, Failure> {
    if argument.trim_start().starts_with('{') {
        let scenario = Scenario::parse(argument.as_bytes())
            .map_err(|error| Failure::message(format_args!("the call: {}", error.problem())))?;
        return scenario.steps.iter().map(|step| read_of("the call", step)).collect();
    }
    let source = Source(Path::new(argument));
    let scenario = fill::scenario(&source)?;
    scenario.steps.iter().map(|step| read_of(&format!("{source}:{}", step.line), step)).collect()
}

fn read_of(location: &str, step: &Step) -> Result<ExplainedCall, Failure> {
    match step.call.read() {
        Ok(Some(call)) => Ok(ExplainedCall { line: step.to_string(), call }),
        Ok(None) => {
            Err(Failure::message(format_args!("{location}: the call is not a read, and only reads can be explained")))
        }
        Err(error) => Err(Failure::message(format_args!("{location}: {error}"))),
    }
}

async fn explain_existing(configs: &[DatabaseConfig], calls: &[ExplainedCall]) -> Result<(), Failure> {
    let clock = Arc::new(ManualClock::default());
    let mut databases = Vec::new();
    for config in configs {
        databases.push(config.connect(clock.clone()).await?);
    }
    explain(&names(configs), &databases, calls).await
}

async fn explain_scratch(
    args: &ExplainArgs,
    configs: &[DatabaseConfig],
    calls: &[ExplainedCall],
) -> Result<(), Failure> {
    let source = args.scenario.as_deref().map(Source);
    let scenario = source.as_ref().map(fill::scenario).transpose()?;
    check_reachable(configs).await?;
    let from = match &args.from {
        Some(address) => Some(address.endpoint()?.open().await?),
        None => None,
    };
    let clock = Arc::new(ManualClock::default());
    with_scratches(configs, &clock, async |databases| {
        for database in databases {
            match (source.as_ref().zip(scenario.as_ref()), &from) {
                (Some((source, scenario)), _) => fill::execute(database.as_ref(), &clock, source, scenario).await,
                (None, Some(from)) => fill::import(database.as_ref(), from).await?,
                (None, None) => fill::generate(database.as_ref(), args.jobs).await?,
            }
            // Without statistics, the planner of a new store chooses other plans than that of an old one.
            match database.analyse().await {
                // The scenario has not initialised it, which the explanation reports.
                Err(error) if error.kind() == ErrorKind::NotInitialised => {}
                analysed => analysed?,
            }
        }
        explain(&names(configs), databases, calls).await
    })
    .await
}

/// Prints the explanation of each call on each backend.
async fn explain(names: &[String], databases: &[Arc<dyn Database>], calls: &[ExplainedCall]) -> Result<(), Failure> {
    for call in calls {
        if calls.len() > 1 {
            messages::output_interruptibly(&call.line).await?;
        }
        for (name, database) in names.iter().zip(databases) {
            let explanation = database.explain(&call.call).await?;
            messages::output_interruptibly(Section { name, explanation: &explanation }).await?;
        }
    }
    Ok(())
}

/// The explanation of one backend: its name, then each statement with its plan.
struct Section<'a> {
    name: &'a str,
    explanation: &'a Explanation,
}

impl fmt::Display for Section<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        for explained in &self.explanation.statements {
            indented(f, 2, &explained.statement)?;
            indented(f, 4, &explained.plan)?;
        }
        Ok(())
    }
}

fn indented(f: &mut fmt::Formatter<'_>, columns: usize, text: &str) -> fmt::Result {
    let lines = text.trim_matches('\n').lines().map(str::trim_end);
    lines.into_iter().try_for_each(|line| writeln!(f, "{:columns$}{line}", ""))
}

#[cfg(test)]
mod tests {
    use broadside::ExplainedStatement;

    use super::*;

    #[test]
    fn statements_precede_their_plans() {
        let statements = [("\n SELECT 1\n FROM t", "Result\n  Scan  ")]
            .map(|(statement, plan)| ExplainedStatement { statement: statement.to_owned(), plan: plan.to_owned() });
        let explanation = Explanation { statements: statements.into() };
        let text = Section { name: "postgres", explanation: &explanation }.to_string();
        assert_eq!(text, "postgres\n   SELECT 1\n   FROM t\n    Result\n      Scan\n");
    }

    #[test]
    fn only_reads_are_explained() {
        let problem = |call| match parse_calls(call) {
            Err(Failure::Error(error)) => error.to_string(),
            _ => panic!("{call} is explained"),
        };
        assert!(problem(r#"{"op":"tearDown"}"#).contains("not a read"));
        assert!(problem(r#"{"op":"getJobs","take":-1}"#).contains("the call: "));
        assert!(problem(r#"{"op":"nonsense"}"#).contains("nonsense"));
        assert!(problem("/there/is/no/such.jsonl").contains("such.jsonl"));
        assert_eq!(
            parse_calls("{\"op\":\"getJobs\"}\n{\"op\":\"getJobSpec\",\"jobId\":\"j\"}").map(|calls| calls.len()).ok(),
            Some(2)
        );
    }
}
