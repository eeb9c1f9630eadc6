//! Scenarios: calls and their expected responses, as JSON Lines.
//!
//! Each line of a scenario file is a JSON object: a call with its `op`, its arguments and, optionally, the expected
//! response as `expect`. Blank lines and lines that begin with `#` are skipped. Requests in JSON, with the names of
//! fields and match operators as strings, are validated and converted to the queries of [`query`](crate::query).
//!
//! ```
//! use broadside::scenario::Scenario;
//!
//! let file = r#"# An empty store has no jobs.
//! {"op":"initialiseSchema"}
//! {"op":"getJobs","take":10,"expect":{"ok":[]}}
//! "#;
//! let scenario = Scenario::parse(file.as_bytes())?;
//! assert_eq!(scenario.steps.len(), 2);
//! assert_eq!(scenario.steps[1].line, 3);
//! # Ok::<(), broadside::scenario::ParseError>(())
//! ```

mod call;
mod compare;
mod matcher;
mod parse;
mod request;
mod response;
#[cfg(test)]
#[cfg(any(feature = "postgres", feature = "clickhouse"))]
pub(crate) mod samples;
mod validate;

pub use call::Call;
pub use compare::{Difference, difference};
pub use matcher::{Match, UnknownMatch};
pub use parse::ParseError;
pub use request::{Filter, GetJobGroupsRequest, GetJobsRequest, GroupedField, Order};
pub use response::Response;

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// A sequence of calls with optional expected responses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scenario {
    /// The calls.
    pub steps: Vec<Step>,
}

/// A line of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The line number in the file, starting at 1.
    pub line: usize,
    /// The call.
    pub call: Call,
    /// The expected response.
    pub expect: Option<Value>,
}

impl Step {
    /// Whether `response` is equal to the expected one as a JSON value. Without an expected response, every response is
    /// accepted.
    pub fn accepts(&self, response: &Response) -> bool {
        self.difference(response).is_none()
    }

    /// The first difference between `response` and the expected response.
    pub fn difference(&self, response: &Response) -> Option<Difference> {
        compare::difference(self.expect.as_ref()?, &response.to_json())
    }
}

impl Scenario {
    /// Creates a scenario from calls and their expected responses.
    pub fn record(calls: impl IntoIterator<Item = (Call, Option<Response>)>) -> Self {
        let step = |(index, (call, response)): (usize, (Call, Option<Response>))| Step {
            line: index + 1,
            call,
            expect: response.map(|response| response.to_json()),
        };
        Self { steps: calls.into_iter().enumerate().map(step).collect() }
    }
}

/// Formats the steps as a scenario file.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

