//! The commands of the shell: those of psql, and their names in the shells of DuckDB and SQLite.

use std::path::PathBuf;

use clap::ValueEnum;

use super::expanded::Expanded;
use super::output::Format;

/// The commands, for completion.
pub const COMMANDS: &[&str] =
    &["\\?", "\\d", "\\dt", "\\format", "\\h", "\\o", "\\q", "\\timing", "\\x", ".help", ".mode", ".quit", ".tables"];

pub const HELP: &str = r"Statements end with a semicolon and may span several lines. Ctrl-C cancels the current statement.
  \d, \dt           list the tables
  \d TABLE          list the columns of a table
  \h                the SQL dialect
  \format FORMAT    the format of results: table, csv or json
  \x [on|off|auto]  expanded format of tables: a line for each column; auto: if a table is wider than the terminal
  \o [FILE]         write results to a file, or to the terminal again
  \timing [on|off]  show execution times (without formatting and printing)
  \?                show this help
  \q                quit (also Ctrl-D)";

/// A command of the shell.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Quit,
    Help,
    Dialect,
    Tables,
    Describe(String),
    Format(Format),
    /// `None` switches.
    Expanded(Option<Expanded>),
    /// `None` switches.
    Timing(Option<bool>),
    /// `None` is the terminal.
    Output(Option<PathBuf>),
}

/// Whether a line is a command. A statement cannot begin with these characters and words.
pub fn is_command(line: &str) -> bool {
    let line = line.trim().trim_end_matches(';').trim_end();
    line.starts_with(['\\', '.']) || ["help", "quit", "exit"].contains(&line.to_lowercase().as_str())
}

/// Parses a command.
///
/// # Errors
///
/// The problem, if the shell has no such command or it has other arguments.
pub fn parse(line: &str) -> Result<Command, String> {
    let line = line.trim().trim_end_matches(';');
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let arguments: Vec<&str> = words.collect();
    match (name.to_lowercase().as_str(), &arguments[..]) {
        ("\\q" | ".quit" | ".exit" | "quit" | "exit", []) => Ok(Command::Quit),
        ("\\?" | ".help" | "help", []) => Ok(Command::Help),
        ("\\h" | "\\help", _) => Ok(Command::Dialect),
        ("\\d" | "\\dt" | "\\d+" | "\\dt+" | ".tables" | ".schema", []) => Ok(Command::Tables),
        ("\\d" | "\\d+" | ".schema", [table]) => Ok(Command::Describe((*table).to_owned())),
        ("\\x", []) => Ok(Command::Expanded(None)),
        ("\\x", ["on"]) => Ok(Command::Expanded(Some(Expanded::Always))),
        ("\\x", ["off"]) => Ok(Command::Expanded(Some(Expanded::Never))),
        ("\\x", ["auto"]) => Ok(Command::Expanded(Some(Expanded::IfWide))),
        ("\\timing" | ".timer", []) => Ok(Command::Timing(None)),
        ("\\timing" | ".timer", ["on"]) => Ok(Command::Timing(Some(true))),
        ("\\timing" | ".timer", ["off"]) => Ok(Command::Timing(Some(false))),
        ("\\o" | ".output", []) => Ok(Command::Output(None)),
        ("\\o" | ".output", [path]) => Ok(Command::Output(Some(path.into()))),
        ("\\format" | ".mode", [format]) | ("\\pset", ["format", format]) => {
            let format = Format::from_str(format, true).ok().filter(|format| !format.is_binary());
            format.map(Command::Format).ok_or_else(|| "the formats are table, csv and json".to_owned())
        }
        _ => Err(format!(r"unknown command {line:?}; \? shows the commands")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_the_names_of_other_shells() {
        for (line, command) in [
            ("\\q;", Command::Quit),
            ("exit", Command::Quit),
            (" .help ", Command::Help),
            ("\\h SELECT", Command::Dialect),
            (".tables", Command::Tables),
            ("\\d job", Command::Describe("job".to_owned())),
            ("\\x", Command::Expanded(None)),
            ("\\timing on", Command::Timing(Some(true))),
            ("\\pset format csv", Command::Format(Format::Csv)),
            (".mode JSON", Command::Format(Format::Json)),
            ("\\o", Command::Output(None)),
        ] {
            assert!(is_command(line), "{line}");
            assert_eq!(parse(line).as_ref(), Ok(&command), "{line}");
        }
        for line in ["\\l", "\\d a b", "\\x maybe", "\\format parquet", ".read file"] {
            assert!(is_command(line) && parse(line).is_err(), "{line}");
        }
        assert!(!is_command("exit_code"));
    }
}
