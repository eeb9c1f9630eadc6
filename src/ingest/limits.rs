//! The limits on stored texts, times and specs (rule 8 of the contract).

use std::fmt;

use prost::Message;

use crate::api;
use crate::time::Timestamp;

/// The longest job id, in bytes.
pub const JOB_ID_BYTES: usize = 32;
/// The longest run id, in bytes.
pub const RUN_ID_BYTES: usize = 36;
/// The longest queue, owner, namespace, cluster, node, pool, cancel reason or user, in bytes.
pub const NAME_BYTES: usize = 512;
/// The longest job set, in bytes.
pub const JOB_SET_BYTES: usize = 1024;
/// The longest priority class, in bytes.
pub const PRIORITY_CLASS_BYTES: usize = 63;

/// 1900-01-01T00:00:00Z, the earliest time that can be stored.
pub const EARLIEST: Timestamp = Timestamp::from_seconds(-2_208_988_800);
/// The end of 2299-12-31, which no stored time reaches.
pub const END: Timestamp = Timestamp::from_seconds(10_413_792_000);

/// The number of characters of a bad value that an error shows.
const SHOWN_BYTES: usize = 80;

/// A field that cannot be stored, and the reason.
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

/// A text that may be empty.
pub(crate) fn text(field: &'static str, value: &str, most_bytes: usize) -> Check {
    if value.len() > most_bytes {
        return violation(
            field,
            format!("{} has {} bytes, more than the {most_bytes} allowed", shown(value), value.len()),
        );
    }
    no_nul(field, value)
}

/// A text that must not be empty.
pub(crate) fn required(field: &'static str, value: &str, most_bytes: usize) -> Check {
    if value.is_empty() {
        return violation(field, "\"\" must not be empty");
    }
    text(field, value, most_bytes)
}

/// A text that may be absent.
pub(crate) fn optional(field: &'static str, value: Option<&str>, most_bytes: usize) -> Check {
    value.map_or(Ok(()), |value| text(field, value, most_bytes))
}

pub(crate) fn no_nul(field: &'static str, value: &str) -> Check {
    if holds_nul(value) {
        return violation(field, format!("{} holds a NUL character", shown(value)));
    }
    Ok(())
}

/// Whether a text holds a NUL. Texts are short and nearly none has one, so looking at every
/// byte, which compiles to a few vector instructions, beats a search that may end early.
pub(crate) fn holds_nul(text: &str) -> bool {
    text.bytes().fold(false, |nul, byte| nul | (byte == 0))
}

pub(crate) fn time(field: &'static str, value: Timestamp) -> Check {
    if value < EARLIEST || value >= END {
        return violation(field, format!("{value} is outside 1900-01-01..2299-12-31"));
    }
    Ok(())
}

/// Bytes that decode as `api.Job`; none or empty ones are an absent spec.
pub(crate) fn spec(field: &'static str, value: &[u8]) -> Check {
    match api::Job::decode(value) {
        Ok(_) => Ok(()),
        Err(error) => violation(field, format!("({} bytes) is no valid api.Job: {error}", value.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_end_days_count_whole() {
        let check = |text: &str| time("time", text.parse().unwrap()).is_ok();
        assert!(check("1900-01-01T00:00:00Z"));
        assert!(check("2299-12-31T23:59:59.9999999Z"));
        assert!(!check("1899-12-31T23:59:59.999999Z"));
        assert!(!check("2300-01-01T00:00:00Z"));
    }

    #[test]
    fn long_values_are_cut_in_messages() {
        let message = text("queue", &"\u{e9}".repeat(300), NAME_BYTES).unwrap_err().to_string();
        assert!(message.len() < 300, "{message}");
        assert!(message.contains("600 bytes"), "{message}");
    }
}
