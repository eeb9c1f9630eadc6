//! Detection of a store that does not respond.

use std::time::Duration;

/// The number of reads that must fail before a load without ingestion is ended.
const MIN_FAILED_READS: u64 = 5;

/// The calls of a kind since the last success.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// The time since which calls are outstanding or failing without a success, in microseconds.
    since: Option<u64>,
    /// The number of failures without a success.
    failed: u64,
}

/// The kind of call of which none succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dead {
    Batches,
    Reads,
}

impl Liveness {
    pub(super) fn started(&mut self, now: u64) {
        self.since.get_or_insert(now);
    }

    pub(super) fn failed(&mut self) {
        self.failed += 1;
    }

    /// Notes a success, after which calls may still be outstanding.
    pub(super) fn succeeded(&mut self, now: u64, is_outstanding: bool) {
        (self.since, self.failed) = (is_outstanding.then_some(now), 0);
    }

    /// Returns true if nothing has succeeded for a time. The limit 0 is none.
    fn is_dead(&self, now: u64, limit: Duration) -> bool {
        !limit.is_zero() && self.since.is_some_and(|since| u128::from(now.saturating_sub(since)) >= limit.as_micros())
    }
}

/// The kind of call of which none has succeeded for a time; `None` if the store responds. Reads count only while no
/// batch is outstanding, because a store may answer a few kinds of reads late and still store the load.
pub(super) fn dead(batches: &Liveness, reads: &Liveness, now: u64, limit: Duration) -> Option<Dead> {
    if batches.since.is_some() {
        return batches.is_dead(now, limit).then_some(Dead::Batches);
    }
    (reads.failed >= MIN_FAILED_READS && reads.is_dead(now, limit)).then_some(Dead::Reads)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(100);

    fn since(now: u64, failed: u64) -> Liveness {
        Liveness { since: Some(now), failed }
    }

    #[test]
    fn a_kind_is_dead_from_the_limit_on_since_the_first_call_or_the_last_success() {
        let mut calls = Liveness::default();
        assert!(!calls.is_dead(u64::MAX, LIMIT), "no call was made");
        calls.started(1000);
        calls.started(1050);
        assert!(!calls.is_dead(1099, LIMIT) && calls.is_dead(1100, LIMIT));
        assert!(!calls.is_dead(u64::MAX, Duration::ZERO), "the limit 0 is none");
        calls.failed();
        assert!(calls.is_dead(1100, LIMIT) && calls.failed == 1, "a failure is no success");
        calls.succeeded(1090, true);
        assert!(!calls.is_dead(1189, LIMIT) && calls.is_dead(1190, LIMIT) && calls.failed == 0);
        calls.succeeded(1200, false);
        assert!(!calls.is_dead(u64::MAX, LIMIT), "no call is outstanding");
        calls.started(2000);
        assert!(!calls.is_dead(2099, LIMIT) && calls.is_dead(2100, LIMIT));
    }

    #[test]
    fn reads_end_a_load_after_five_failures_without_an_outstanding_batch() {
        let none = Liveness::default();
        let cases = [
            (&since(0, 0), &none, 100, Some(Dead::Batches)),
            (&since(0, 0), &none, 99, None),
            (&none, &since(0, 5), 100, Some(Dead::Reads)),
            (&none, &since(0, 4), 100, None),
            (&none, &since(1, 5), 100, None),
            (&since(50, 0), &since(0, 5), 100, None),
            (&none, &none, 100, None),
        ];
        for (case, (batches, reads, now, expected)) in cases.into_iter().enumerate() {
            assert_eq!(dead(batches, reads, now, LIMIT), expected, "case {case}");
        }
    }
}
