//! Versions of rows: a monotonic clock.
//!
//! Reads return the row with the highest version of a key, independent of the order of inserts. All rows of a batch
//! have one version, which is drawn after the batch has locked its keys. The version is
//!
//! - greater than every version that this process has drawn for the store: an insert that has timed out and that the
//!   server executes late has a lower version than every later batch;
//! - greater than the version of each stored row that the batch replaces, written by any process;
//! - at least the time of the server's clock in microseconds: the versions of a process are greater than those of
//!   pending inserts of a process that ended before it started.
//!
//! The server's clock is read once a minute and extrapolated by the process's monotonic clock. The order of two
//! processes is wrong only if the server's clock is set back by more than the time from the end of one to the first
//! batch of the other on the same rows, while an insert of the ended one is pending.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::warn;

use super::connection::{Connection, TARGET};
use super::statement::Statement;
use crate::error::{Operation, Result};

/// The time for which a reading of the server's clock is extrapolated.
const MAX_READING_AGE: Duration = Duration::from_secs(60);

/// The versions of one store.
#[derive(Debug, Default)]
pub(super) struct Versions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The version drawn last.
    last: u64,
    /// Whether another process has written rows that this one updates.
    overtaken: bool,
    reading: Option<Reading>,
}

/// A reading of the server's clock.
#[derive(Debug, Clone, Copy)]
struct Reading {
    micros: u64,
    at: Instant,
}

impl Reading {
    fn now(self) -> u64 {
        let elapsed = u64::try_from(self.at.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.micros.saturating_add(elapsed)
    }
}

impl Versions {
    /// Reads the server's clock if the last reading is too old.
    pub(super) async fn synchronise(&self, connection: &Connection, operation: Operation) -> Result<()> {
        if self.0.lock().reading.is_some_and(|reading| reading.at.elapsed() < MAX_READING_AGE) {
            return Ok(());
        }
        let at = Instant::now();
        let statement = Statement::plain("SELECT toUInt64(toUnixTimestamp64Micro(now64(6)))");
        let rows: Vec<u64> = connection.without_database().fetch(operation, &statement).await?;
        if let Some(&micros) = rows.first() {
            self.0.lock().reading = Some(Reading { micros, at });
        }
        Ok(())
    }

    /// Draws a version greater than all drawn ones and than `stored`.
    pub(super) fn draw(&self, stored: u64) -> u64 {
        let mut state = self.0.lock();
        // Only another process can have drawn a version after the last one of this process.
        if state.last > 0 && stored > state.last && !std::mem::replace(&mut state.overtaken, true) {
            warn!(target: TARGET, "another process writes the same jobs concurrently: changes may be lost");
        }
        let now = state.reading.map_or(0, Reading::now);
        state.last = now.max(state.last + 1).max(stored + 1);
        state.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_version_than_the_last_is_that_of_another_process() {
        let (one, other) = (Versions::default(), Versions::default());
        let stored = one.draw(0);
        assert!(other.draw(stored) > stored && !other.0.lock().overtaken, "the other process began later");
        let stored = other.draw(stored);
        one.draw(stored);
        assert!(one.0.lock().overtaken);
        other.draw(stored);
        assert!(!other.0.lock().overtaken, "its own row");
    }

    #[test]
    fn versions_only_grow() {
        let versions = Versions::default();
        assert_eq!((versions.draw(0), versions.draw(0)), (1, 2));
        assert_eq!((versions.draw(7), versions.draw(3)), (8, 9));
        let micros = 1_700_000_000_000_000;
        versions.0.lock().reading = Some(Reading { micros, at: Instant::now() });
        let first = versions.draw(9);
        assert!(first >= micros);
        // The server's clock was set back.
        versions.0.lock().reading = Some(Reading { micros: 1, at: Instant::now() });
        assert_eq!(versions.draw(9), first + 1);
    }
}
