//! `broadside clean`: removes scratch stores of earlier runs.

use std::time::Duration;

use broadside::{Clock, DatabaseConfig, ScratchInfo, SystemClock, Timestamp};
use clap::Args;

use super::arguments::Address;
use super::format::{self, parse_duration};
use super::interrupt::Guard;
use super::messages;
use super::{ExitStatus, Failure, terminal};

/// Remove scratch stores of earlier runs from a server.
///
/// `smoke`, `replay`, `compare` and `explain` create a schema or database for each run and remove it at the
/// end, also after an error or a signal. A scratch store remains only if the command is killed (SIGKILL) or
/// the server becomes unavailable. This command lists the remaining scratch stores, which it identifies by
/// their marker, and removes those older than --older-than. It asks for confirmation first; without a
/// terminal, --yes is required. Nothing else on the server is changed.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct CleanArgs {
    /// The server: postgres, clickhouse or a URL.
    #[arg(long, value_name = "BACKEND")]
    backend: Address,

    /// Minimum age of the stores to remove: 90s, 30m, 2h or 7d. Choose a value that exceeds the duration of
    /// every run in progress.
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = parse_duration)]
    older_than: Duration,

    /// Do not ask for confirmation.
    #[arg(long, short)]
    yes: bool,
}

const AFTER_HELP: &str = "\
Examples:
  broadside clean --backend postgres
  broadside clean --backend clickhouse+http://default@localhost:8123/default --older-than 2h --yes

Exit codes:
  0  the stores are removed, there is none to remove, or the confirmation was declined
  2  the server cannot be reached, a store cannot be removed, or --yes is missing without a terminal";

pub async fn run(args: &CleanArgs) -> Result<ExitStatus, Failure> {
    let config: DatabaseConfig = args.backend.config()?;
    let stores = config.scratch_stores().await?;
    let now = SystemClock.now();
    let mut old = Vec::new();
    for store in &stores {
        let age = age(store, now);
        let kept = if age < args.older_than { "; kept, too young" } else { "" };
        let (name, created) = (&store.name, store.created);
        messages::output(format_args!("{name}  created {created} ({} ago{kept})", format::duration(age)))?;
        if kept.is_empty() {
            old.push(store);
        }
    }
    if old.is_empty() {
        messages::output(format_args!(
            "No scratch store on {} is older than {}.",
            config.backend(),
            format::duration(args.older_than)
        ))?;
        return Ok(ExitStatus::Passed);
    }
    if !args.yes {
        let (stores, s) = (old.len(), if old.len() == 1 { "" } else { "s" });
        match terminal::confirm(&format!("Remove {stores} scratch store{s}?"))? {
            Some(true) => {}
            Some(false) => return Ok(ExitStatus::Passed),
            None => {
                messages::problem("confirmation needs a terminal; use --yes to remove the stores without it");
                return Ok(ExitStatus::Failed);
            }
        }
    }
    remove(&config, &old).await
}

/// Removes the stores. Continues with the next store after an error.
async fn remove(config: &DatabaseConfig, stores: &[&ScratchInfo]) -> Result<ExitStatus, Failure> {
    let mut status = ExitStatus::Passed;
    for store in stores {
        // A signal waits for the removal in progress and prevents the next one.
        let guard = Guard::of_store(&store.name, config.backend())?;
        let removed = config.remove_scratch(&store.name).await;
        drop(guard);
        match removed {
            Ok(()) => messages::output(format_args!("removed {}", store.name))?,
            Err(error) => {
                messages::error(&error);
                status = ExitStatus::Failed;
            }
        }
    }
    Ok(status)
}

fn age(store: &ScratchInfo, now: Timestamp) -> Duration {
    let micros = now.as_micros().saturating_sub(store.created.as_micros());
    // The server's clock may be ahead of this one.
    Duration::from_micros(micros.try_into().unwrap_or_default())
}
