//! Detection of a store that does not respond.

use std::time::Duration;

/// The calls of a kind since the last success.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// The time since which calls are outstanding or failing without a success, in microseconds.
    pub(super) since: Option<u64>,
    /// The number of failures without a success.
    pub(super) failed: u64,
}

impl Liveness {
    pub(super) fn started(&mut self, now: u64) {
        self.since.get_or_insert(now);
    }

    /// Notes a success, after which calls may still be outstanding.
    pub(super) fn succeeded(&mut self, now: u64, is_outstanding: bool) {
        (self.since, self.failed) = (is_outstanding.then_some(now), 0);
    }

    /// Returns true if nothing has succeeded for a time. The limit 0 is none.
    pub(super) fn is_dead(&self, now: u64, limit: Duration) -> bool {
        !limit.is_zero() && self.since.is_some_and(|since| u128::from(now.saturating_sub(since)) >= limit.as_micros())
    }
}
