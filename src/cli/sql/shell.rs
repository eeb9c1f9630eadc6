//! The SQL shell: reads and executes statements and commands.

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use broadside::memory::SqlSession;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::output::{self as results, Format, Written};
use super::statements::split;
use crate::cli::interrupt::{self, Interrupted};
use crate::cli::messages::{self, output};
use crate::cli::{ExitStatus, Failure, format, terminal};

const PROMPT: &str = "broadside> ";
const CONTINUATION: &str = "        -> ";
/// The history file in the home directory.
const HISTORY: &str = ".broadside_history";

const HELP: &str = r"Statements end with a semicolon and may span several lines. Ctrl-C cancels the current statement.
  \d            list the tables
  \d TABLE      list the columns of a table
  \timing       toggle the display of execution times (without that of formatting and printing)
  \?            show this help
  \q            quit (also Ctrl-D)";

const TABLES: &str =
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name";

/// The input of the shell: lines that are edited on a terminal, or those of a pipe or a file.
struct Input {
    editor: DefaultEditor,
    /// The file with the history of a terminal.
    history: Option<PathBuf>,
}

impl Input {
    fn new(interactive: bool) -> Result<Self, Failure> {
        if interactive {
            terminal::save();
        }
        let mut editor = DefaultEditor::new()?;
        let history = std::env::home_dir().filter(|_| interactive).map(|home| home.join(HISTORY));
        if let Some(path) = &history {
            // The file does not exist before the first shell ends.
            let _ = editor.load_history(path);
        }
        Ok(Self { editor, history })
    }

    fn add_history(&mut self, entry: &str) {
        // An error only loses the history entry.
        let _ = self.editor.add_history_entry(entry);
    }

    fn save_history(&mut self) {
        if let Some(path) = &self.history
            && let Err(error) = self.editor.append_history(path)
        {
            messages::problem(format_args!("{}: cannot save the history: {error}", path.display()));
        }
    }
}

/// The control flow after a line.
#[derive(PartialEq, Eq)]
enum Flow {
    Continue,
    Exit,
}

/// Executes statements until the end of the input.
pub async fn run(session: &SqlSession, format: Format) -> Result<ExitStatus, Failure> {
    let interactive = io::stdin().is_terminal();
    let mut input = Input::new(interactive)?;
    let mut shell = Shell { session, format, timing: false, interactive, status: ExitStatus::Passed };
    if interactive {
        output(r"Tables: job, job_run, job_spec, job_error. \? for help, \q to quit.")?;
    }
    let mut pending = String::new();
    loop {
        match input.editor.readline(if pending.is_empty() { PROMPT } else { CONTINUATION }) {
            Ok(line) => {
                if shell.process(&line, &mut pending, &mut input).await? == Flow::Exit {
                    break;
                }
            }
            Err(ReadlineError::Interrupted) => pending.clear(),
            Err(ReadlineError::Eof) => {
                // The last statement needs no semicolon.
                let rest = split(&pending).rest;
                if !rest.is_empty() {
                    shell.execute(rest).await?;
                }
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    input.save_history();
    Ok(shell.status)
}

struct Shell<'a> {
    session: &'a SqlSession,
    format: Format,
    timing: bool,
    interactive: bool,
    /// The exit code: a non-interactive shell fails if a statement fails.
    status: ExitStatus,
}

impl Shell<'_> {
    /// Processes a line. `pending` is the incomplete statement of earlier lines.
    async fn process(&mut self, line: &str, pending: &mut String, input: &mut Input) -> Result<Flow, Failure> {
        let line = line.trim_end();
        if pending.is_empty() && line.trim_start().starts_with('\\') {
            input.add_history(line);
            return self.command(line.trim()).await;
        }
        if pending.is_empty() && line.trim().is_empty() {
            return Ok(Flow::Continue);
        }
        pending.push_str(line);
        pending.push('\n');
        let text = std::mem::take(pending);
        let split = split(&text);
        if !split.statements.is_empty() {
            input.add_history(text.trim_end());
        }
        for statement in split.statements {
            if self.execute(statement).await? == Flow::Exit {
                return Ok(Flow::Exit);
            }
        }
        if !split.rest.is_empty() {
            *pending = format!("{}\n", split.rest);
        }
        Ok(Flow::Continue)
    }

    async fn command(&mut self, command: &str) -> Result<Flow, Failure> {
        let mut words = command.trim_end_matches(';').split_whitespace();
        match (words.next().unwrap_or_default(), words.next(), words.next()) {
            ("\\q", None, None) => return Ok(Flow::Exit),
            ("\\?", None, None) => output(HELP)?,
            ("\\timing", None, None) => {
                self.timing = !self.timing;
                output(if self.timing { "Timing is on." } else { "Timing is off." })?;
            }
            ("\\d", None, None) => return self.execute(TABLES).await,
            ("\\d", Some(table), None) => return self.describe(table).await,
            _ => return self.failed(format_args!(r"unknown command {command:?}; \? shows the commands")),
        }
        Ok(Flow::Continue)
    }

    async fn describe(&mut self, table: &str) -> Result<Flow, Failure> {
        let name = table.replace('\'', "''");
        let of = format!("FROM information_schema.columns WHERE table_schema = 'public' AND table_name = '{name}'");
        let exists = self.session.query(&format!("SELECT 1 {of} LIMIT 1")).await?.collect().await?;
        if exists.iter().all(|batch| batch.num_rows() == 0) {
            return self.failed(format_args!(r"unknown table {table:?}; \d lists the tables"));
        }
        self.execute(&format!("SELECT column_name, data_type, is_nullable {of} ORDER BY ordinal_position")).await
    }

    /// Executes a statement. An error is reported, and ends a non-interactive shell.
    async fn execute(&mut self, statement: &str) -> Result<Flow, Failure> {
        let result = results::print(self.session, statement, self.format);
        let outcome = if self.interactive { interrupt::cancellable(result).await } else { Ok(result.await) };
        match outcome {
            Ok(Ok(None)) => return Ok(Flow::Exit),
            Ok(Ok(Some(written))) if self.timing => time_line(&written)?,
            Ok(Ok(_)) => {}
            Ok(Err(Failure::Error(error))) => {
                messages::error(error.as_ref());
                return Ok(self.after_failure());
            }
            Ok(Err(other)) => return Err(other),
            Err(Interrupted) => messages::problem("the statement was cancelled"),
        }
        Ok(Flow::Continue)
    }

    fn failed(&mut self, problem: impl Display) -> Result<Flow, Failure> {
        messages::problem(problem);
        Ok(self.after_failure())
    }

    fn after_failure(&mut self) -> Flow {
        if self.interactive {
            return Flow::Continue;
        }
        self.status = ExitStatus::Failed;
        Flow::Exit
    }
}

/// Prints the number of rows and the execution time.
fn time_line(written: &Written) -> Result<(), Failure> {
    let nanos = u64::try_from(written.time.as_nanos()).unwrap_or(u64::MAX);
    let rows = if written.rows == 1 { "1 row".to_owned() } else { format!("{} rows", written.rows) };
    output(format_args!("{rows}, {}", format::time(nanos)))?;
    Ok(())
}
