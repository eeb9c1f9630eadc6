//! Collects the measurements of a load test.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::generator::{Generator, PlannedBatch};
use super::reads::{CompletedRead, DueRead, KnownIds};
use super::record::{DelayRecord, ErrorRecord, QueryRecord, QueryType, SecondRecord, SeriesRecord};
use super::trend::PARTS;
use crate::error::{Error, ErrorKind};
use crate::measure::{Interval, IntervalRecorder};
use crate::time::{Clock, SystemClock};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Collects the measurements of a run, second by second.
///
/// A call belongs to the phase in which it was due. Calls and errors of the warm-up are only part of the series.
#[derive(Debug)]
pub(super) struct Recorder {
    /// The start of the load.
    start: Instant,
    /// The time from the start of the run to the start of the load.
    offset: Duration,
    /// The start and end of the test phase, in microseconds from the start of the load.
    test: [u64; 2],
    /// The planned duration of the test phase, in microseconds.
    test_micros: u64,
    /// The measurements since the last call of [`close_second`](Self::close_second).
    second: SecondRecord,
    queries: BTreeMap<(QueryType, &'static str), QueryRecord>,
    ingestion: Series,
    reads: BTreeMap<QueryType, Series>,
    /// The number of errors that the record may still take.
    room_for_errors: u64,
    /// The kinds of errors that have occurred, in all phases.
    seen_errors: Vec<(Option<QueryType>, ErrorKind)>,
    /// The first errors of their kinds since the last call of [`close_second`](Self::close_second).
    new_errors: Vec<ErrorRecord>,
    /// The last error of a batch.
    last_error: Option<String>,
    /// The number of errors of all phases.
    error_count: u64,
    /// Whether the series contain all latencies, so that those of several load generators can be added.
    keeps_latencies: bool,
}

/// The series of ingestion or of a kind of read.
#[derive(Debug, Default)]
struct Series {
    recorder: IntervalRecorder,
    /// The arrivals that were due in the current second.
    due: u64,
    /// The arrivals that completed in the current second.
    completed: u64,
    /// The backlog at the end of the last second.
    backlog: u64,
}

/// The times of a call that stored a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallTimes {
    /// The start of the first attempt: what precedes it is the driver's lag, and failed attempts are not.
    pub(super) first: Instant,
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

impl Series {
    fn close(&mut self, second: u64, backlog: u64) -> Interval {
        let interval = self.recorder.close(second, self.due as f64, backlog);
        (self.due, self.completed, self.backlog) = (0, 0, backlog);
        interval
    }
}

impl Recorder {
    pub(super) fn new(
        start: Instant,
        offset: Duration,
        test: [u64; 2],
        max_errors: u64,
        keeps_latencies: bool,
    ) -> Self {
        Self {
            start,
            offset,
            test,
            test_micros: (test[1] - test[0]).max(1),
            second: SecondRecord::default(),
            queries: BTreeMap::new(),
            ingestion: Series::default(),
            reads: BTreeMap::new(),
            room_for_errors: max_errors,
            seen_errors: Vec::new(),
            new_errors: Vec::new(),
            last_error: None,
            error_count: 0,
            keeps_latencies,
        }
    }

    /// Ends the test phase early.
    pub(super) fn end_at(&mut self, micros: u64) {
        self.test[1] = self.test[1].min(micros);
    }

    fn is_of_test(&self, due: u64) -> bool {
        (self.test[0]..self.test[1]).contains(&due)
    }

    /// The time from a due time to an instant.
    fn since(&self, due: u64, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.start + Duration::from_micros(due))
    }

    /// Returns true if an instant is before the end of the test phase.
    fn is_in_time(&self, instant: Instant) -> bool {
        instant < self.start + Duration::from_micros(self.test[1])
    }

