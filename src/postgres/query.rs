//! Reads as SQL. Values are always parameters: no text of a caller ever becomes part of a statement.

mod groups;
mod jobs;
mod selection;
mod statement;
#[cfg(test)]
mod tests;

pub(super) use groups::{group, groups};
pub(super) use jobs::jobs;
