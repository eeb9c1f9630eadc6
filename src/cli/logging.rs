//! What `-v` shows on standard error: the tracing events of Broadside.

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use clap::{ArgAction, Args};
use tracing::Metadata;
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

use super::{Failure, progress};

/// The environment variable that holds a filter of events.
const VARIABLE: &str = "BROADSIDE_LOG";
/// What the names of our own modules begin with. The libraries beneath trace bytes of requests and
/// responses, which may hold a password.
const OWN: &str = env!("CARGO_CRATE_NAME");

#[derive(Debug, Args)]
pub struct LoggingArgs {
    /// Show calls, retries, reconnects and changes of indexes on standard error; -vv their arguments too.
    ///
    /// The environment variable BROADSIDE_LOG, a filter such as `warn` or `broadside::postgres=trace`, chooses
    /// more finely, and in place of -v. No password is ever shown.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,
}

/// Shows events from here on, if the arguments or the environment ask for them.
pub fn install(args: &LoggingArgs) -> Result<(), Failure> {
    let Some(filter) = filter(args.verbose, std::env::var(VARIABLE).ok().as_deref())? else {
        return Ok(());
    };
    let own = filter_fn(|metadata: &Metadata<'_>| metadata.target().split("::").next() == Some(OWN));
    let colours = AutoStream::choice(&io::stderr()) != ColorChoice::Never && io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(|| BetweenBars).with_ansi(colours).with_target(false);
    registry().with(lines.with_filter(filter.and(own))).try_init()?;
    Ok(())
}

/// Which events are shown; none of any library if there is no filter.
fn filter(verbosity: u8, variable: Option<&str>) -> Result<Option<EnvFilter>, Failure> {
    let directives = match (variable.filter(|directives| !directives.trim().is_empty()), verbosity) {
        (Some(directives), _) => directives,
        (None, 0) => return Ok(None),
        (None, 1) => "debug",
        (None, _) => "trace",
    };
    let filter = EnvFilter::try_new(directives).map_err(|error| io::Error::other(format!("{VARIABLE}: {error}")))?;
    Ok(Some(filter))
}

/// Standard error between the progress bars.
struct BetweenBars;

impl Write for BetweenBars {
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
    fn the_variable_takes_the_place_of_the_flag() {
        let shown = |verbosity, variable| filter(verbosity, variable).unwrap().map(|filter| filter.to_string());
        assert_eq!(shown(0, None), None);
        assert_eq!(shown(0, Some(" ")), None);
        assert_eq!(shown(1, None).as_deref(), Some("debug"));
        assert_eq!(shown(9, None).as_deref(), Some("trace"));
        assert_eq!(shown(2, Some("warn")).as_deref(), Some("warn"));
        assert!(filter(0, Some("broadside=loud")).is_err());
    }
}
