//! SQL text with its parameters.

use std::fmt;

use serde::Serialize;

/// The maximum number of bytes of a parameter. A server rejects form fields above 128 KiB
/// (`http_max_field_value_size`), and escaping may double the length of a string.
const PIECE_BYTES: usize = 48 * 1024;

/// The maximum number of integers in a parameter, for the same reason.
const PIECE_INTEGERS: usize = 4096;

/// The maximum number of ids in a statement. A server accepts 1,000 form fields (`http_max_fields`); this number of ids
/// requires a dozen, and a statement may contain several such arrays.
pub(super) const MAX_IDS: usize = 20_000;

/// The maximum number of values in an array. The server rejects constant arrays of more than 1,000,000 values.
const MAX_IN_ARRAY: usize = 500_000;

/// SQL and the values of its parameters.
#[derive(Debug, Clone, Default)]
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) values: Values,
}

impl Statement {
    /// SQL without parameters.
    pub(super) fn plain(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), values: Values::default() }
    }
}

/// The SQL, followed by a comment for each parameter.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sql)?;
        for (name, value) in self.values.iter() {
            write!(f, "\n-- {name} = {}", serde_json::to_string(value).unwrap_or_default())?;
        }
        Ok(())
    }
}

/// The values of the parameters `p0`, `p1` and so on. Each method adds a value and returns the expression of its
/// parameter, so no value becomes part of the SQL.
#[derive(Debug, Clone, Default)]
pub(super) struct Values(Vec<Value>);

/// A value in the form that the client serializes.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(super) enum Value {
    Text(String),
    Texts(Vec<String>),
    Integer(i64),
    Integers(Vec<i64>),
    Count(u64),
}

impl Value {
    fn sql_type(&self) -> &'static str {
        match self {
            Self::Text(_) => "String",
            Self::Texts(_) => "Array(String)",
            Self::Integer(_) => "Int64",
            Self::Integers(_) => "Array(Int64)",
            Self::Count(_) => "UInt64",
        }
    }
}

impl Values {
    /// The names and values of the parameters.
    pub(super) fn iter(&self) -> impl Iterator<Item = (String, &Value)> {
        self.0.iter().enumerate().map(|(at, value)| (format!("p{at}"), value))
    }

    pub(super) fn text(&mut self, text: &str) -> String {
        let mut pieces = Vec::new();
        let mut rest = text;
        while rest.len() > PIECE_BYTES {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
            pieces.push(self.push(Value::Text(piece.to_owned())));
            rest = after;
        }
        pieces.push(self.push(Value::Text(rest.to_owned())));
        joined("concat", pieces)
    }

    /// Bytes, which need not be UTF-8.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> String {
        format!("unhex({})", self.text(&hex(bytes)))
    }

    /// Byte strings in hexadecimal, for `unhex`.
    pub(super) fn hex_texts<'a>(&mut self, byte_strings: impl IntoIterator<Item = &'a [u8]>) -> String {
        self.texts(byte_strings.into_iter().map(hex))
    }

    pub(super) fn integer(&mut self, value: i64) -> String {
        self.push(Value::Integer(value))
    }

    pub(super) fn integers(&mut self, integers: &[i64]) -> String {
        if integers.is_empty() {
            return self.push(Value::Integers(Vec::new()));
        }
        let pieces = integers.chunks(PIECE_INTEGERS).map(|piece| self.push(Value::Integers(piece.to_vec()))).collect();
        joined("arrayConcat", pieces)
    }

    pub(super) fn count(&mut self, value: u64) -> String {
        self.push(Value::Count(value))
    }

    pub(super) fn texts<S: AsRef<str>>(&mut self, texts: impl IntoIterator<Item = S>) -> String {
        let mut pieces = Vec::new();
        let mut piece = Vec::new();
        let mut bytes = 0;
        for text in texts {
            let text = text.as_ref();
            if bytes + text.len() > PIECE_BYTES && !piece.is_empty() {
                pieces.push(self.push(Value::Texts(std::mem::take(&mut piece))));
                bytes = 0;
            }
            if text.len() > PIECE_BYTES {
                pieces.push(format!("[{}]", self.text(text)));
            } else {
                bytes += text.len() + 3;
                piece.push(text.to_owned());
            }
        }
        if !piece.is_empty() || pieces.is_empty() {
            pieces.push(self.push(Value::Texts(piece)));
        }
        joined("arrayConcat", pieces)
    }

    /// The condition that an expression is one of several strings; the list is not empty.
    pub(super) fn is_in<S: AsRef<str>>(&mut self, expression: &str, texts: &[S]) -> String {
        let lists = texts.chunks(MAX_IN_ARRAY).map(|texts| self.texts(texts)).collect();
        in_any(expression, lists)
    }

    /// The condition that an expression is one of several integers; the list is not empty.
    pub(super) fn is_in_integers(&mut self, expression: &str, integers: &[i64]) -> String {
        let lists = integers.chunks(MAX_IN_ARRAY).map(|integers| self.integers(integers)).collect();
        in_any(expression, lists)
    }

    fn push(&mut self, value: Value) -> String {
        let placeholder = format!("{{p{}:{}}}", self.0.len(), value.sql_type());
        self.0.push(value);
        placeholder
    }
}

fn in_any(expression: &str, lists: Vec<String>) -> String {
    let tests: Vec<_> = lists.iter().map(|list| format!("{expression} IN {list}")).collect();
    match tests.as_slice() {
        [test] => test.clone(),
        tests => format!("({})", tests.join(" OR ")),
    }
}

/// The expression that concatenates the pieces of a value.
fn joined(function: &str, mut pieces: Vec<String>) -> String {
    match pieces.len() {
        1 => pieces.swap_remove(0),
        _ => format!("{function}({})", pieces.join(", ")),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An identifier in backquotes.
pub(super) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', r"\\").replace('`', r"\`"))
}

/// A string as a literal, for statements that do not support parameters.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_bound_in_pieces() {
        let mut values = Values::default();
        assert_eq!(values.text(&"\u{e9}".repeat(PIECE_BYTES)), "concat({p0:String}, {p1:String})");
        let mut values = Values::default();
        let long = "x".repeat(PIECE_BYTES + 1);
        assert_eq!(
            values.texts(["a", long.as_str(), "b"]),
            "arrayConcat({p0:Array(String)}, [concat({p1:String}, {p2:String})], {p3:Array(String)})"
        );
        let ids: Vec<String> = (0..4000).map(|id| format!("{id:026}")).collect();
        let mut values = Values::default();
        assert_eq!(values.texts(&ids), "arrayConcat({p0:Array(String)}, {p1:Array(String)}, {p2:Array(String)})");
        assert!(values.iter().all(|(_, value)| serde_json::to_string(value).unwrap().len() < 100_000));
    }

    #[test]
    fn no_values_are_an_empty_array() {
        let mut values = Values::default();
        assert_eq!(values.texts(Vec::<String>::new()), "{p0:Array(String)}");
    }

    #[test]
    fn many_values_are_several_arrays() {
        let integers: Vec<i64> = (0..=MAX_IN_ARRAY as i64).collect();
        let test = Values::default().is_in_integers("cpu", &integers);
        assert!(test.starts_with("(cpu IN arrayConcat(") && test.contains(" OR cpu IN {p"), "{test}");
        assert_eq!(Values::default().is_in("queue", &["a"]), "queue IN {p0:Array(String)}");
    }

    #[test]
    fn identifiers_and_literals_are_escaped() {
        assert_eq!(identifier(r"a`b\c"), r"`a\`b\\c`");
        assert_eq!(literal(r"a'b\c"), r"'a\'b\\c'");
    }
}
