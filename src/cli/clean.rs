//! `broadside clean`: removes scratch stores that an earlier run left.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use broadside::{Clock, DatabaseConfig, ScratchInfo, SystemClock, Timestamp};
use clap::Args;

use super::arguments::Address;
use super::format::{self, parse_duration};
use super::interrupt::{self, HeldStore};
use super::report::{self, Output};
use super::{Failure, Verdict};

/// Remove scratch stores that an earlier run left on a server.
///
/// `smoke`, `replay` and `compare` work on schemas or databases that they make, and remove them however
/// they end, unless they are killed (SIGKILL) or the server goes away. This lists what is left, by the
/// marker that each such store carries, and removes those that are old enough to belong to no run
/// any more. Before it does, it asks; without a terminal it needs --yes. Nothing else on the server is touched.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct CleanArgs {
    /// The server: postgres, clickhouse or a URL.
    #[arg(long, value_name = "BACKEND")]
    backend: Address,

    /// Remove only stores that were made longer ago than this: 90s, 30m, 2h or 7d. It must be longer than any run
    /// takes that may be under way.
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = parse_duration)]
    older_than: Duration,

    /// Remove without asking.
    #[arg(long, short)]
    yes: bool,
}

const AFTER_HELP: &str = "\
Examples:
  broadside clean --backend postgres
  broadside clean --backend clickhouse+http://default@localhost:8123/default --older-than 2h --yes

Exit codes:
  0  nothing is left that is old enough, or the answer was no
  2  the server cannot be reached, a store cannot be removed, or --yes is missing and there is no terminal to ask on";

pub async fn run(args: &CleanArgs) -> Result<Verdict, Failure> {
    let config: DatabaseConfig = args.backend.config()?;
    let stores = config.scratch_stores().await?;
    let now = SystemClock.now();
    let mut output = Output::default();
    let mut old = Vec::new();
    for store in &stores {
        let listed = Listed { store, age: age(store, now), kept: age(store, now) < args.older_than };
        output.line(&listed)?;
        if !listed.kept {
            old.push(store);
        }
    }
    if old.is_empty() {
        output.line(format_args!(
            "No scratch store on {} is older than {}.",
            config.backend(),
            format::duration(args.older_than)
        ))?;
        return Ok(Verdict::Agreed);
    }
    if !args.yes {
        if !io::stdin().is_terminal() {
            report::problem("there is no terminal to ask on: --yes removes them");
            return Ok(Verdict::Failed);
        }
        if !confirmed(old.len())? {
            return Ok(Verdict::Agreed);
        }
    }
    remove(&config, &old, &mut output).await
}

/// Removes the stores; one that cannot be removed keeps none of the others.
async fn remove(config: &DatabaseConfig, stores: &[&ScratchInfo], output: &mut Output) -> Result<Verdict, Failure> {
    let mut verdict = Verdict::Agreed;
    for store in stores {
        // A store is removed whole or, after a signal, not begun.
        let held = HeldStore { name: store.name.clone(), server: config.clone() };
        let hold = interrupt::hold_store(held)?;
        match config.remove_scratch(&store.name).await {
            Ok(()) => output.line(format_args!("removed {}", store.name))?,
            Err(error) => {
                report::error(&error);
                verdict = Verdict::Failed;
            }
        }
        drop(hold);
    }
    Ok(verdict)
}

fn age(store: &ScratchInfo, now: Timestamp) -> Duration {
    let micros = now.as_micros().saturating_sub(store.created.as_micros());
    // A clock that is behind the server's makes a store young.
    Duration::from_micros(micros.try_into().unwrap_or_default())
}

fn confirmed(stores: usize) -> io::Result<bool> {
    let mut stderr = io::stderr();
    write!(stderr, "Remove {stores} scratch store{}? [y/N] ", if stores == 1 { "" } else { "s" })?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// A line of the list.
struct Listed<'a> {
    store: &'a ScratchInfo,
    age: Duration,
    kept: bool,
}

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, age, kept } = self;
        let kept = if *kept { "; too young to be removed" } else { "" };
        write!(f, "{}  made {} ({} ago{kept})", store.name, store.created, format::duration(*age))
    }
}
