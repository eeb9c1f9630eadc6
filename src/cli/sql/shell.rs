//! The SQL shell: reads and executes statements and commands.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal};
use std::path::PathBuf;

use broadside::memory::SqlSession;
use rustyline::Editor;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;

use super::commands::{self, Command, is_command};
use super::completion::Completion;
use super::expanded::Expanded;
use super::output::{self as results, Format, Style, Written};
use super::statements::{Part, lines, split};
use crate::cli::interrupt::{self, Interrupted};
use crate::cli::messages::{self, output};
use crate::cli::{ExitStatus, Failure, format, terminal};

const PROMPT: &str = "broadside> ";
const CONTINUATION: &str = "        -> ";
/// The history file in the home directory.
const HISTORY: &str = ".broadside_history";

const TABLES: &str =
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name";

/// The input of the shell: lines that are edited on a terminal, or those of a pipe or a file.
struct Input {
    editor: Editor<Completion, DefaultHistory>,
    /// The file with the history of a terminal.
    history: Option<PathBuf>,
}

impl Input {
    async fn new(session: &SqlSession, interactive: bool) -> Result<Self, Failure> {
        if interactive {
            terminal::save();
        }
        let mut editor = Editor::new()?;
        if interactive {
            editor.set_helper(Some(Completion::of(session).await?));
        }
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
    let mut input = Input::new(session, interactive).await?;
    let style = format.into();
    let status = ExitStatus::Passed;
    let mut shell = Shell { session, style, out: None, timing: false, interactive, lines: 0, status };
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
                if !rest.text.is_empty() {
                    shell.execute(&shell.in_place(&rest)).await?;
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
    style: Style,
    /// The file of results.
    out: Option<File>,
    timing: bool,
    interactive: bool,
    /// The number of lines before the incomplete statement. 0 if the shell is interactive.
    lines: usize,
    /// The exit code: a non-interactive shell fails if a statement fails.
    status: ExitStatus,
}

impl Shell<'_> {
    /// Processes a line. `pending` is the incomplete statement of earlier lines.
    async fn process(&mut self, line: &str, pending: &mut String, input: &mut Input) -> Result<Flow, Failure> {
        if is_command_after(pending, line) {
            input.add_history(line.trim_end());
            if pending.is_empty() {
                self.pass("\n");
            } else {
                pending.push('\n');
            }
            return self.command(line.trim()).await;
        }
        if pending.is_empty() && line.trim().is_empty() {
            self.pass("\n");
            return Ok(Flow::Continue);
        }
        pending.push_str(line);
        pending.push('\n');
        let text = std::mem::take(pending);
        let split = split(&text);
        if !split.statements.is_empty() {
            input.add_history(text.trim());
        }
        for statement in split.statements {
            if self.execute(&self.in_place(&statement)).await? == Flow::Exit {
                return Ok(Flow::Exit);
            }
        }
        self.pass(split.rest.before);
        if !split.rest.text.is_empty() {
            // It keeps its column.
            let line = split.rest.in_place();
            pending.push_str(line.trim_start_matches('\n'));
        }
        Ok(Flow::Continue)
    }

    /// Counts the lines that have been processed.
    fn pass(&mut self, text: &str) {
        self.lines += if self.interactive { 0 } else { lines(text) };
    }

    fn in_place(&self, part: &Part<'_>) -> String {
        "\n".repeat(self.lines) + &part.in_place()
    }

    async fn command(&mut self, line: &str) -> Result<Flow, Failure> {
        match commands::parse(line) {
            Ok(Command::Quit) => return Ok(Flow::Exit),
            Ok(Command::Help) => output(commands::HELP)?,
            Ok(Command::Dialect) => output(super::DIALECT)?,
            Ok(Command::Tables) => return self.execute(TABLES).await,
            Ok(Command::Describe(table)) => return self.describe(&table).await,
            Ok(Command::Format(format)) => self.style.format = format,
            Ok(Command::Expanded(expanded)) => {
                let is_always = self.style.expanded == Expanded::Always;
                let other = if is_always { Expanded::Never } else { Expanded::Always };
                self.style.expanded = expanded.unwrap_or(other);
            }
            Ok(Command::Timing(on)) => {
                self.timing = on.unwrap_or(!self.timing);
                output(if self.timing { "Timing is on." } else { "Timing is off." })?;
            }
            Ok(Command::Output(path)) => match path.as_ref().map(File::create).transpose() {
                Ok(file) => self.out = file,
                Err(error) => return self.failed(format_args!("{}: {error}", path.unwrap_or_default().display())),
            },
            Err(problem) => return self.failed(problem),
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
        let result = async {
            match &self.out {
                Some(file) => results::write(self.session, statement, self.style, BufWriter::new(file)).await.map(Some),
                None => results::print(self.session, statement, self.style).await,
            }
        };
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

/// Whether a line is a command. Within a statement those of psql are, unless the line continues a literal or a comment.
fn is_command_after(pending: &str, line: &str) -> bool {
    if pending.is_empty() {
        return is_command(line);
    }
    line.trim_start().starts_with('\\') && split(&format!("{pending};")).rest.text.is_empty()
}

/// Prints the number of rows and the execution time.
fn time_line(written: &Written) -> Result<(), Failure> {
    let nanos = u64::try_from(written.time.as_nanos()).unwrap_or(u64::MAX);
    let rows = if written.rows == 1 { "1 row".to_owned() } else { format!("{} rows", written.rows) };
    output(format_args!("{rows}, {}", format::time(nanos)))?;
    Ok(())
}
