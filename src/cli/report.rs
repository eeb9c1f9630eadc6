//! What goes to standard error, and to a standard output that may have been closed.

use std::error::Error;
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::path::Path;

use anstyle::{AnsiColor, Style};
use broadside::compare::QueryDifference;
use broadside::scenario::{Response, Step};

use super::progress;

const BAD: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const EXPECTED: Style = AnsiColor::Green.on_default();
const GOT: Style = AnsiColor::Red.on_default();

/// Says that something could not be done: the error and its causes, save those that the text
/// of an error above them already holds.
pub fn error(error: &dyn Error) {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    problem(text);
}

/// Says that something could not be done.
pub fn problem(problem: impl Display) {
    write(format_args!("{BAD}error{BAD:#}: {problem}\n"));
}

/// Says how a long command is getting on.
pub fn note(note: impl Display) {
    write(format_args!("{note}\n"));
}

/// Says that a call of a scenario did not get the response that its line expects.
pub fn difference(file: impl Display, step: &Step, response: &Response) {
    let (Some(expected), Some(difference)) = (&step.expect, step.difference(response)) else {
        return;
    };
    let place = match difference.pointer.as_str() {
        "" => String::new(),
        pointer => format!(" at {pointer}"),
    };
    write(format_args!(
        "{file}:{}: the response {BAD}differs{BAD:#}{place}\n  expected {EXPECTED}{expected}{EXPECTED:#}\n  got      {GOT}{response}{GOT:#}\n",
        step.line
    ));
}

/// Says that a call of a scenario failed, if it did.
pub fn failed_call(file: impl Display, step: &Step, response: &Response) {
    if let Response::Error { message, .. } = response {
        problem(format_args!("{file}:{}: {message}", step.line));
    }
}

/// Says that a backend answered otherwise than the first one.
pub fn answers_differ(difference: &QueryDifference) {
    let QueryDifference { operation, target, reference, problem, query } = difference;
    write(format_args!(
        "{operation}: the answer of {target} {BAD}differs{BAD:#} from that of {reference}\n  {problem}\n  to {query}\n"
    ));
}

/// Says that something is worse than it was.
pub fn worse(what: impl Display) {
    write(format_args!(
        "{BAD}worse{BAD:#}: {what}
"
    ));
}

/// Says what must be known about something that was done.
pub fn warning(warning: impl Display) {
    write(format_args!(
        "{WARNING}warning{WARNING:#}: {warning}
"
    ));
}

/// Writes to standard error, in colour on a terminal alone.
fn write(text: fmt::Arguments<'_>) {
    // Where standard error is closed there is nowhere left to complain.
    let _ = progress::suspended(|| anstream::stderr().write_fmt(text));
}

/// Says that the file of the baseline was not overwritten.
pub fn kept(path: &Path) {
    let path = path.display();
    let _ = writeln!(anstream::stderr(), "{path} is the baseline and is kept: the results are in results.failed.json");
}

/// Writes to standard output until its reader has gone away, and then no more: that is no
/// failure, and what the command has to check is still worth its exit code.
#[derive(Debug, Default)]
pub struct Output {
    closed: bool,
}

impl Output {
    /// Writes a line, at once.
    pub fn line(&mut self, line: impl Display) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            other => other,
        }
    }
}
