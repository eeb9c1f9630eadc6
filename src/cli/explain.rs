//! `broadside explain`: what each backend does to answer a read.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broadside::scenario::{Scenario, Step};
use broadside::{BackendKind, Database, DatabaseConfig, Explanation, ManualClock, ReadCall};
use clap::Args;

use super::compare::names;
use super::report::Output;
use super::scratch::{interruptible, reach, with_scratches};
use super::source::Source;
use super::{Failure, Verdict, fill};

/// Show what each backend does to answer a read: its statements and their plans.
///
/// A call is a line of a scenario, such as {"op":"getJobs","take":10}. Each backend shows the statements that it
/// sends for the call, and the plan of each with what its operators measured. Several backends are shown one
/// under the other.
///
/// The call is explained on a store that is made for it, filled with generated jobs or by a scenario, and
/// dropped after it; with --existing on the store that the address names, which is only read.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct ExplainArgs {
    /// A backend: memory, postgres, clickhouse or a URL.
    // Kept as text: clap shows a value that it cannot parse, and a URL may hold a password.
    #[arg(long = "backend", value_name = "BACKEND", default_value = "memory")]
    backends: Vec<String>,

    /// The call as JSON, a file of calls, or `-` for standard input.
    #[arg(value_name = "CALL|FILE|-")]
    call: String,

    /// Make the calls of this scenario first; `-` for standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["jobs", "existing"])]
    scenario: Option<PathBuf>,

    /// Generate this many jobs first.
    #[arg(long, value_name = "N", default_value_t = 10_000, conflicts_with = "existing")]
    jobs: u64,

    /// Explain on the store that the address names, and change nothing in it.
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
  2  a call is invalid or no read, a backend cannot be reached, or its store has no schema"#;

/// A read and the line that it comes from.
struct Explained {
    line: String,
    call: ReadCall,
}

pub async fn run(args: &ExplainArgs) -> Result<Verdict, Failure> {
    let configs = args.backends.iter().map(|backend| backend.parse()).collect::<broadside::Result<Vec<_>>>()?;
    if args.existing && configs.iter().any(|config: &DatabaseConfig| config.backend() == BackendKind::Memory) {
        return Err(misuse("--existing needs a server: a store of the memory engine ends with its process"));
    }
    if args.call == "-" && args.scenario.as_deref() == Some(Path::new("-")) {
        return Err(misuse("standard input is either the call or the scenario"));
    }
    let calls = calls(&args.call)?;
    if args.existing {
        interruptible(explain_existing(&configs, &calls)).await?;
    } else {
        explain_scratch(args, &configs, &calls).await?;
    }
    Ok(Verdict::Agreed)
}

fn misuse(problem: &'static str) -> Failure {
    io::Error::new(io::ErrorKind::InvalidInput, problem).into()
}

/// The reads of an argument: a call, a file or standard input.
fn calls(argument: &str) -> Result<Vec<Explained>, Failure> {
    if argument.trim_start().starts_with('{') {
        let scenario = Scenario::parse(argument.as_bytes()).map_err(|error| named("the call", error.problem()))?;
        return scenario.steps.iter().map(|step| explained("the call", step)).collect();
    }
    let source = Source(Path::new(argument));
    let scenario = fill::scenario(&source)?;
    scenario.steps.iter().map(|step| explained(&format!("{source}:{}", step.line), step)).collect()
}

fn explained(place: &str, step: &Step) -> Result<Explained, Failure> {
    match step.call.read() {
        Ok(Some(call)) => Ok(Explained { line: step.to_string(), call }),
        Ok(None) => Err(named(place, "it reads nothing from the store, so that there is nothing to explain")),
        Err(error) => Err(named(place, error)),
    }
}

fn named(place: &str, problem: impl fmt::Display) -> Failure {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{place}: {problem}")).into()
}

async fn explain_existing(configs: &[DatabaseConfig], calls: &[Explained]) -> Result<(), Failure> {
    let clock = Arc::new(ManualClock::default());
    let mut databases = Vec::new();
    for config in configs {
        databases.push(config.connect(clock.clone()).await?);
    }
    explain(&names(configs), &databases, calls).await
}

async fn explain_scratch(args: &ExplainArgs, configs: &[DatabaseConfig], calls: &[Explained]) -> Result<(), Failure> {
    let source = args.scenario.as_deref().map(Source);
    let scenario = source.as_ref().map(fill::scenario).transpose()?;
    reach(configs).await?;
    let clock = Arc::new(ManualClock::default());
    with_scratches(configs, &clock, async |databases| {
        for database in databases {
            match source.as_ref().zip(scenario.as_ref()) {
                Some((source, scenario)) => fill::make_calls(database.as_ref(), &clock, source, scenario).await,
                None => fill::generate(database.as_ref(), args.jobs).await?,
            }
        }
        explain(&names(configs), databases, calls).await
    })
    .await
}

/// Prints what each store does for each call.
async fn explain(names: &[String], databases: &[Arc<dyn Database>], calls: &[Explained]) -> Result<(), Failure> {
    let mut output = Output::default();
    for call in calls {
        if calls.len() > 1 {
            output.line(&call.line)?;
        }
        for (name, database) in names.iter().zip(databases) {
            let explanation = database.explain(&call.call).await?;
            output.line(Section { name, explanation: &explanation })?;
        }
    }
    Ok(())
}

/// What one store does: its name, and below it each statement with its plan.
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
    fn statements_stand_over_their_plans() {
        let statements = [("\n SELECT 1\n FROM t", "Result\n  Scan  ")]
            .map(|(statement, plan)| ExplainedStatement { statement: statement.to_owned(), plan: plan.to_owned() });
        let explanation = Explanation { statements: statements.into() };
        let shown = Section { name: "postgres", explanation: &explanation }.to_string();
        assert_eq!(shown, "postgres\n   SELECT 1\n   FROM t\n    Result\n      Scan\n");
    }

    #[test]
    fn only_reads_are_explained() {
        let problem = |call| match calls(call) {
            Err(Failure::Error(error)) => error.to_string(),
            _ => panic!("{call} is explained"),
        };
        assert!(problem(r#"{"op":"tearDown"}"#).contains("reads nothing"));
        assert!(problem(r#"{"op":"getJobs","take":-1}"#).contains("the call: "));
        assert!(problem(r#"{"op":"nonsense"}"#).contains("nonsense"));
        assert!(problem("/there/is/no/such.jsonl").contains("such.jsonl"));
        assert_eq!(
            calls("{\"op\":\"getJobs\"}\n{\"op\":\"getJobSpec\",\"jobId\":\"j\"}").map(|calls| calls.len()).ok(),
            Some(2)
        );
    }
}
