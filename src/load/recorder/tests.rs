//! Tests of the recorder: the test phase is from the first to the third second of the load.

use super::super::lifecycle::{LifeStage, LiveJob};
use super::super::worker::{DueEvent, Event};
use super::*;
use crate::error::{Operation, Result};
use crate::measure::LatencyHistogram;
use crate::query::ReadCall;

const TEST: [u64; 2] = [1_000_000, 3_000_000];

fn recorder(max_errors: u64) -> Recorder {
    Recorder::new(Instant::now(), Duration::from_millis(2500), TEST, max_errors, false)
}

impl Recorder {
    fn at(&self, micros: u64) -> Instant {
        self.start + Duration::from_micros(micros)
    }
}

/// A batch with an event of two queries for each due time and lag.
fn batch(ready: u64, events: &[(u64, u64)]) -> PlannedBatch {
    let event = |&(micros, lag): &(u64, u64)| {
        let job = LiveJob { number: 0, arrival: 0, queue: 0, job_set: 0, succeeds: true };
        DueEvent { micros, lag, event: Event::Transition(job, LifeStage::Leased) }
    };
    PlannedBatch { worker: 0, events: events.iter().map(event).collect(), ready, redelivered: false }
}

/// Asserts that a histogram has these values in milliseconds, up to the resolution of three digits and 2 µs.
fn assert_millis(histogram: &LatencyHistogram, expected: &[u64]) {
    let ranks = (1..=expected.len()).map(|rank| (rank as f64 - 0.5) / expected.len() as f64);
    let found = histogram.curve(ranks);
    let is_close = |(nanos, millis): (&u64, &u64)| nanos.abs_diff(millis * 1_000_000) <= millis * 1000 + 2000;
    let are_equal = histogram.count() == expected.len() as u64 && found.iter().zip(expected).all(is_close);
    assert!(are_equal, "{found:?} instead of {expected:?}");
}

/// A call that succeeded at the first attempt.
fn call(began: Instant, ended: Instant) -> CallTimes {
    CallTimes { first: began, began, ended }
}

#[test]
fn an_event_belongs_to_the_phase_in_which_it_is_due() {
    let mut recorder = recorder(0);
    let events = [(999_999, 0), (1_000_000, 0), (2_999_999, 0), (3_000_000, 0)];
    let (began, ended) = (recorder.at(2_999_998), recorder.at(2_999_999));
    recorder.batch_stored(&batch(0, &events), call(began, ended));
    recorder.batch_redelivered(&batch(0, &events));
    let SecondRecord { ingester, .. } = recorder.take();
    assert_eq!((ingester.queries_due, ingester.queries_executed, ingester.queries_in_time), (4, 4, 4));
    assert_eq!((ingester.batches_executed, ingester.batches_redelivered), (1, 1));
    assert_millis(&ingester.latency, &[0, 2000]);
    for of_no_event in [vec![(999_999, 0)], vec![(3_000_000, 0)]] {
        recorder.batch_stored(&batch(0, &of_no_event), call(began, ended));
        recorder.batch_redelivered(&batch(0, &of_no_event));
        recorder.event_unfinished(of_no_event[0].0, 1, ended);
        recorder.batch_failed(&batch(0, &of_no_event), recorder.at(of_no_event[0].0), &away());
        assert_eq!(recorder.take(), SecondRecord::default());
    }
    // A batch of the warm-up that fails in the test delays the events of the test.
    recorder.batch_failed(&batch(0, &[(999_999, 0)]), began, &away());
    assert_eq!(recorder.take().ingester.batches_failed, 1);
    // At the end of the test, it is too late.
    let ended = recorder.at(3_000_000);
    recorder.batch_stored(&batch(0, &[(2_000_000, 0)]), call(began, ended));
    recorder.event_unfinished(1_000_000, 3, ended);
    recorder.batch_failed(&batch(0, &[(2_000_000, 0)]), ended, &away());
    let SecondRecord { ingester, error_count, .. } = recorder.take();
    assert_eq!((ingester.queries_due, ingester.queries_executed, ingester.queries_in_time), (5, 2, 0));
    assert_eq!((ingester.latency.unfinished(), ingester.batches_failed, error_count), (1, 1, 1));
    assert_millis(&ingester.latency, &[1000, 2000]);
    // A test that is stopped has ended earlier.
    recorder.end_at(2_000_000);
    recorder.end_at(2_500_000);
    recorder.event_unfinished(2_000_000, 1, ended);
    recorder.event_unfinished(1_999_999, 1, ended);
    let at_end = recorder.at(2_000_000);
    recorder.batch_stored(&batch(0, &[(1_500_000, 0)]), call(began.min(at_end), at_end));
    let SecondRecord { ingester, .. } = recorder.take();
    assert_eq!((ingester.queries_due, ingester.queries_executed, ingester.queries_in_time), (3, 2, 0));
}

