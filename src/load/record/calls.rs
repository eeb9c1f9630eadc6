//! The measurements of ingestion and of the kinds of reads.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::RunRecord;
use crate::measure::{Histogram, LatencyHistogram};

/// The ingestion of the test phase. An event is a state transition of a job or an update by an action; it has one to
/// three ingestion queries.
///
/// The latency of an event is the sum of three parts: the driver's lag, the wait and the service time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct IngesterRecord {
    /// The number of ingestion queries that were due, without those of jobs that were shed.
    pub queries_due: u64,
    /// The number of these queries in batches that succeeded.
    pub queries_executed: u64,
    /// The number of these queries in batches that succeeded before the end of the test.
    pub queries_in_time: u64,
    /// The number of batches that succeeded.
    pub batches_executed: u64,
    /// The number of failed attempts to send a batch.
    pub batches_failed: u64,
    /// The number of batches that were redelivered.
    pub batches_redelivered: u64,
    /// The number of jobs shed by the strategy `drop` because the backlog was full.
    pub jobs_dropped: u64,
    /// The number of jobs shed by the strategy `error` because the backlog was full.
    pub jobs_rejected: u64,
    /// The time from the due time of an event to the completion of its batch. Events that were not stored at the end
    /// count with the time until then.
    pub latency: LatencyHistogram,
    /// The duration of the call that stored the event.
    pub service_time: LatencyHistogram,
    /// The time that the event waited for room in the queue, for its batch to fill, for the previous batch of its worker
    /// and for the repetition of a failed batch.
    pub backlog_wait: LatencyHistogram,
    /// The delay by the driver: from the due time to the generation of the event, and from the time at which the batch
    /// could be sent to the call.
    pub driver_lag: LatencyHistogram,
    /// The duration of the calls that succeeded, one value for each batch.
    pub call_time: LatencyHistogram,
    /// The number of queries in the backlog, sampled every 100 ms. The sum of several shares has the samples of each.
    pub backlog_size: Histogram,
}

impl IngesterRecord {
    /// Adds the measurements of another part of the load.
    pub(in crate::load) fn merge(&mut self, other: &Self) {
        self.queries_due += other.queries_due;
        self.queries_executed += other.queries_executed;
        self.queries_in_time += other.queries_in_time;
        self.batches_executed += other.batches_executed;
        self.batches_failed += other.batches_failed;
        self.batches_redelivered += other.batches_redelivered;
        self.jobs_dropped += other.jobs_dropped;
        self.jobs_rejected += other.jobs_rejected;
        self.latency.merge(&other.latency);
        self.service_time.merge(&other.service_time);
        self.backlog_wait.merge(&other.backlog_wait);
        self.driver_lag.merge(&other.driver_lag);
        self.call_time.merge(&other.call_time);
        self.backlog_size.merge(&other.backlog_size);
    }
}

/// The kinds of reads, serialized by their names in result files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum QueryType {
    /// A page of jobs.
    GetJobs,
    /// A page of groups.
    GetJobGroups,
    /// A job's spec.
    GetJobSpec,
    /// A run's error.
    GetJobRunError,
    /// A run's debug message.
    GetJobRunDebugMessage,
}

impl fmt::Display for QueryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The measurements of a kind of read with a filter combination.
///
/// The latency of a read that succeeded is the sum of three parts: the driver's lag, the wait for a slot and the service
/// time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryRecord {
    /// The kind.
    pub query_type: QueryType,
    /// The filter combination; `none` for single records.
    pub filter_combo: String,
    /// The number of reads that succeeded.
    pub executed: u64,
    /// The number of reads that failed, without [`not_found`](Self::not_found).
    pub failed: u64,
    /// The number of reads of a record that does not exist.
    pub not_found: u64,
    /// The number of reads that had not completed at the end.
    pub unfinished: u64,
    /// The number of reads that succeeded before the end of the test, including those of records that do not exist.
    pub in_time: u64,
    /// The time from the due time to completion. Reads that failed or had not completed count with the time until then,
    /// as lower bounds.
    pub latency: LatencyHistogram,
    /// The duration of the call.
    pub service_time: LatencyHistogram,
    /// The wait for a slot.
    pub slot_wait: LatencyHistogram,
    /// The delay by the driver, from the time at which the read was due and had a slot to the call.
    pub driver_lag: LatencyHistogram,
}

