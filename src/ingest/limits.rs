//! The limits on stored strings, times and specs.

use std::fmt;

use prost::Message;

use crate::api;
use crate::time::Timestamp;

/// The maximum length of a job id, in bytes.
pub const JOB_ID_BYTES: usize = 32;
/// The maximum length of a run id, in bytes.
pub const RUN_ID_BYTES: usize = 36;
/// The maximum length of a queue, owner, namespace, cluster, node, pool, cancel reason or user, in bytes.
pub const NAME_BYTES: usize = 512;
/// The maximum length of a job set, in bytes.
pub const JOB_SET_BYTES: usize = 1024;
/// The maximum length of a priority class, in bytes.
pub const PRIORITY_CLASS_BYTES: usize = 63;

/// 1900-01-01T00:00:00Z, the earliest time that can be stored.
pub const EARLIEST: Timestamp = Timestamp::from_seconds(-2_208_988_800);
/// 2300-01-01T00:00:00Z; stored times are earlier.
pub const END: Timestamp = Timestamp::from_seconds(10_413_792_000);

/// The maximum number of bytes of a value in an error message.
const SHOWN_BYTES: usize = 80;

/// A violation of a limit: the field and the problem.
#[derive(Debug)]
pub(crate) struct Violation {
    field: &'static str,
    problem: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.problem)
    }
}

type Check = Result<(), Violation>;

fn violation(field: &'static str, problem: impl Into<String>) -> Check {
    Err(Violation { field, problem: problem.into() })
}

fn shown(text: &str) -> String {
    let cut = text.floor_char_boundary(SHOWN_BYTES);
    if cut == text.len() { format!("{text:?}") } else { format!("{:?}…", &text[..cut]) }
}

/// Checks a string that may be empty.
pub(crate) fn text(field: &'static str, value: &str, most_bytes: usize) -> Check {
    if value.len() > most_bytes {
        return violation(
            field,
            format!("{} has {} bytes, more than the {most_bytes} allowed", shown(value), value.len()),
        );
    }
    no_nul(field, value)
}

/// Checks a string that must not be empty.
pub(crate) fn required(field: &'static str, value: &str, most_bytes: usize) -> Check {
    if value.is_empty() {
        return violation(field, "\"\" must not be empty");
    }
    text(field, value, most_bytes)
}

/// Checks a string that may be absent.
pub(crate) fn optional(field: &'static str, value: Option<&str>, most_bytes: usize) -> Check {
    value.map_or(Ok(()), |value| text(field, value, most_bytes))
}

pub(crate) fn no_nul(field: &'static str, value: &str) -> Check {
    if contains_nul(value) {
        return violation(field, format!("{} holds a NUL character", shown(value)));
    }
    Ok(())
}

/// Returns true if a string contains a NUL. Strings are short and rarely contain one, so testing all bytes, which
/// compiles to a few vector instructions, is faster than a search that can end early.
pub(crate) fn contains_nul(text: &str) -> bool {
    text.bytes().fold(false, |nul, byte| nul | (byte == 0))
}

pub(crate) fn time(field: &'static str, value: Timestamp) -> Check {
    if value < EARLIEST || value >= END {
        return violation(field, format!("{value} is outside 1900-01-01..2299-12-31"));
    }
    Ok(())
}

/// Checks bytes that must decode as `api.Job`; empty bytes are an absent spec.
pub(crate) fn spec(field: &'static str, value: &[u8]) -> Check {
    match api::Job::decode(value) {
        Ok(_) => Ok(()),
        Err(error) => violation(field, format!("({} bytes) is not a valid api.Job: {error}", value.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_last_day_are_included() {
        let check = |text: &str| time("time", text.parse().unwrap()).is_ok();
        assert!(check("1900-01-01T00:00:00Z"));
        assert!(check("2299-12-31T23:59:59.9999999Z"));
        assert!(!check("1899-12-31T23:59:59.999999Z"));
        assert!(!check("2300-01-01T00:00:00Z"));
    }

    #[test]
    fn long_values_are_truncated_in_messages() {
        let message = text("queue", &"\u{e9}".repeat(300), NAME_BYTES).unwrap_err().to_string();
        assert!(message.len() < 300, "{message}");
        assert!(message.contains("600 bytes"), "{message}");
    }
}