#[test]
fn the_latency_of_an_event_is_split_into_lag_wait_and_service_time() {
    let mut recorder = recorder(0);
    // Generated 10 ms late, sent 10 ms after it was ready, and stored in 40 ms.
    let (began, ended) = (recorder.at(1_060_000), recorder.at(1_100_000));
    recorder.batch_stored(&batch(1_050_000, &[(1_000_000, 10_000)]), call(began, ended));
    let SecondRecord { ingester, .. } = recorder.take();
    assert_millis(&ingester.latency, &[100]);
    assert_millis(&ingester.service_time, &[40]);
    assert_millis(&ingester.call_time, &[40]);
    assert_millis(&ingester.driver_lag, &[20]);
    assert_millis(&ingester.backlog_wait, &[40]);
    // Failed attempts are a part of the wait.
    let times = CallTimes { first: began, began: recorder.at(9_060_000), ended: recorder.at(9_100_000) };
    recorder.batch_stored(&batch(1_050_000, &[(1_000_000, 10_000)]), times);
    let SecondRecord { ingester, .. } = recorder.take();
    assert_millis(&ingester.latency, &[8100]);
    assert_millis(&ingester.driver_lag, &[20]);
    assert_millis(&ingester.backlog_wait, &[8040]);
    // The lag is at most the time before the call, and the service time at most the latency.
    recorder.batch_stored(&batch(1_050_000, &[(1_000_000, 55_000), (1_080_000, 0)]), call(began, ended));
    let SecondRecord { ingester, .. } = recorder.take();
    assert_millis(&ingester.latency, &[20, 100]);
    assert_millis(&ingester.service_time, &[20, 40]);
    assert_millis(&ingester.call_time, &[40]);
    assert_millis(&ingester.driver_lag, &[0, 60]);
    assert_millis(&ingester.backlog_wait, &[0, 0]);
}

fn away() -> Error {
    Error::new(ErrorKind::Unavailable, Operation::GetJobs, "away")
}

fn page(due: u64, ready: u64) -> DueRead {
    let call = ReadCall::JobSpec(String::new());
    DueRead { query_type: QueryType::GetJobSpec, combo: "none", due, ready, call }
}

fn done(recorder: &Recorder, [began, ended]: [u64; 2], outcome: Result<KnownIds>) -> CompletedRead {
    CompletedRead { id: 0, began: recorder.at(began), ended: recorder.at(ended), outcome }
}

#[test]
fn a_read_succeeds_finds_nothing_fails_or_does_not_complete() {
    let mut recorder = recorder(9);
    let read = page(1_000_000, 1_030_000);
    let seen = KnownIds { jobs: vec!["a".into()], failed_runs: vec![] };
    let completed = done(&recorder, [1_040_000, 1_100_000], Ok(seen));
    assert_eq!(recorder.read_done(&read, completed).jobs, ["a"]);
    let not_found = Err(Error::not_found(Operation::GetJobSpec, "spec", "job", "a"));
    let late = done(&recorder, [1_030_000, 3_000_000], not_found);
    recorder.read_done(&read, late);
    let failed = done(&recorder, [1_030_000, 1_050_000], Err(away()));
    recorder.read_done(&read, failed);
    recorder.read_unfinished(&read, recorder.at(4_000_000));
    // Reads of the warm-up and after the test.
    for due in [999_999, 3_000_000] {
        let completed = done(&recorder, [due, due], Err(away()));
        recorder.read_done(&page(due, due), completed);
        recorder.read_unfinished(&page(due, due), recorder.at(due));
    }
    let SecondRecord { queries, errors, error_count, .. } = recorder.take();
    let [query] = &queries[..] else { panic!("{queries:?}") };
    assert_eq!((query.executed, query.not_found, query.failed, query.unfinished), (1, 1, 1, 1));
    assert_eq!((query.in_time, query.due()), (1, 4));
    assert_millis(&query.latency, &[50, 100, 2000, 3000]);
    assert_eq!(query.latency.unfinished(), 2);
    assert_millis(&query.service_time, &[60, 1970]);
    assert_millis(&query.slot_wait, &[30, 30]);
    assert_millis(&query.driver_lag, &[0, 10]);
    assert_eq!((errors.len(), error_count, recorder.error_count()), (1, 1, 3));
}

