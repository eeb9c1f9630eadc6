//! Collects the measurements of a load test.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::generator::{Generator, PlannedBatch};
use super::reads::{CompletedRead, DueRead, KnownIds};
use super::record::{ErrorRecord, IngesterRecord, QueryRecord, QueryType, SeriesRecord};
use crate::error::{Error, ErrorKind};
use crate::measure::{Interval, IntervalRecorder};
use crate::time::{Clock, SystemClock};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Collects the measurements of a run. A call is attributed to the phase in which it was due. Calls of the warm-up are
/// only part of the series.
#[derive(Debug)]
pub(super) struct Recorder {
    /// The start of the load.
    start: Instant,
    /// The time from the start of the run to the start of the load.
    offset: Duration,
    /// The start and end of the test phase, in microseconds from the start of the load.
    test: [u64; 2],
    pub(super) ingester: IngesterRecord,
    queries: BTreeMap<(QueryType, &'static str), QueryRecord>,
    ingestion: Series,
    reads: BTreeMap<QueryType, Series>,
    errors: Vec<ErrorRecord>,
    max_errors: usize,
    pub(super) error_count: u64,
}

/// The series of ingestion or of a kind of read.
#[derive(Debug, Default)]
struct Series {
    recorder: IntervalRecorder,
    intervals: Vec<Interval>,
    /// The arrivals that were due in the current second.
    due: u64,
    /// The arrivals that completed in the current second.
    completed: u64,
    /// The backlog at the end of the last second.
    backlog: u64,
}

impl Recorder {
    pub(super) fn new(start: Instant, offset: Duration, test: [u64; 2], max_errors: u64) -> Self {
        Self {
            start,
            offset,
            test,
            ingester: IngesterRecord::default(),
            queries: BTreeMap::new(),
            ingestion: Series::default(),
            reads: BTreeMap::new(),
            errors: Vec::new(),
            max_errors: usize::try_from(max_errors).unwrap_or(usize::MAX),
            error_count: 0,
        }
    }

    /// The time from the start of the run to the start of the load.
    pub(super) fn offset_nanos(&self) -> u64 {
        self.offset.as_nanos() as u64
    }

    /// Ends the test phase early.
    pub(super) fn end_at(&mut self, micros: u64) {
        self.test[1] = self.test[1].min(micros);
    }

    fn is_of_test(&self, due: u64) -> bool {
        (self.test[0]..self.test[1]).contains(&due)
    }

    /// The time from a due time to an instant.
    fn since_due(&self, due: u64, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.start + Duration::from_micros(due))
    }

    /// Records the first attempt to send a batch.
    pub(super) fn batch_sent(&mut self, batch: &PlannedBatch, now: Instant) {
        for due in &batch.events {
            if self.is_of_test(due.micros) {
                let waited = self.since_due(due.micros, now);
                self.ingester.backlog_wait.record(waited);
            }
        }
    }

    /// Records that a batch is stored.
    pub(super) fn batch_stored(&mut self, batch: &PlannedBatch, began: Instant, ended: Instant) {
        let (due, queries) = (batch.due(), batch.query_count());
        let latency = self.since_due(due, ended);
        self.ingestion.completed += queries;
        self.ingestion.recorder.record(latency, queries);
        if self.is_of_test(due) {
            self.ingester.queries_executed += queries;
            self.ingester.batches_executed += 1;
            self.ingester.latency.record(latency);
            self.ingester.service_time.record(ended.saturating_duration_since(began));
        }
    }

    /// Records that a batch has been redelivered.
    pub(super) fn batch_redelivered(&mut self, batch: &PlannedBatch) {
        self.ingester.batches_redelivered += u64::from(self.is_of_test(batch.due()));
    }

    /// Records a failed attempt to send a batch.
    pub(super) fn batch_failed(&mut self, batch: &PlannedBatch, error: &Error) {
        self.ingester.batches_failed += u64::from(self.is_of_test(batch.due()));
        self.ingestion.recorder.record_error();
        self.error(None, "", error.to_string());
    }

    /// Records that a read is due.
    pub(super) fn read_due(&mut self, read: &DueRead) {
        self.reads.entry(read.query_type).or_default().due += 1;
    }

