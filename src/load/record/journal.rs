//! The seconds of a run, and the JSON of its record.

use serde::{Deserialize, Serialize};

use super::{ActivitySample, DelayRecord, ErrorRecord, IngesterRecord, QueryRecord, RunRecord, SeriesRecord};
use crate::measure::Histogram;
use crate::time::Timestamp;

/// What a run adds to its record in one second: the calls that ended in it, and the intervals that it closed.
///
/// A record is the sum of its seconds, so a run that is killed leaves a record of all seconds that were written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SecondRecord {
    /// The ingestion of the test phase.
    pub ingester: IngesterRecord,
    /// The reads of the test phase.
    pub queries: Vec<QueryRecord>,
    /// The first errors of the test phase.
    pub errors: Vec<ErrorRecord>,
    /// The number of errors of the test phase.
    pub error_count: u64,
    /// The interval of ingestion and of each kind of read, with one interval each.
    pub series: Vec<SeriesRecord>,
    /// The samples of the server's activity.
    pub activity: Vec<ActivitySample>,
    /// The delays of ingestion and of each kind of read.
    pub delays: Vec<DelayRecord>,
    /// The latencies of each of the intervals, if they are recorded and not yet part of the interval.
    #[serde(skip)]
    pub(in crate::load) latencies: Vec<Histogram>,
}

impl SecondRecord {
    /// Makes the latencies a part of their intervals.
    pub(in crate::load) fn encode_latencies(&mut self) {
        for (series, latencies) in self.series.iter_mut().zip(self.latencies.drain(..)) {
            let intervals = series.intervals.iter_mut();
            intervals.for_each(|interval| interval.latencies = Some(latencies.encode()));
        }
    }
}

impl RunRecord {
    /// Adds the measurements of a second.
    pub(in crate::load) fn add(&mut self, second: SecondRecord) {
        self.ingester.merge(&second.ingester);
        for query in second.queries {
            let kind = (query.query_type, query.filter_combo.clone());
            let same = |other: &&mut QueryRecord| (other.query_type, &other.filter_combo) == (kind.0, &kind.1);
            match self.queries.iter_mut().find(same) {
                Some(sum) => sum.merge(&query),
                None => self.queries.push(query),
            }
        }
        self.queries.sort_by(|a, b| (a.query_type, &a.filter_combo).cmp(&(b.query_type, &b.filter_combo)));
        self.errors.extend(second.errors);
        self.error_count += second.error_count;
        self.activity.extend(second.activity);
        for delays in second.delays {
            match self.delays.iter_mut().find(|sum| sum.query_type == delays.query_type) {
                Some(sum) => sum.merge(&delays),
                None => self.delays.push(delays),
            }
        }
        for SeriesRecord { query_type, intervals } in second.series {
            match self.series.iter_mut().find(|series| series.query_type == query_type) {
                Some(series) => series.intervals.extend(intervals),
                None => self.series.push(SeriesRecord { query_type, intervals }),
            }
        }
    }

    /// Parses the content of a `broadside-run-….json`: a record, and the [`SecondRecord`]s of a run that was killed, which
    /// are added to it. An incomplete last second is left out.
    ///
    /// # Errors
    ///
    /// [`ReadRecordError`] if the text is not a record, or has another [`format`](Self::FORMAT).
    pub fn from_json(text: &[u8]) -> Result<Self, ReadRecordError> {
        // The format is checked first, because other formats may have other fields.
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let first = |text| serde_json::Deserializer::from_slice(text).into_iter::<Versioned>().next();
        match first(text) {
            Some(Ok(Versioned { format: Self::FORMAT })) => {}
            Some(Ok(Versioned { format })) => return Err(ReadRecordError::Format(format)),
            Some(Err(error)) => return Err(ReadRecordError::Json(error)),
            None => return Err(ReadRecordError::Empty),
        }
        let mut records = serde_json::Deserializer::from_slice(text).into_iter::<Self>();
        let Some(record) = records.next() else { return Err(ReadRecordError::Empty) };
        let mut record = record.map_err(ReadRecordError::Json)?;
        let seconds = &text[records.byte_offset()..];
        if !seconds.trim_ascii().is_empty() {
            record.add_seconds(seconds)?;
        }
        Ok(record)
    }

    /// Adds the seconds of a run that was killed, and ends its phases with the last one.
    fn add_seconds(&mut self, seconds: &[u8]) -> Result<(), ReadRecordError> {
        for second in serde_json::Deserializer::from_slice(seconds).into_iter::<SecondRecord>() {
            match second {
                Ok(second) => self.add(second),
                Err(error) if error.is_eof() => break,
                Err(error) => return Err(ReadRecordError::Json(error)),
            }
        }
        let last = self.series.iter().flat_map(|series| &series.intervals).map(|interval| interval.second).max();
        let end = last.map_or(0, |second| (second + 1) * 1_000_000_000);
        self.phases.retain(|phase| phase.start_nanos < end);
        self.phases.iter_mut().for_each(|phase| phase.end_nanos = phase.end_nanos.min(end));
        self.ended = Timestamp::from_micros(self.started.as_micros().saturating_add_unsigned(end / 1000));
        Ok(())
    }

    /// Serializes the record as the content of a `broadside-run-….json`.
    ///
    /// # Errors
    ///
    /// The errors of `serde_json`.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// An error of [`RunRecord::from_json`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadRecordError {
    /// The record has another format.
    #[error("the record has format {0}, and this version supports format {current}", current = RunRecord::FORMAT)]
    Format(u32),
    /// The text is empty: the run was killed before its load.
    #[error("the record is empty: the run ended before its load")]
    Empty,
    /// The text is not the JSON of a record.
    #[error("not a record of a run: {0}")]
    Json(#[source] serde_json::Error),
}

#[cfg(test)]
mod tests;
