//! Messages on standard error, and output to a standard output that may be closed.

use std::error::Error;
use std::fmt::{self, Display};
use std::io::{self, Write};
#[cfg(unix)]
use std::os::fd::AsFd;

use anstyle::{AnsiColor, Style};
use broadside::compare::QueryDifference;
use broadside::scenario::{Response, Step};
#[cfg(unix)]
use tokio::io::Interest;
#[cfg(unix)]
use tokio::net::unix::pipe::Sender;
use tokio::task::spawn_blocking;

use super::progress;

const BAD: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const EXPECTED: Style = AnsiColor::Green.on_default();
const GOT: Style = AnsiColor::Red.on_default();

/// Reports an error and its sources. A source whose text is already part of the message is left out.
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

/// Reports an error message.
pub fn problem(problem: impl Display) {
    write(format_args!("{BAD}error{BAD:#}: {problem}\n"));
}

/// Reports the progress of a command.
pub fn note(note: impl Display) {
    write(format_args!("{note}\n"));
}

/// Reports the difference between a response and the expected one. Does nothing if there is none.
pub async fn difference(file: impl Display, step: &Step, response: &Response) {
    let (Some(expected), Some(difference)) = (&step.expect, step.difference(response)) else {
        return;
    };
    let pointer = match difference.pointer.as_str() {
        "" => String::new(),
        pointer => format!(" at {pointer}"),
    };
    let text = format!(
        "{file}:{}: the response {BAD}differs{BAD:#}{pointer}\n  expected {EXPECTED}{expected}{EXPECTED:#}\n  got      {GOT}{response}{GOT:#}\n",
        step.line
    );
    write_interruptibly(text).await;
}

/// Reports the error of a call of a scenario. Does nothing if the call succeeded.
pub async fn failed_call(file: impl Display, step: &Step, response: &Response) {
    if let Response::Error { message, .. } = response {
        write_interruptibly(format!("{BAD}error{BAD:#}: {file}:{}: {message}\n", step.line)).await;
    }
}

/// Reports a result of a backend that differs from that of the first one.
pub fn answers_differ(difference: &QueryDifference) {
    let QueryDifference { operation, target, reference, problem, query, .. } = difference;
    write(format_args!(
        "{operation}: the result of {target} {BAD}differs{BAD:#} from that of {reference}\n  {problem}\n  query {query}\n"
    ));
}

/// Reports a regression from a baseline.
pub fn regression(regression: impl Display) {
    write(format_args!("{BAD}regression{BAD:#}: {regression}\n"));
}

/// Reports a warning.
pub fn warning(warning: impl Display) {
    write(format_args!("{WARNING}warning{WARNING:#}: {warning}\n"));
}

/// Writes to standard error, with colours only on a terminal.
fn write(text: fmt::Arguments<'_>) {
    // An error of standard error cannot be reported elsewhere.
    let _ = progress::suspended(|| anstream::stderr().write_fmt(text));
}

/// Writes on another thread: a signal can interrupt the caller while standard error is a full pipe.
async fn write_interruptibly(text: String) {
    // Fails if the write panics.
    let _ = spawn_blocking(move || write(format_args!("{text}"))).await;
}

/// Standard output. After the reader has closed the pipe, output is discarded without an error, so that the
/// command completes its checks and returns their exit code.
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unless_closed(io::stdout().write(bytes), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_closed(io::stdout().flush(), ())
    }
}

/// Returns when the reader of standard output has closed the pipe.
pub async fn output_closed() {
    #[cfg(unix)]
    // Fails for a file, which has no reader.
    if let Ok(output) = io::stdout().as_fd().try_clone_to_owned().and_then(Sender::from_owned_fd_unchecked)
        && output.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

fn unless_closed<T>(written: io::Result<T>, discarded: T) -> io::Result<T> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(discarded),
        other => other,
    }
}

/// Writes a line to standard output and flushes.
pub fn output(line: impl Display) -> io::Result<()> {
    Stdout.write_all(format!("{line}\n").as_bytes())?;
    Stdout.flush()
}

/// Writes as [`output`] does, on another thread: a signal can interrupt the caller while the pipe is full.
pub async fn output_interruptibly(line: impl Display) -> io::Result<()> {
    let line = line.to_string();
    spawn_blocking(|| output(line)).await?
}