    /// Records the outcome of a read. Returns the ids in its result.
    pub(super) fn read_done(&mut self, read: &DueRead, done: CompletedRead) -> KnownIds {
        let latency = self.since_due(read.due, done.ended);
        let series = self.reads.entry(read.query_type).or_default();
        series.completed += 1;
        let not_found = matches!(&done.outcome, Err(error) if error.kind() == ErrorKind::NotFound);
        match &done.outcome {
            Err(_) if !not_found => series.recorder.record_error(),
            _ => series.recorder.record(latency, 1),
        }
        if self.is_of_test(read.due) {
            let waited = self.since_due(read.due, done.began);
            let record = self.query(read);
            record.slot_wait.record(waited);
            match &done.outcome {
                Ok(_) => record.executed += 1,
                Err(_) if not_found => record.not_found += 1,
                Err(_) => record.failed += 1,
            }
            if done.outcome.is_ok() || not_found {
                record.latency.record(latency);
                record.service_time.record(done.ended.saturating_duration_since(done.began));
            } else if done.timed_out {
                // The latency is a lower bound, which must be part of the percentiles.
                record.latency.record_unfinished(latency);
            }
        }
        match done.outcome {
            Ok(seen) => seen,
            Err(error) => {
                if !not_found {
                    self.error(Some(read.query_type), read.combo, error.to_string());
                }
                KnownIds::default()
            }
        }
    }

    fn query(&mut self, read: &DueRead) -> &mut QueryRecord {
        self.queries.entry((read.query_type, read.combo)).or_insert_with(|| QueryRecord {
            query_type: read.query_type,
            filter_combo: read.combo.to_owned(),
            executed: 0,
            failed: 0,
            not_found: 0,
            unfinished: 0,
            latency: Default::default(),
            service_time: Default::default(),
            slot_wait: Default::default(),
        })
    }

    /// Records a read that had not completed at the end.
    pub(super) fn read_unfinished(&mut self, read: &DueRead, now: Instant) {
        if self.is_of_test(read.due) {
            let at_least = self.since_due(read.due, now);
            let record = self.query(read);
            record.unfinished += 1;
            record.latency.record_unfinished(at_least);
        }
    }

    /// Records a batch that had not completed at the end. `due` is the due time of its first query.
    pub(super) fn batch_unfinished(&mut self, due: u64, now: Instant) {
        if self.is_of_test(due) {
            self.ingester.batches_unfinished += 1;
            self.ingester.latency.record_unfinished(self.since_due(due, now));
        }
    }

    pub(super) fn error(&mut self, query_type: Option<QueryType>, combo: &str, error: String) {
        self.error_count += 1;
        if self.errors.len() < self.max_errors {
            let timestamp = SystemClock.now();
            self.errors.push(ErrorRecord { query_type, filter_combo: combo.to_owned(), error, timestamp });
        }
    }

    /// Samples the backlog.
    pub(super) fn backlog(&mut self, now: u64, generator: &Generator) {
        if self.is_of_test(now) {
            self.ingester.backlog_size.record(generator.backlog(now));
        }
    }

    /// Closes the current interval of each series. `read_backlog` returns the number of outstanding reads of a kind.
    pub(super) fn close_second(&mut self, elapsed: Duration, backlog: u64, read_backlog: impl Fn(QueryType) -> u64) {
        let second = (self.offset + elapsed).as_nanos() as u64 / NANOS_PER_SECOND;
        let second = second.saturating_sub(1);
        // The queries that became due are the completed ones and the growth of the backlog.
        self.ingestion.due = (self.ingestion.completed + backlog).saturating_sub(self.ingestion.backlog);
        self.ingestion.close(second, backlog);
        for (query_type, series) in &mut self.reads {
            series.close(second, read_backlog(*query_type));
        }
    }

    /// The last interval of ingestion.
    pub(super) fn last_second(&self) -> Option<&Interval> {
        self.ingestion.intervals.last()
    }

    /// The last interval of each kind of read.
    pub(super) fn last_seconds(&self) -> impl Iterator<Item = (QueryType, &Interval)> {
        self.reads.iter().filter_map(|(kind, series)| Some((*kind, series.intervals.last()?)))
    }

    /// Returns the measurements for the record of the run.
    pub(super) fn finish(self) -> Measurements {
        let of_reads = self.reads.into_iter().map(|(kind, series)| (Some(kind), series));
        let series = std::iter::once((None, self.ingestion)).chain(of_reads);
        Measurements {
            ingester: self.ingester,
            queries: self.queries.into_values().collect(),
            series: series
                .map(|(query_type, series)| SeriesRecord { query_type, intervals: series.intervals })
                .collect(),
            errors: self.errors,
            error_count: self.error_count,
        }
    }
}

/// The measurements of a load.
#[derive(Debug)]
pub(super) struct Measurements {
    pub(super) ingester: IngesterRecord,
    pub(super) queries: Vec<QueryRecord>,
    pub(super) series: Vec<SeriesRecord>,
    pub(super) errors: Vec<ErrorRecord>,
    pub(super) error_count: u64,
}

impl Series {
    fn close(&mut self, second: u64, backlog: u64) {
        let interval = self.recorder.close(second, self.due as f64, backlog);
        self.intervals.push(interval);
        (self.due, self.completed, self.backlog) = (0, 0, backlog);
    }
}
