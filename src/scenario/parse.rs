//! Parsing of scenario files.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Call, Scenario, Step};
use crate::ingest::IngestionQuery;
use crate::json;

/// The error of a line that is not a valid call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ParseError {
    line: usize,
    problem: String,
}

impl ParseError {
    /// The line number, starting at 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The problem.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl Scenario {
    /// Parses a scenario file.
    ///
    /// Arguments are validated when the call is executed, so a file may contain invalid ones.
    ///
    /// # Errors
    ///
    /// The first line that is not a valid call: malformed JSON, an unknown `op`, an unknown or repeated key, or an
    /// argument that is missing or of the wrong type. Line 1 if the file is compressed, is not UTF-8 or begins with a
    /// byte order mark.
    pub fn parse(file: &[u8]) -> Result<Self, ParseError> {
        if let Some(problem) = json::wrong_encoding(file) {
            return Err(ParseError { line: 1, problem: problem.to_owned() });
        }
        let steps = file
            .split(|&byte| byte == b'\n')
            .zip(1..)
            .filter(|(text, _)| !text.trim_ascii().is_empty() && !text.starts_with(b"#"))
            .map(|(text, line)| step(text, line).map_err(|problem| ParseError { line, problem }))
            .collect::<Result<_, _>>()?;
        Ok(Self { steps })
    }
}

fn step(text: &[u8], line: usize) -> Result<Step, String> {
    let mut call = match json::parse(text).map_err(|error| not_an_object(&error))? {
        Value::Object(object) => object,
        _ => return Err("not a JSON object".to_owned()),
    };
    let expect = call.remove("expect");
    // The object is deserialized by reference, because the error message needs it.
    let parsed = Call::deserialize(&call).map_err(|error| explain(&call, &error))?;
    // serde ignores unknown keys of a variant without fields.
    if let Call::InitialiseSchema | Call::TearDown = parsed
        && let Some(key) = call.keys().find(|&key| key != "op")
    {
        return Err(format!("unknown field `{key}`, expected `op` and perhaps `expect`"));
    }
    Ok(Step { line, call: parsed, expect })
}

/// The message without serde_json's line number, which is relative to the line of the file.
fn not_an_object(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&position) {
        Some(problem) => format!("not a JSON object: {problem} at column {}", error.column()),
        None => format!("not a JSON object: {text}"),
    }
}

/// Adds the name of the call and, in a batch, the index and type of the query, which serde's message lacks.
fn explain(call: &Map<String, Value>, error: &serde_json::Error) -> String {
    let name = |object: &Value, key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    let Some(op) = call.get("op").and_then(Value::as_str) else {
        return error.to_string();
    };
    let queries = call.get("queries").and_then(Value::as_array);
    let bad_query = queries.into_iter().flatten().zip(0..).find_map(|(query, position)| {
        let error = IngestionQuery::deserialize(query).err()?;
        let kind = name(query, "type").map_or_else(String::new, |kind| format!(" ({kind})"));
        Some(format!("query {position}{kind}: {error}"))
    });
    match bad_query {
        Some(problem) => format!("{op}: {problem}"),
        None => format!("{op}: {error}"),
    }
}
