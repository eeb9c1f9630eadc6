//! The shell: statements and commands, line by line, on one session.

use std::fmt::Display;
use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use broadside::memory::SqlSession;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::format::{self, Format, Stdout};
use super::statements::split;
use crate::cli::interrupt::{self, Interrupted};
use crate::cli::report::{self, Output};
use crate::cli::{self, Failure, Verdict};

const PROMPT: &str = "broadside> ";
const CONTINUATION: &str = "        -> ";
/// The file in the home directory that keeps the lines of earlier shells.
const HISTORY: &str = ".broadside_history";

const HELP: &str = r"A statement ends with a semicolon; it may take several lines. Ctrl-C stops it.
  \d            the tables
  \d TABLE      the columns of a table
  \timing       show how long each statement takes, or no longer
  \?            this help
  \q            leave (also Ctrl-D)";

const TABLES: &str =
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name";

/// Where lines come from.
enum Lines {
    Terminal(Box<DefaultEditor>, Option<PathBuf>),
    /// A pipe or a file.
    Input(io::StdinLock<'static>),
}

/// What was read.
enum Line {
    Text(String),
    /// Ctrl-C: what has been typed of the statement is given up.
    GivenUp,
    End,
}

impl Lines {
    fn new() -> Result<Self, Failure> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Input(io::stdin().lock()));
        }
        let mut editor = DefaultEditor::new()?;
        let history = std::env::home_dir().map(|home| home.join(HISTORY));
        if let Some(path) = &history {
            // There is none before the first shell ends.
            let _ = editor.load_history(path);
        }
        Ok(Self::Terminal(Box::new(editor), history))
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(..))
    }

    fn next(&mut self, prompt: &str) -> Result<Line, Failure> {
        match self {
            Self::Terminal(editor, _) => match editor.readline(prompt) {
                Ok(line) => Ok(Line::Text(line)),
                Err(ReadlineError::Interrupted) => Ok(Line::GivenUp),
                Err(ReadlineError::Eof) => Ok(Line::End),
                Err(error) => Err(error.into()),
            },
            Self::Input(input) => {
                let mut line = String::new();
                Ok(if input.read_line(&mut line)? == 0 { Line::End } else { Line::Text(line) })
            }
        }
    }

    fn remember(&mut self, entry: &str) {
        if let Self::Terminal(editor, _) = self {
            // Without memory for it the entry is lost, and nothing else.
            let _ = editor.add_history_entry(entry);
        }
    }

    fn save(&mut self) {
        if let Self::Terminal(editor, Some(path)) = self
            && let Err(error) = editor.append_history(path)
        {
            report::problem(format_args!("{}: the history cannot be saved: {error}", path.display()));
        }
    }
}

/// What follows a line.
#[derive(PartialEq, Eq)]
enum Then {
    Continue,
    Leave,
}

/// Reads and answers statements until there are no more.
pub async fn run(session: &SqlSession, format: Format) -> Result<Verdict, Failure> {
    let mut lines = Lines::new()?;
    let mut shell =
        Shell { session, format, timing: false, interactive: lines.is_terminal(), verdict: Verdict::Agreed };
    if shell.interactive {
        Output::default().line(r"SQL over job, job_run, job_spec and job_error. \? for help, \q to leave.")?;
    }
    let mut typed = String::new();
    loop {
        match lines.next(if typed.is_empty() { PROMPT } else { CONTINUATION })? {
            Line::Text(line) => {
                if shell.line(&line, &mut typed, &mut lines).await? == Then::Leave {
                    break;
                }
            }
            Line::GivenUp => typed.clear(),
            Line::End => {
                // The last statement of a pipe needs no semicolon.
                let rest = split(&typed).rest;
                if !rest.is_empty() {
                    shell.answer(rest).await?;
                }
                break;
            }
        }
    }
    lines.save();
    Ok(shell.verdict)
}

