//! Versions of rows: a clock that only grows.
//!
//! Of two rows with one key the one of the higher version counts, whichever came to the server last. A batch
//! draws one version for all its rows after its turn has come, and the version is
//!
//! - above every version that this process drew for the store: an insert that the caller gave up on, and that
//!   the network or the server lets land later, is below every batch that came after it;
//! - above the version of each stored row that the batch replaces, so an update is never lost to the row that
//!   it was decided on, whoever wrote that;
//! - not below the time of the server's clock, in microseconds, so the versions of a process that starts after
//!   another has died are above those that the dead one may have left on their way.
//!
//! The last of these needs the server's clock. It is read once a minute and carried on by the process's own
//! monotonic clock in between. Two processes are put in the wrong order only if the server's clock is set back
//! by more than the time between the death of one and the first batch of the other on the same rows, and an
//! insert of the dead one is still on its way.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::connection::Connection;
use super::row::MicrosRow;
use super::statement::Statement;
use crate::error::{Operation, Result};

/// How long a reading of the server's clock is carried on.
const READING_LASTS: Duration = Duration::from_secs(60);

/// The versions of one store.
#[derive(Debug, Default)]
pub(super) struct Versions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The version that was drawn last.
    last: u64,
    reading: Option<Reading>,
}

/// What the server's clock showed, and when.
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
    /// Reads the server's clock, if the last reading is too old.
    pub(super) async fn synchronise(&self, connection: &Connection, operation: Operation) -> Result<()> {
        if self.0.lock().reading.is_some_and(|reading| reading.at.elapsed() < READING_LASTS) {
            return Ok(());
        }
        let at = Instant::now();
        let statement = Statement::plain("SELECT toUInt64(toUnixTimestamp64Micro(now64(6))) AS micros");
        let rows: Vec<MicrosRow> = connection.fetch_on_server(operation, &statement).await?;
        if let Some(row) = rows.into_iter().next() {
            self.0.lock().reading = Some(Reading { micros: row.micros, at });
        }
        Ok(())
    }

    /// A version above all that were drawn, and above `stored`.
    pub(super) fn draw(&self, stored: u64) -> u64 {
        let mut state = self.0.lock();
        let now = state.reading.map_or(0, Reading::now);
        state.last = now.max(state.last + 1).max(stored + 1);
        state.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
