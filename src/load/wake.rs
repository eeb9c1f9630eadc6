//! The sleep of the driver between two iterations.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The interval at which ingestion events are generated, in microseconds. Their batches are sent at exact times, which
/// are milliseconds to seconds later.
const EVENT_INTERVAL: u64 = 1000;

/// The end of a sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wake {
    /// The time, in microseconds from the start of the load.
    pub(super) at: u64,
    /// Whether a call is due at the time, which must not be late.
    pub(super) is_exact: bool,
}

impl Wake {
    /// The next of the times at which the driver has work: the first call, the next event of ingestion, and the sample.
    pub(super) fn next(now: u64, calls: impl IntoIterator<Item = u64>, event: Option<u64>, sample: u64) -> Self {
        let event = event.map(|due| due.max(now + EVENT_INTERVAL));
        let other = event.map_or(sample, |event| event.min(sample));
        match calls.into_iter().min() {
            Some(call) if call <= other => Self { at: call, is_exact: true },
            _ => Self { at: other, is_exact: false },
        }
    }
}

/// Receives a message, at the latest at a time. Polls the clock for the duration `spin` before it. Returns the time of
/// polling too.
pub(super) fn receive_until<T>(receiver: &Receiver<T>, until: Instant, spin: Duration) -> (Option<T>, Duration) {
    let mut polls_since = None;
    let message = loop {
        if let Ok(message) = receiver.try_recv() {
            break Some(message);
        }
        let now = Instant::now();
        let left = until.saturating_duration_since(now);
        if left.is_zero() {
            break None;
        }
        if left <= spin {
            polls_since.get_or_insert(now);
            std::hint::spin_loop();
            continue;
        }
        match receiver.recv_timeout(left - spin) {
            Ok(message) => break Some(message),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    };
    (message, polls_since.map_or(Duration::ZERO, |since| since.elapsed()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn wake(now: u64, calls: &[u64], event: Option<u64>, sample: u64) -> (u64, bool) {
        let Wake { at, is_exact } = Wake::next(now, calls.iter().copied(), event, sample);
        (at, is_exact)
    }

    #[test]
    fn the_driver_wakes_at_the_first_call_event_or_sample() {
        assert_eq!(wake(100, &[9000, 5000], Some(6000), 7000), (5000, true));
        assert_eq!(wake(100, &[9000], Some(6000), 7000), (6000, false));
        assert_eq!(wake(100, &[9000], Some(8000), 7000), (7000, false));
        assert_eq!(wake(100, &[], None, 7000), (7000, false));
        // A call at the time of an event or a sample is exact.
        assert_eq!(wake(100, &[6000], Some(6000), 7000), (6000, true));
        assert_eq!(wake(100, &[7000], None, 7000), (7000, true));
        // Events are generated at most once per millisecond, calls at once.
        assert_eq!(wake(100, &[], Some(101), 7000), (1100, false));
        assert_eq!(wake(100, &[101], Some(101), 7000), (101, true));
    }

    #[test]
    fn a_wait_ends_with_a_message_or_at_its_time() {
        let (sender, receiver) = mpsc::channel();
        let millis = Duration::from_millis;
        for (spin, polls) in [(Duration::ZERO, false), (millis(50), true)] {
            let until = Instant::now() + millis(10);
            let (message, polled) = receive_until(&receiver, until, spin);
            assert!(message.is_none() && Instant::now() >= until);
            assert_eq!(!polled.is_zero(), polls, "{polled:?}");
        }
        // The sleep ends before the time by the duration of polling.
        let (message, polled) = receive_until(&receiver, Instant::now() + millis(300), millis(200));
        assert!(message.is_none() && !polled.is_zero());
        let later = Instant::now() + Duration::from_secs(600);
        sender.send(1).unwrap();
        assert_eq!(receive_until(&receiver, later, Duration::ZERO), (Some(1), Duration::ZERO));
        sender.send(2).unwrap();
        assert_eq!(receive_until(&receiver, Instant::now(), Duration::ZERO).0, Some(2), "it is there at the end");
        for spin in [Duration::ZERO, Duration::from_secs(700)] {
            let sender = sender.clone();
            let sending = thread::spawn(move || {
                thread::sleep(millis(20));
                sender.send(3).unwrap();
            });
            assert_eq!(receive_until(&receiver, later, spin).0, Some(3));
            assert!(Instant::now() < later);
            sending.join().unwrap();
        }
    }
}