struct Shell<'a> {
    session: &'a SqlSession,
    format: Format,
    timing: bool,
    interactive: bool,
    /// Whether a statement failed, which is the exit code where nobody saw it.
    verdict: Verdict,
}

impl Shell<'_> {
    async fn line(&mut self, line: &str, typed: &mut String, lines: &mut Lines) -> Result<Then, Failure> {
        let line = line.trim_end();
        if typed.is_empty() && line.trim_start().starts_with('\\') {
            lines.remember(line);
            return self.command(line.trim()).await;
        }
        if typed.is_empty() && line.trim().is_empty() {
            return Ok(Then::Continue);
        }
        typed.push_str(line);
        typed.push('\n');
        let text = std::mem::take(typed);
        let split = split(&text);
        if !split.statements.is_empty() {
            lines.remember(text.trim_end());
        }
        for statement in split.statements {
            if self.answer(statement).await? == Then::Leave {
                return Ok(Then::Leave);
            }
        }
        if !split.rest.is_empty() {
            *typed = format!("{}\n", split.rest);
        }
        Ok(Then::Continue)
    }

    async fn command(&mut self, command: &str) -> Result<Then, Failure> {
        let mut words = command.trim_end_matches(';').split_whitespace();
        match (words.next().unwrap_or_default(), words.next(), words.next()) {
            ("\\q", None, None) => return Ok(Then::Leave),
            ("\\?", None, None) => Output::default().line(HELP)?,
            ("\\timing", None, None) => {
                self.timing = !self.timing;
                Output::default().line(if self.timing { "Timing is on." } else { "Timing is off." })?;
            }
            ("\\d", None, None) => return self.answer(TABLES).await,
            ("\\d", Some(table), None) => return self.describe(table).await,
            _ => return self.failed(format_args!(r"there is no command {command:?}; \? shows all")),
        }
        Ok(Then::Continue)
    }

    async fn describe(&mut self, table: &str) -> Result<Then, Failure> {
        let name = table.replace('\'', "''");
        let of = format!("FROM information_schema.columns WHERE table_schema = 'public' AND table_name = '{name}'");
        let exists = self.session.query(&format!("SELECT 1 {of} LIMIT 1")).await?.collect().await?;
        if exists.iter().all(|batch| batch.num_rows() == 0) {
            return self.failed(format_args!(r"there is no table {table:?}; \d shows all"));
        }
        self.answer(&format!("SELECT column_name, data_type, is_nullable {of} ORDER BY ordinal_position")).await
    }

    /// Answers a statement. An error is shown, and ends the shell unless somebody is there to see it.
    async fn answer(&mut self, statement: &str) -> Result<Then, Failure> {
        let start = Instant::now();
        let answer = async {
            let answer = self.session.query(statement).await?;
            format::write(answer, self.format, Stdout::default()).await
        };
        let outcome = if self.interactive { interrupt::catching(answer).await } else { Ok(answer.await) };
        match outcome {
            Ok(Ok(rows)) => self.time(rows, start.elapsed())?,
            Ok(Err(Failure::Error(error))) => {
                report::error(error.as_ref());
                return Ok(self.after_failure());
            }
            Ok(Err(other)) => return Err(other),
            Err(Interrupted) => report::problem("the statement was stopped"),
        }
        Ok(Then::Continue)
    }

    fn time(&self, rows: usize, time: Duration) -> Result<(), Failure> {
        if self.timing {
            let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            let rows = if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
            Output::default().line(format_args!("{rows}, {}", cli::format::time(nanos)))?;
        }
        Ok(())
    }

    fn failed(&mut self, problem: impl Display) -> Result<Then, Failure> {
        report::problem(problem);
        Ok(self.after_failure())
    }

    fn after_failure(&mut self) -> Then {
        if self.interactive {
            return Then::Continue;
        }
        self.verdict = Verdict::Failed;
        Then::Leave
    }
}
