//! Logging of tracing events to standard error (`-v`, `BROADSIDE_LOG`).

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use clap::{ArgAction, Args};
use tracing::Metadata;
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

use super::{Failure, progress};

/// The environment variable with the filter of events.
const VARIABLE: &str = "BROADSIDE_LOG";
/// The first part of the targets that are logged. Dependencies are excluded, because they log bytes of
/// requests and responses, which may contain a password.
const OWN: &str = env!("CARGO_CRATE_NAME");

#[derive(Debug, Args)]
pub struct LoggingArgs {
    /// Log calls, retries, reconnects and index changes to standard error; -vv also logs their arguments.
    ///
    /// The environment variable BROADSIDE_LOG overrides -v with a filter such as `warn` or
    /// `broadside::postgres=trace`. Passwords are never logged.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,
}

/// Installs the subscriber if the arguments or the environment enable logging.
pub fn install(args: &LoggingArgs) -> Result<(), Failure> {
    let Some(filter) = filter(args.verbose, std::env::var(VARIABLE).ok().as_deref())? else {
        return Ok(());
    };
    let own = filter_fn(|metadata: &Metadata<'_>| metadata.target().split("::").next() == Some(OWN));
    let colours = AutoStream::choice(&io::stderr()) != ColorChoice::Never && io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(|| ProgressAwareStderr).with_ansi(colours).with_target(false);
    registry().with(lines.with_filter(filter.and(own))).try_init()?;
    Ok(())
}

/// The filter of events; `None` disables logging.
fn filter(verbosity: u8, variable: Option<&str>) -> Result<Option<EnvFilter>, Failure> {
    let directives = match (variable.filter(|directives| !directives.trim().is_empty()), verbosity) {
        (Some(directives), _) => directives,
        (None, 0) => return Ok(None),
        (None, 1) => "debug",
        (None, _) => "trace",
    };
    let filter =
        EnvFilter::try_new(directives).map_err(|error| Failure::message(format_args!("{VARIABLE}: {error}")))?;
    Ok(Some(filter))
}

/// Writes to standard error while the progress bars are hidden.
struct ProgressAwareStderr;

impl Write for ProgressAwareStderr {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        progress::suspended(|| io::stderr().write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_overrides_the_flag() {
        let filter_text = |verbosity, variable| filter(verbosity, variable).unwrap().map(|filter| filter.to_string());
        assert_eq!(filter_text(0, None), None);
        assert_eq!(filter_text(0, Some(" ")), None);
        assert_eq!(filter_text(1, None).as_deref(), Some("debug"));
        assert_eq!(filter_text(9, None).as_deref(), Some("trace"));
        assert_eq!(filter_text(2, Some("warn")).as_deref(), Some("warn"));
        assert!(filter(0, Some("broadside=loud")).is_err());
    }
}
