//! Recorded reads for a replay.

use serde_json::{Map, Value};

use super::record::QueryType;
use crate::query::ReadCall;
use crate::scenario::Call;
use crate::time::Timestamp;

/// A recorded read.
#[derive(Debug, Clone)]
pub struct RecordedRead {
    /// The due time, in microseconds from the first read.
    pub(super) due: u64,
    pub(super) query_type: QueryType,
    pub(super) call: ReadCall,
}

/// An invalid line of a file with recorded reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
#[non_exhaustive]
pub struct RecordedReadError {
    /// The line, starting at 1.
    pub line: usize,
    /// The description of the problem.
    pub problem: String,
}

impl RecordedRead {
    /// Parses JSON Lines. Each line is a `getJobs` or `getJobGroups` call as in a scenario file, with the `time` of the
    /// call. Blank lines and lines that begin with `#` are skipped. The calls may be in any order.
    ///
    /// ```
    /// use broadside::load::RecordedRead;
    ///
    /// let file = r#"{"op":"getJobs","time":"2026-08-01T09:00:00Z","take":10}
    /// {"op":"getJobGroups","time":"2026-08-01T09:00:01.5Z","groupedField":{"field":"state"}}"#;
    /// assert_eq!(RecordedRead::parse(file)?.len(), 2);
    /// # Ok::<(), broadside::load::RecordedReadError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first line that is not such a call or has an invalid argument.
    pub fn parse(file: &str) -> Result<Vec<Self>, RecordedReadError> {
        let lines = file.lines().zip(1..).filter(|(text, _)| !text.trim().is_empty() && !text.starts_with('#'));
        let mut calls = lines
            .map(|(text, line)| parse_line(text).map_err(|problem| RecordedReadError { line, problem }))
            .collect::<Result<Vec<_>, _>>()?;
        calls.sort_by_key(|(time, ..)| *time);
        let first = calls.first().map_or(0, |(time, ..)| time.as_micros());
        let read = |(time, query_type, call): (Timestamp, QueryType, ReadCall)| Self {
            due: time.as_micros().abs_diff(first),
            query_type,
            call,
        };
        Ok(calls.into_iter().map(read).collect())
    }

    /// Delays the due time.
    pub(super) fn delayed(mut self, micros: u64) -> Self {
        self.due = self.due.saturating_add(micros);
        self
    }
}

fn parse_line(text: &str) -> Result<(Timestamp, QueryType, ReadCall), String> {
    let mut call: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
    let time = match call.remove("time") {
        Some(Value::String(time)) => time.parse().map_err(|error| format!("time {time:?}: {error}"))?,
        _ => return Err("the call has no time".to_owned()),
    };
    let op = call.get("op").cloned().unwrap_or_default();
    let query_type = match op.as_str() {
        Some("getJobs") => QueryType::GetJobs,
        Some("getJobGroups") => QueryType::GetJobGroups,
        _ => return Err(format!("the op must be getJobs or getJobGroups, not {op}")),
    };
    let in_op = |problem: &str| format!("{}: {problem}", op.as_str().unwrap_or_default());
    let call = serde_json::from_value::<Call>(Value::Object(call)).map_err(|error| in_op(&error.to_string()))?;
    let read = call.read().map_err(|error| in_op(error.message()))?.ok_or_else(|| in_op("not a read"))?;
    Ok((time, query_type, read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_sorted_by_time() {
        let file = "# recorded\n\n{\"op\":\"getJobs\",\"time\":\"2026-08-01T09:00:02Z\"}\n{\"op\":\"getJobGroups\",\"time\":\"2026-08-01T11:00:00.5+02:00\",\"groupedField\":{\"field\":\"queue\"}}\n";
        let reads = RecordedRead::parse(file).unwrap();
        let dues: Vec<_> = reads.iter().map(|read| (read.query_type, read.due)).collect();
        assert_eq!(dues, [(QueryType::GetJobGroups, 0), (QueryType::GetJobs, 1_500_000)]);
    }

    #[test]
    fn errors_have_the_line() {
        for (line, part) in [
            ("{", "not a JSON object"),
            (r#"{"op":"getJobs"}"#, "no time"),
            (r#"{"op":"getJobs","time":"noon"}"#, "noon"),
            (r#"{"op":"getJobSpec","time":"2026-08-01T09:00:00Z","jobId":"j"}"#, "getJobSpec"),
            (
                r#"{"op":"getJobs","time":"2026-08-01T09:00:00Z","filters":[{"field":"colour","match":"exact"}]}"#,
                "colour",
            ),
        ] {
            let error = RecordedRead::parse(&format!("\n{line}")).unwrap_err();
            assert_eq!(error.line, 2);
            assert!(error.problem.contains(part), "{error}");
        }
    }
}
