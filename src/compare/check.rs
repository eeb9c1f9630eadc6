//! Comparison of two results of a query, up to ties in the sort order.
//!
//! With ties, two correct pages may end with different rows. They agree in the number of rows and in the sort key at
//! each position, and every row is in the selection. Rows that only one target returns are therefore looked up in the
//! reference by a query for these rows.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use serde::Serialize;
use serde_json::Value;
use smol_str::SmolStr;

use super::target::Target;
use crate::error::Result;
use crate::model::{Job, JobGroup};
use crate::query::{GroupOrderKey, GroupQuery, JobOrderKey, JobQuery, TextField};
use crate::query::{ReadCall, ReadResult};
use crate::scenario::difference;

/// The difference between `got` and the reference's result; `None` if they are equal up to ties.
///
/// # Errors
///
/// Those of the reference, which is queried for rows that its own result does not have.
pub(super) async fn answers_differ(
    reference: &dyn Target,
    query: &ReadCall,
    expected: &ReadResult,
    got: &ReadResult,
) -> Result<Option<String>> {
    match (query, expected, got) {
        (ReadCall::Jobs(query), ReadResult::Jobs(expected), ReadResult::Jobs(got)) => {
            jobs_differ(reference, query, expected, got).await
        }
        (ReadCall::Groups(query), ReadResult::Groups(expected), ReadResult::Groups(got)) => {
            groups_differ(reference, query, expected, got).await
        }
        (_, ReadResult::Spec(expected), ReadResult::Spec(got)) => Ok(values_differ(expected, got)),
        (_, ReadResult::Text(expected), ReadResult::Text(got)) => Ok(values_differ(expected, got)),
        _ => Ok(values_differ(expected, got)),
    }
}

fn values_differ<T: PartialEq + fmt::Debug>(expected: &T, got: &T) -> Option<String> {
    (expected != got).then(|| format!("expected {expected:?}, got {got:?}"))
}

async fn jobs_differ(
    reference: &dyn Target,
    query: &JobQuery,
    expected: &[Job],
    got: &[Job],
) -> Result<Option<String>> {
    let key = |job: &Job| query.order().map(|order| job_key(order.key, job));
    if let Some(problem) = pages_differ(expected, got, key, |job| &job.job_id) {
        return Ok(Some(problem));
    }
    let unmatched = unmatched_rows(expected, got, |job| &job.job_id);
    if unmatched.is_empty() {
        return Ok(None);
    }
    let among = TextField::JobId.any_of(unmatched.iter().map(|job| job.job_id.as_str()));
    let (answer, _) = reference.answer(&ReadCall::Jobs(query.clone().filter(among).offset(0).limit(0))).await?;
    let ReadResult::Jobs(known) = answer else { return Ok(Some(format!("expected jobs, got {answer:?}"))) };
    Ok(first_unknown(&unmatched, &known, |job| &job.job_id))
}

async fn groups_differ(
    reference: &dyn Target,
    query: &GroupQuery,
    expected: &[JobGroup],
    got: &[JobGroup],
) -> Result<Option<String>> {
    let key = |group: &JobGroup| query.order().map(|order| group_key(order.key, group));
    if let Some(problem) = pages_differ(expected, got, key, |group| &group.name) {
        return Ok(Some(problem));
    }
    let unmatched = unmatched_rows(expected, got, |group| &group.name);
    if unmatched.is_empty() {
        return Ok(None);
    }
    let (answer, _) = reference.answer(&ReadCall::Groups(query.clone().offset(0).limit(0))).await?;
    let ReadResult::Groups(known) = answer else { return Ok(Some(format!("expected groups, got {answer:?}"))) };
    Ok(first_unknown(&unmatched, &known, |group| &group.name))
}

/// The value of the sort key: strings are compared by bytes, other values as numbers.
#[derive(Debug, Clone, PartialEq)]
enum Key {
    Number(i64),
    Text(SmolStr),
}

fn job_key(key: JobOrderKey, job: &Job) -> Key {
    match key {
        JobOrderKey::JobId => Key::Text(job.job_id.clone()),
        JobOrderKey::Queue => Key::Text(job.queue.clone()),
        JobOrderKey::JobSet => Key::Text(job.job_set.clone()),
        JobOrderKey::State => Key::Number(i64::from(job.state.ordinal())),
        JobOrderKey::Submitted => Key::Number(job.submitted.as_micros()),
        JobOrderKey::LastTransitionTime => Key::Number(job.last_transition_time.floor_seconds()),
    }
}

fn group_key(key: GroupOrderKey, group: &JobGroup) -> Option<Key> {
    match key {
        GroupOrderKey::Count => i64::try_from(group.count).ok().map(Key::Number),
        GroupOrderKey::Name => Some(Key::Text(group.name.clone())),
        GroupOrderKey::Submitted => group.aggregates.submitted.map(|time| Key::Number(time.as_micros())),
        GroupOrderKey::LastTransitionTime => {
            group.aggregates.last_transition_time.map(|time| Key::Number(time.floor_seconds()))
        }
    }
}

/// The first difference between two pages: the length, the order, a duplicate row, or a row with other values.
fn pages_differ<'a, T: Serialize + PartialEq, K: PartialEq + fmt::Debug>(
    expected: &'a [T],
    got: &'a [T],
    key: impl Fn(&T) -> K,
    id: impl Fn(&'a T) -> &'a str,
) -> Option<String> {
    if expected.len() != got.len() {
        return Some(format!("expected {} rows, got {}", expected.len(), got.len()));
    }
    let by_id = index(expected, &id);
    let mut seen = HashMap::new();
    for (position, (ours, theirs)) in expected.iter().zip(got).enumerate() {
        let name = id(theirs);
        let (expected_key, got_key) = (key(ours), key(theirs));
        if expected_key != got_key {
            return Some(format!(
                "row {position}: expected the order key {expected_key:?}, got {got_key:?} of {name:?}"
            ));
        }
        if let Some(before) = seen.insert(name, position) {
            return Some(format!("rows {before} and {position} are both {name:?}"));
        }
        if let Some(same) = by_id.get(name).filter(|same| **same != theirs) {
            return Some(row_difference(name, same, theirs));
        }
    }
    None
}

/// The rows of `got` whose ids are not in `expected`.
fn unmatched_rows<'a, T>(expected: &'a [T], got: &'a [T], id: impl Fn(&'a T) -> &'a str) -> Vec<&'a T> {
    let known = index(expected, &id);
    got.iter().filter(|row| !known.contains_key(id(row))).collect()
}

/// The first row that is not among the known ones, or is among them with other values.
fn first_unknown<'a, T: Serialize + PartialEq>(
    rows: &[&'a T],
    known: &'a [T],
    id: impl Fn(&'a T) -> &'a str,
) -> Option<String> {
    let known = index(known, &id);
    rows.iter().find_map(|row| match known.get(id(row)) {
        None => Some(format!("{:?} is not selected, but got {}", id(row), json(row))),
        Some(same) => (same != row).then(|| row_difference(id(row), same, row)),
    })
}

fn index<'a, T, K: Eq + Hash>(rows: &'a [T], id: impl Fn(&'a T) -> K) -> HashMap<K, &'a T> {
    rows.iter().map(|row| (id(row), row)).collect()
}

fn row_difference(id: &str, expected: &impl Serialize, got: &impl Serialize) -> String {
    match difference(&json(expected), &json(got)) {
        Some(difference) => format!("{id:?} {difference}"),
        None => format!("{id:?}: expected {}, got {}", json(expected), json(got)),
    }
}

fn json(row: &impl Serialize) -> Value {
    serde_json::to_value(row).unwrap_or_default()
}