/// The latencies of the events of ingestion, or of a kind of read with a filter combination.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Latencies<'a> {
    /// The time from the due time to completion.
    pub latency: &'a LatencyHistogram,
    /// The duration of the call.
    pub service_time: &'a LatencyHistogram,
    /// The wait of an event in the backlog, or of a read for a slot.
    pub wait: &'a LatencyHistogram,
    /// The delay by the driver.
    pub driver_lag: &'a LatencyHistogram,
    /// The number of failed batches, or of failed reads.
    pub failed: u64,
    /// The number of reads of a record that does not exist.
    pub not_found: u64,
}

impl RunRecord {
    /// The latencies of the events of ingestion, which are first, and of the reads, by the names of reports.
    pub fn latencies(&self) -> Vec<(String, Latencies<'_>)> {
        let ingester = &self.ingester;
        let events = Latencies {
            latency: &ingester.latency,
            service_time: &ingester.service_time,
            wait: &ingester.backlog_wait,
            driver_lag: &ingester.driver_lag,
            failed: ingester.batches_failed,
            not_found: 0,
        };
        let reads = self.queries.iter().map(|query| {
            let latencies = Latencies {
                latency: &query.latency,
                service_time: &query.service_time,
                wait: &query.slot_wait,
                driver_lag: &query.driver_lag,
                failed: query.failed,
                not_found: query.not_found,
            };
            (query.name(), latencies)
        });
        [("events".to_owned(), events)].into_iter().chain(reads).collect()
    }

    /// The kinds of reads of the test phase.
    pub fn query_types(&self) -> Vec<QueryType> {
        let mut kinds: Vec<_> = self.queries.iter().map(|query| query.query_type).collect();
        kinds.dedup();
        kinds
    }

    /// A measurement of a kind of read with all filter combinations.
    pub fn merged(&self, kind: QueryType, of: fn(&QueryRecord) -> &LatencyHistogram) -> LatencyHistogram {
        let mut merged = LatencyHistogram::default();
        self.queries.iter().filter(|query| query.query_type == kind).for_each(|query| merged.merge(of(query)));
        merged
    }
}

impl QueryRecord {
    pub(in crate::load) fn new(query_type: QueryType, filter_combo: &str) -> Self {
        Self {
            query_type,
            filter_combo: filter_combo.to_owned(),
            executed: 0,
            failed: 0,
            not_found: 0,
            unfinished: 0,
            in_time: 0,
            latency: LatencyHistogram::default(),
            service_time: LatencyHistogram::default(),
            slot_wait: LatencyHistogram::default(),
            driver_lag: LatencyHistogram::default(),
        }
    }

    /// The number of reads that were due.
    pub fn due(&self) -> u64 {
        self.executed + self.failed + self.not_found + self.unfinished
    }

    /// Adds the measurements of another part of the load.
    pub(in crate::load) fn merge(&mut self, other: &Self) {
        self.executed += other.executed;
        self.failed += other.failed;
        self.not_found += other.not_found;
        self.unfinished += other.unfinished;
        self.in_time += other.in_time;
        self.latency.merge(&other.latency);
        self.service_time.merge(&other.service_time);
        self.slot_wait.merge(&other.slot_wait);
        self.driver_lag.merge(&other.driver_lag);
    }

    /// The name in reports: the kind and the filter combination, if any.
    pub fn name(&self) -> String {
        match self.filter_combo.as_str() {
            "none" | "" => self.query_type.to_string(),
            filter => format!("{} {filter}", self.query_type),
        }
    }
}
