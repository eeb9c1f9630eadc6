//! A JSON parser for hand-written files, based on serde_json.
//!
//! Unlike serde_json, which uses the last of several equal keys and parses `-0` as a float, this parser rejects
//! repeated keys, because they are usually mistakes, and parses `-0` as the integer 0.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Detects other encodings by the first bytes. Returns an error message.
pub(crate) fn wrong_encoding(file: &[u8]) -> Option<&'static str> {
    match file {
        [0xEF, 0xBB, 0xBF, ..] => Some("the file begins with a byte order mark: save it as UTF-8 without one"),
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, _, ..] | [_, 0, ..] => {
            Some("the file is UTF-16 or UTF-32: convert it to UTF-8")
        }
        _ => None,
    }
}

/// Parses `text` as a single value.
pub(crate) fn parse(text: &[u8]) -> serde_json::Result<Value> {
    let text = with_plain_zeros(text);
    let mut deserializer = serde_json::Deserializer::from_slice(&text);
    let Strict(value) = Strict::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Replaces the sign of each `-0` with a space, which preserves the positions in error messages.
fn with_plain_zeros(text: &[u8]) -> Cow<'_, [u8]> {
    let mut changed = Cow::Borrowed(text);
    let (mut in_string, mut escaped) = (false, false);
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'-' if !in_string && is_zero(&text[at + 1..]) => changed.to_mut()[at] = b' ',
            _ => {}
        }
    }
    changed
}

/// Returns true if the text starts with the integer 0.
fn is_zero(text: &[u8]) -> bool {
    text.first() == Some(&b'0') && !text.get(1).is_some_and(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E'))
}

/// A value without repeated keys.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Strict(element)) = elements.next_element()? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(de::Error::custom(format_args!("the key {key:?} is repeated")));
            }
            let Strict(value) = entries.next_value()?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_equal_to_those_of_serde_json() {
        let text = r#"{"a":[1,-1,1.5,1e400,null,true,"-0 \" -0"],"b":{"c":{}},"d":18446744073709551615}"#;
        assert!(parse(text.as_bytes()).is_err(), "1e400 is out of range");
        let text = text.replace("1e400,", "");
        assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
        assert!(parse(b"1 2").is_err());
    }

    #[test]
    fn minus_zero_is_an_integer() {
        assert_eq!(parse(br#"[-0, 0,-0,"-0","\\",-0]"#).unwrap(), json!([0, 0, 0, "-0", "\\", 0]));
        assert!(parse(b"-0.0").unwrap().is_f64() && parse(b"-0e1").unwrap().is_f64());
        assert!(parse(b"-00").is_err() && parse(b"--0").is_err());
        assert_eq!(parse(b"-0.5").unwrap(), json!(-0.5));
    }

    #[test]
    fn repeated_keys_are_rejected_at_any_depth() {
        for text in [r#"{"k":1,"k":1}"#, r#"[{"a":{"k":1,"b":2,"\u006b":3}}]"#] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(r#"the key "k" is repeated"#), "{error}");
        }
    }
}