#[test]
fn the_record_has_the_first_errors_of_the_test_and_the_display_the_first_of_each_kind() {
    let mut recorder = recorder(2);
    let fail = |recorder: &mut Recorder, due: u64, kind: ErrorKind, text: &str| {
        let error = Error::new(kind, Operation::GetJobs, text.to_owned());
        let completed = done(recorder, [due, due], Err(error));
        recorder.read_done(&page(due, due), completed);
    };
    fail(&mut recorder, 500_000, ErrorKind::Timeout, "warm-up");
    fail(&mut recorder, 1_000_000, ErrorKind::Timeout, "first");
    fail(&mut recorder, 1_000_000, ErrorKind::Unavailable, "second");
    fail(&mut recorder, 1_000_000, ErrorKind::Unavailable, "third");
    fail(&mut recorder, 1_000_000, ErrorKind::Backend, "fourth");
    assert_eq!(recorder.last_error(), None, "no batch has failed");
    recorder.batch_failed(&batch(0, &[(500_000, 0)]), recorder.at(500_000), &away());
    recorder.action_failed(500_000);
    recorder.action_failed(1_000_000);
    assert!(recorder.last_error().unwrap().contains("away"));
    let texts = |errors: &[ErrorRecord]| -> Vec<String> {
        let names = ["warm-up", "first", "second", "third", "fourth", "away"];
        let name = |error: &ErrorRecord| names.into_iter().find(|name| error.error.contains(name)).unwrap().to_owned();
        errors.iter().map(name).collect()
    };
    assert_eq!(texts(&recorder.take_new_errors()), ["warm-up", "second", "fourth", "away"]);
    assert_eq!(recorder.take_new_errors(), []);
    let second = recorder.take();
    assert_eq!((texts(&second.errors), second.error_count), (vec!["first".to_owned(), "second".to_owned()], 5));
    assert_eq!(recorder.error_count(), 8);
}

#[test]
fn an_interval_has_what_was_due_and_what_completed() {
    let mut recorder = recorder(0);
    let at = recorder.at(500_000);
    // The load starts 2.5 s after the run. Four queries are stored, and ten wait.
    recorder.batch_stored(&batch(0, &[(0, 0), (0, 0)]), call(at, at));
    (0..3).for_each(|_| recorder.read_due(&page(0, 0)));
    let completed = done(&recorder, [0, 100_000], Err(away()));
    recorder.read_done(&page(0, 0), completed);
    let intervals = |recorder: &mut Recorder, seconds: u64, backlog: u64| {
        let second = recorder.close_second(Duration::from_secs(seconds), backlog, |_| 2);
        let interval = |series: &SeriesRecord| {
            let [Interval { second, target, achieved, backlog, errors, .. }] = series.intervals[..] else { panic!() };
            (series.query_type, second, target, achieved, backlog, errors)
        };
        second.series.iter().map(interval).collect::<Vec<_>>()
    };
    let specs = Some(QueryType::GetJobSpec);
    assert_eq!(intervals(&mut recorder, 1, 10), [(None, 2, 14.0, 4.0, 10, 0), (specs, 2, 3.0, 1.0, 2, 1)]);
    // In the next second, two are stored, one attempt fails, and one query becomes due.
    recorder.batch_stored(&batch(0, &[(0, 0)]), call(at, at));
    recorder.batch_failed(&batch(0, &[(0, 0)]), at, &away());
    assert_eq!(intervals(&mut recorder, 2, 9), [(None, 3, 1.0, 2.0, 9, 1), (specs, 3, 0.0, 0.0, 2, 0)]);
    // Jobs that were shed or cancelled leave the backlog.
    assert_eq!(intervals(&mut recorder, 3, 4)[0], (None, 4, 0.0, 0.0, 4, 0));
}
