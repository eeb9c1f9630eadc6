//! Where a response is not the expected one.

use std::fmt;

use serde_json::Value;

/// The first place where a response and the expected one differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The place, as a JSON pointer; empty for the whole.
    pub pointer: String,
    /// What should be there.
    pub expected: Value,
    /// What is.
    pub got: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pointer, expected, got } = self;
        write!(f, "at {pointer:?}: expected {expected}, got {got}")
    }
}

/// The first place where two values differ; none if they are equal, key order aside.
pub(crate) fn difference(expected: &Value, got: &Value) -> Option<Difference> {
    if expected == got {
        return None;
    }
    let within = match (expected, got) {
        (Value::Object(expected), Value::Object(got)) if expected.keys().eq(got.keys()) => {
            expected.iter().find_map(|(key, value)| below(key, value, got.get(key)?))
        }
        (Value::Array(expected), Value::Array(got)) if expected.len() == got.len() => (0..)
            .zip(expected.iter().zip(got))
            .find_map(|(index, (expected, got)): (usize, _)| below(&index.to_string(), expected, got)),
        _ => None,
    };
    Some(within.unwrap_or_else(|| Difference { pointer: String::new(), expected: expected.clone(), got: got.clone() }))
}

/// The difference within a member or an element, seen from the value that holds it.
fn below(key: &str, expected: &Value, got: &Value) -> Option<Difference> {
    let mut difference = difference(expected, got)?;
    let key = key.replace('~', "~0").replace('/', "~1");
    difference.pointer.insert_str(0, &format!("/{key}"));
    Some(difference)
}