    /// Records the delay of an arrival of the test phase.
    fn delay(&mut self, query_type: Option<QueryType>, due: u64, delay: Duration) {
        let part = (due - self.test[0]) as usize * PARTS / self.test_micros as usize;
        let delays = &mut self.second.delays;
        let at = delays.iter().position(|delays| delays.query_type == query_type).unwrap_or_else(|| {
            delays.push(DelayRecord::new(query_type));
            delays.len() - 1
        });
        delays[at].record(part, u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Returns true if an event of the batch belongs to the test phase.
    fn has_event_of_test(&self, batch: &PlannedBatch) -> bool {
        batch.events.iter().any(|event| self.is_of_test(event.micros))
    }

    /// Records that a batch is stored. The latency of each of its events is split into the driver's lag, the wait and
    /// the service time. The wait includes failed attempts.
    pub(super) fn batch_stored(&mut self, batch: &PlannedBatch, CallTimes { first, began, ended }: CallTimes) {
        let service = ended.saturating_duration_since(began);
        let dispatch = self.since(batch.ready, first);
        let in_time = self.is_in_time(ended);
        for event in batch.events.iter() {
            let latency = self.since(event.micros, ended);
            let queries = event.event.query_count();
            self.ingestion.completed += queries;
            self.ingestion.recorder.record(latency, queries);
            if self.is_of_test(event.micros) {
                let before = latency.saturating_sub(service);
                // A batch may become ready before all of its events are generated.
                let lag = (Duration::from_micros(event.lag) + dispatch).min(before);
                let ingester = &mut self.second.ingester;
                ingester.queries_due += queries;
                ingester.queries_executed += queries;
                ingester.queries_in_time += if in_time { queries } else { 0 };
                ingester.latency.record(latency);
                ingester.service_time.record(service.min(latency));
                ingester.driver_lag.record(lag);
                ingester.backlog_wait.record(before - lag);
                self.delay(None, event.micros, latency - lag);
            }
        }
        if self.has_event_of_test(batch) {
            self.second.ingester.batches_executed += 1;
            self.second.ingester.call_time.record(service);
        }
    }

    /// Records that a batch has been redelivered.
    pub(super) fn batch_redelivered(&mut self, batch: &PlannedBatch) {
        self.second.ingester.batches_redelivered += u64::from(self.has_event_of_test(batch));
    }

    /// Records a failed attempt to send a batch. It belongs to the test if an event of the batch does or if it began in
    /// the test, because a batch of the warm-up that fails delays those of the test.
    pub(super) fn batch_failed(&mut self, batch: &PlannedBatch, began: Instant, error: &Error) {
        let began = began.saturating_duration_since(self.start).as_micros() as u64;
        let of_test = self.has_event_of_test(batch) || self.is_of_test(began);
        self.second.ingester.batches_failed += u64::from(of_test);
        self.ingestion.recorder.record_attempt();
        self.last_error = Some(error.to_string());
        self.error(of_test, None, "", error);
    }

    /// Records an event that had not been stored at the end.
    pub(super) fn event_unfinished(&mut self, due: u64, queries: u64, now: Instant) {
        if self.is_of_test(due) {
            self.second.ingester.queries_due += queries;
            self.second.ingester.latency.record_unfinished(self.since(due, now));
            self.delay(None, due, self.since(due, now));
        }
    }

    /// Records that a read is due.
    pub(super) fn read_due(&mut self, read: &DueRead) {
        self.reads.entry(read.query_type).or_default().due += 1;
    }

    /// Records the outcome of a read. Returns the ids in its result.
    pub(super) fn read_done(&mut self, read: &DueRead, done: CompletedRead) -> KnownIds {
        let latency = self.since(read.due, done.ended);
        let not_found = matches!(&done.outcome, Err(error) if error.kind() == ErrorKind::NotFound);
        let failed = done.outcome.is_err() && !not_found;
        let series = self.reads.entry(read.query_type).or_default();
        series.completed += 1;
        if failed {
            series.recorder.record_error(latency);
        } else {
            series.recorder.record(latency, 1);
        }
        if self.is_of_test(read.due) {
            let (lag, in_time) = (self.since(read.ready, done.began), self.is_in_time(done.ended));
            self.delay(Some(read.query_type), read.due, latency.saturating_sub(lag));
            let record = self.query(read);
            if failed {
                record.failed += 1;
                record.latency.record_unfinished(latency);
            } else {
                *(if not_found { &mut record.not_found } else { &mut record.executed }) += 1;
                record.in_time += u64::from(in_time);
                record.latency.record(latency);
                record.service_time.record(done.ended.saturating_duration_since(done.began));
                record.slot_wait.record(Duration::from_micros(read.ready - read.due));
                record.driver_lag.record(lag);
            }
        }
        match done.outcome {
            Ok(seen) => return seen,
            Err(error) if failed => self.error(self.is_of_test(read.due), Some(read.query_type), read.combo, &error),
            Err(_) => {}
        }
        KnownIds::default()
    }

    fn query(&mut self, read: &DueRead) -> &mut QueryRecord {
        let new = || QueryRecord::new(read.query_type, read.combo);
        self.queries.entry((read.query_type, read.combo)).or_insert_with(new)
    }

    /// Records a read that had not completed at the end.
    pub(super) fn read_unfinished(&mut self, read: &DueRead, now: Instant) {
        if self.is_of_test(read.due) {
            let at_least = self.since(read.due, now);
            self.delay(Some(read.query_type), read.due, at_least);
            let record = self.query(read);
            record.unfinished += 1;
            record.latency.record_unfinished(at_least);
        }
    }

    /// Records the failure of an action, which was due at a time.
    pub(super) fn action_failed(&mut self, due: u64) {
        self.error_count += 1;
        self.second.error_count += u64::from(self.is_of_test(due));
    }

    fn error(&mut self, of_test: bool, query_type: Option<QueryType>, combo: &str, error: &Error) {
        let kind = (query_type, error.kind());
        let is_new = !self.seen_errors.contains(&kind);
        if is_new {
            self.seen_errors.push(kind);
        }
        self.error_count += 1;
        self.second.error_count += u64::from(of_test);
        let kept = of_test && self.room_for_errors > 0;
        if kept || is_new {
            let record = ErrorRecord {
                query_type,
                filter_combo: combo.to_owned(),
                error: error.to_string(),
                timestamp: SystemClock.now(),
            };
            if is_new {
                self.new_errors.push(record.clone());
            }
            if kept {
                self.room_for_errors -= 1;
                self.second.errors.push(record);
            }
        }
    }

    /// The last error of a batch; `None` if none has failed.
    pub(super) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// The number of errors of all phases.
    pub(super) fn error_count(&self) -> u64 {
        self.error_count
    }

    /// The first errors of their kinds since the last call.
    pub(super) fn take_new_errors(&mut self) -> Vec<ErrorRecord> {
        std::mem::take(&mut self.new_errors)
    }

    /// Samples the backlog.
    pub(super) fn backlog(&mut self, now: u64, generator: &Generator) {
        if self.is_of_test(now) {
            self.second.ingester.backlog_size.record(generator.backlog(now));
        }
    }

    /// Closes the current interval of each series, and returns all measurements since the last call. `read_backlog`
    /// returns the number of outstanding reads of a kind.
    pub(super) fn close_second(
        &mut self,
        elapsed: Duration,
        backlog: u64,
        read_backlog: impl Fn(QueryType) -> u64,
    ) -> SecondRecord {
        let second = (self.offset + elapsed).as_nanos() as u64 / NANOS_PER_SECOND;
        let second = second.saturating_sub(1);
        // The queries that became due are the completed ones and the growth of the backlog.
        self.ingestion.due = (self.ingestion.completed + backlog).saturating_sub(self.ingestion.backlog);
        let mut closed = self.take();
        if self.keeps_latencies {
            let series = [&self.ingestion].into_iter().chain(self.reads.values());
            closed.latencies = series.map(|series| series.recorder.latencies().clone()).collect();
        }
        let series = |query_type, interval| SeriesRecord { query_type, intervals: vec![interval] };
        closed.series.push(series(None, self.ingestion.close(second, backlog)));
        let reads = self.reads.iter_mut();
        closed.series.extend(reads.map(|(&kind, reads)| series(Some(kind), reads.close(second, read_backlog(kind)))));
        closed
    }

    /// Returns the measurements since the last closed second.
    pub(super) fn take(&mut self) -> SecondRecord {
        let queries = std::mem::take(&mut self.queries).into_values().collect();
        SecondRecord { queries, ..std::mem::take(&mut self.second) }
    }
}

#[cfg(test)]
mod tests;
