//! The difference between a response and the expected one.

use std::fmt;

use serde_json::{Number, Value};

/// The first difference between a response and the expected one.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The JSON pointer to the difference; empty for the whole response.
    pub pointer: String,
    /// The expected value.
    pub expected: Value,
    /// The value of the response.
    pub got: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pointer, expected, got } = self;
        write!(f, "at {pointer:?}: expected {expected}, got {got}")
    }
}

/// The first difference between two values; `None` if they are equal. The order of keys is ignored, and numbers are
/// compared by value: 1.0 equals 1.
pub fn difference(expected: &Value, got: &Value) -> Option<Difference> {
    match (expected, got) {
        (Value::Number(expected), Value::Number(got)) if same_number(expected, got) => None,
        (Value::Object(expected), Value::Object(got)) if expected.keys().eq(got.keys()) => {
            expected.iter().find_map(|(key, value)| below(key, value, got.get(key)?))
        }
        (Value::Array(expected), Value::Array(got)) if expected.len() == got.len() => (0..)
            .zip(expected.iter().zip(got))
            .find_map(|(index, (expected, got)): (usize, _)| below(&index.to_string(), expected, got)),
        _ if expected == got => None,
        _ => Some(Difference { pointer: String::new(), expected: expected.clone(), got: got.clone() }),
    }
}

/// Whether two numbers are equal by value.
fn same_number(a: &Number, b: &Number) -> bool {
    match (integer(a), integer(b)) {
        (None, None) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

/// The number as an integer, if it is one. Floats beyond the range of i128 are compared as floats.
fn integer(number: &Number) -> Option<i128> {
    let float =
        || number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 1e38).map(|float| float as i128);
    number.as_i128().or_else(float)
}

/// The difference within a member or element, with a pointer relative to the value that contains it.
fn below(key: &str, expected: &Value, got: &Value) -> Option<Difference> {
    let mut difference = difference(expected, got)?;
    let key = key.replace('~', "~0").replace('/', "~1");
    difference.pointer.insert_str(0, &format!("/{key}"));
    Some(difference)
}