/// Formats the step as a line of a scenario file, without the line terminator.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[derive(Serialize)]
        struct Line<'a> {
            #[serde(flatten)]
            call: &'a Call,
            #[serde(skip_serializing_if = "Option::is_none")]
            expect: Option<&'a Value>,
        }

        let line = Line { call: &self.call, expect: self.expect.as_ref() };
        f.write_str(&serde_json::to_string(&line).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
#[cfg(feature = "memory")]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::memory::MemoryDatabase;
    use crate::{Clock, ManualClock, json};

    /// A line for each call.
    const EVERY_CALL: &str = r##"# every call

{"op":"initialiseSchema"}
{"op":"ingest","queries":[{"type":"insertJob","job":{"jobId":"j","queue":"q","jobSet":"s","owner":"o","priority":1,"submitted":"2026-01-01T00:00:00Z","cpu":1,"memory":2,"ephemeralStorage":3,"gpu":0,"annotations":null},"jobSpec":null}]}
{"op":"getJobs","filters":[{"field":"queue","match":"exact","value":"q"}],"order":{"field":"jobId","direction":"ASC"},"take":10,"expect":{"ok":[]}}
{"op":"getJobGroups","groupedField":{"field":"queue"},"aggregates":["state"]}
{"op":"getJobSpec","jobId":"j"}
{"op":"getJobError","jobId":"j","expect":{"error":{"kind":"notFound","message":"m"}}}
{"op":"getJobRunError","jobRunId":"r"}
{"op":"getJobRunDebugMessage","jobRunId":"r"}
{"op":"jobIdFromQuery","query":{"type":"setJobRunPending","jobRunId":"r","time":"2026-01-01T00:00:00Z"}}
{"op":"setClock","now":"2026-01-01T00:00:00Z"}
{"op":"tearDown"}
{"op":"populateHistoricalJobs","params":{"queueIdx":0,"jobSetIdx":0,"queueName":"q","jobSetName":"s","nJobs":0,"referenceTime":"2026-01-01T00:00:00Z"}}
"##;

    fn problem(line: &str) -> String {
        Scenario::parse(line.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn scenarios_round_trip() {
        let scenario = Scenario::parse(EVERY_CALL.as_bytes()).unwrap();
        assert_eq!(scenario.steps.len(), 12);
        assert_eq!(scenario.steps[2].line, 5);
        let again = Scenario::parse(scenario.to_string().as_bytes()).unwrap();
        let calls = |scenario: &Scenario| -> Vec<_> {
            scenario.steps.iter().map(|step| (step.call.clone(), step.expect.clone())).collect()
        };
        assert_eq!(calls(&again), calls(&scenario));
    }

    #[test]
    fn errors_name_the_line_the_call_and_the_query() {
        assert_eq!(problem("\n\n[]"), "line 3: not a JSON object");
        assert_eq!(problem("\n{\"op\":\"\u{e9}"), "line 2: not a JSON object: EOF while parsing a string at column 9");
        assert_eq!(problem("{}"), "line 1: missing field `op`");
        assert!(problem(r#"{"op":"getjobs"}"#).starts_with("line 1: getjobs: unknown variant `getjobs`"));
        assert!(problem(r#"{"op":"getJobs","take":1.0}"#).starts_with("line 1: getJobs: invalid type"));
        assert_eq!(
            problem(
                r#"{"op":"ingest","queries":[{"type":"insertJobSpec","jobId":"j"},{"type":"setJobPending","jobId":"j","time":"2026-01-01T00:00:00Z"}]}"#
            ),
            "line 1: ingest: query 1 (setJobPending): missing field `runId`"
        );
        assert!(Scenario::parse(b"{\"op\":\"tearDown\"}\n\xff\xfe").is_err());
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let same = |a: &str, b: &str| {
            difference(&json::parse(a.as_bytes()).unwrap(), &json::parse(b.as_bytes()).unwrap()).is_none()
        };
        for (a, b) in [
            ("1", "1.0"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("1e2", "100"),
            ("1e300", "1.0e300"),
            ("9007199254740992.0", "9007199254740992"),
        ] {
            assert!(same(a, b) && same(b, a), "{a} {b}");
        }
        for (a, b) in
            [("1", "1.5"), ("9007199254740993", "9007199254740992.0"), ("1e300", "1e301"), ("1", "true"), ("0", "null")]
        {
            assert!(!same(a, b) && !same(b, a), "{a} {b}");
        }
    }

    #[test]
    fn errors_name_an_unknown_or_repeated_key() {
        for (line, key) in [
            (r#"{"op":"getJobs","expects":{"ok":[]}}"#, "expects"),
            (r#"{"op":"tearDown","expects":{"ok":null}}"#, "expects"),
            (r#"{"op":"initialiseSchema","take":1}"#, "take"),
            (
                r#"{"op":"getJobs","filters":[{"field":"queue","match":"exact","value":"q","isAnotation":true}]}"#,
                "isAnotation",
            ),
            (r#"{"op":"getJobs","order":{"field":"queue","dir":"ASC"}}"#, "dir"),
            (r#"{"op":"getJobGroups","groupedField":{"field":"queue","aggregate":"x"}}"#, "aggregate"),
            (r#"{"op":"getJobSpec","jobId":"j","jobID":"k"}"#, "jobID"),
            (r#"{"op":"setClock","now":"2026-01-01T00:00:00Z","then":1}"#, "then"),
            (
                r#"{"op":"ingest","queries":[{"type":"setJobRunPending","jobRunId":"r","time":"2026-01-01T00:00:00Z","node":"n"}]}"#,
                "query 0 (setJobRunPending): unknown field `node`",
            ),
            (
                r#"{"op":"ingest","queries":[{"type":"insertJob","job":{"jobId":"j","queue":"q","jobSet":"s","owner":"o","priority":1,"submitted":"2026-01-01T00:00:00Z","cpu":1,"memory":2,"ephemeralStorage":3,"gpu":0,"gpus":1}}]}"#,
                "gpus",
            ),
            (
                r#"{"op":"populateHistoricalJobs","params":{"queueIdx":0,"jobSetIdx":0,"queueName":"q","jobSetName":"s","nJobs":0,"referenceTime":"2026-01-01T00:00:00Z","njobs":1}}"#,
                "njobs",
            ),
            (r#"{"op":"getJobs","take":1,"take":1}"#, "take"),
            (r#"{"op":"getJobs","op":"getJobs"}"#, "op"),
            (r#"{"op":"getJobs","expect":{"ok":[],"ok":[]}}"#, "ok"),
            (
                r#"{"op":"ingest","queries":[{"type":"insertJob","job":{"jobId":"j","annotations":{"k":"1","k":"2"}}}]}"#,
                "k",
            ),
        ] {
            let problem = problem(&format!("# first\n{line}"));
            assert!(problem.starts_with("line 2: ") && problem.contains(key), "{problem}");
        }
    }

    #[test]
    fn errors_name_the_encoding_of_the_file() {
        for (file, what) in [
            (&b"\xEF\xBB\xBF{\"op\":\"tearDown\"}"[..], "byte order mark"),
            (b"\xEF\xBB\xBF# a comment", "byte order mark"),
            (b"\xFF\xFE{\0", "UTF-16"),
            (b"\xFE\xFF\0{", "UTF-16"),
            (b"{\0\"\0", "UTF-16"),
        ] {
            let error = Scenario::parse(file).unwrap_err();
            assert_eq!(error.line(), 1);
            assert!(error.problem().contains(what), "{error}");
        }
    }

    #[test]
    fn minus_zero_is_the_integer_zero() {
        let scenario = Scenario::parse(br#"{"op":"getJobs","skip":-0,"take":-0}"#).unwrap();
        assert_eq!(scenario.steps[0].call, Call::GetJobs(Default::default()));
        assert!(Scenario::parse(br#"{"op":"getJobs","take":-0.0}"#).is_err());
    }

    #[test]
    fn responses_are_compared_as_json_values() {
        let step =
            |expect: &str| Step { line: 1, call: Call::TearDown, expect: Some(serde_json::from_str(expect).unwrap()) };
        let ok = Response::Ok(json!([{ "a": 1, "b": null }]));
        assert!(step(r#"{"ok":[{"b":null,"a":1}]}"#).accepts(&ok));
        let difference = step(r#"{"ok":[{"a":2,"b":null}]}"#).difference(&ok).unwrap();
        assert_eq!(difference.to_string(), r#"at "/ok/0/a": expected 2, got 1"#);
        assert!(!step(r#"{"ok":[{"a":1}]}"#).accepts(&ok));
        assert!(step(r#"{"ok":[{"a":1.0,"b":null}]}"#).accepts(&ok));
        assert!(!step(r#"{"ok":[{"a":1.5,"b":null}]}"#).accepts(&ok));
        assert!(!step(r#"{"ok":[{"a":1,"b":null,"c":1}]}"#).accepts(&ok));
        assert!(!step("null").accepts(&ok));
        assert!(Step { line: 1, call: Call::TearDown, expect: None }.accepts(&ok));
    }

    #[tokio::test]
    async fn calls_without_a_store_and_bad_arguments_need_no_schema() {
        let clock = Arc::new(ManualClock::default());
        let database = MemoryDatabase::new().with_clock(clock.clone());
        let mut responses = Vec::new();
        let file = r#"{"op":"jobIdFromQuery","query":{"type":"setJobRunPending","jobRunId":"r","time":"2026-01-01T00:00:00Z"}}
{"op":"setClock","now":"2026-01-01T02:00:00.1234567+02:00"}
{"op":"getJobs","filters":[{"field":"gpu","match":"exact","value":1.0}]}"#;
        for step in Scenario::parse(file.as_bytes()).unwrap().steps {
            responses.push(step.call.execute(&database, &clock).await.to_string());
        }
        assert_eq!(responses[..2], [r#"{"ok":"r"}"#, r#"{"ok":null}"#]);
        assert!(
            responses[2].starts_with(r#"{"error":{"kind":"invalidArgument","message":"GetJobs: "#),
            "{}",
            responses[2]
        );
        assert_eq!(clock.now().to_string(), "2026-01-01T00:00:00.123456Z");
    }
}
