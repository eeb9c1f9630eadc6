//! Pages of groups.

use super::selection::Conditions;
use super::{Reads, page};
use crate::clickhouse::statement::{Statement, Values};
use crate::query::{Aggregates, GroupBy, GroupOrder, GroupOrderKey, GroupQuery, TimeAggregate};

/// A page of groups, in the columns of [`GroupRow`](crate::clickhouse::row::GroupRow).
pub(in crate::clickhouse) fn groups(reads: Reads, query: &GroupQuery) -> Statement {
    let mut values = Values::default();
    let (name, grouped) = group_key(query.group_by(), &mut values);
    let aggregates = aggregates(query.aggregates());
    let source = source(reads, query.group_by());
    let conditions = conditions(reads, query, &mut values);
    let order = query.order().map(|order| group_order(order, &grouped, query.aggregates())).unwrap_or_default();
    let page = page(query.page(), &mut values);
    let sql = format!(
        "SELECT {name} AS name, count() AS count, {aggregates} FROM {source}{conditions} GROUP BY {grouped}{order}{page}"
    );
    Statement { sql, values }
}

/// The jobs, joined with their latest runs if these are grouped by.
///
/// The latest run is joined by the read and not stored by the write, because it may belong to another job, and may be
/// inserted after the job's update.
fn source(Reads { merged, global }: Reads, group_by: &GroupBy) -> String {
    match group_by {
        GroupBy::Text(field) if field.is_of_latest_run() => format!(
            "job{merged} {global}ANY LEFT JOIN (SELECT run_id, {} FROM job_run{merged}) AS run ON run.run_id = job.latest_run_id",
            field.column()
        ),
        _ => format!("job{merged}"),
    }
}

fn conditions(reads: Reads, query: &GroupQuery, values: &mut Values) -> String {
    let mut conditions = Conditions::of(reads, query.selection(), values);
    if let GroupBy::Annotation(key) = query.group_by() {
        conditions.require_annotation(key, values);
    }
    conditions.sql()
}

/// The expression of the group's name, and the grouping expression.
fn group_key(group_by: &GroupBy, values: &mut Values) -> (String, String) {
    match group_by {
        GroupBy::Text(field) => (field.column().to_owned(), "name".to_owned()),
        // An Enum8 is sorted by its ordinals, a string of them is not.
        GroupBy::State => ("toString(toInt8(state))".to_owned(), "state".to_owned()),
        GroupBy::Annotation(key) => (format!("annotations[{}]", values.text(key)), "name".to_owned()),
    }
}

fn aggregates(aggregates: Aggregates) -> String {
    let states = match aggregates.states() {
        Some(states) if !states.is_empty() => {
            let counts: Vec<_> = states.iter().map(|state| format!("countIf(state = '{}')", state.name())).collect();
            format!("[{}]", counts.join(", "))
        }
        _ => "emptyArrayUInt64()".to_owned(),
    };
    let submitted = if aggregates.submitted() { "toUnixTimestamp64Micro(min(submitted))" } else { "toInt64(0)" };
    let transition = match aggregates.last_transition_time() {
        Some(TimeAggregate::Average) => "sum(toInt128(last_transition_seconds))",
        Some(TimeAggregate::Earliest) => "toInt128(min(last_transition_seconds))",
        Some(TimeAggregate::Latest) => "toInt128(max(last_transition_seconds))",
        None => "toInt128(0)",
    };
    format!("{states} AS states, {submitted} AS earliest, {transition} AS transition")
}

/// The average transition time as an integer with the same order: in units of 2^-64 seconds since 1900, so that it is
/// not negative. Different averages of fewer than 2^32 jobs differ by more than one unit.
const EXACT_AVERAGE: &str = "intDiv(bitShiftLeft(toUInt256(transition + toInt128(count) * 2208988800), 64), count)";

fn group_order(order: GroupOrder, grouped: &str, aggregates: Aggregates) -> String {
    let key = match (order.key, aggregates.last_transition_time()) {
        (GroupOrderKey::Count, _) => "count",
        (GroupOrderKey::Name, _) => grouped,
        (GroupOrderKey::Submitted, _) => "earliest",
        (GroupOrderKey::LastTransitionTime, Some(TimeAggregate::Average)) => EXACT_AVERAGE,
        (GroupOrderKey::LastTransitionTime, _) => "transition",
    };
    let ties = if order.key == GroupOrderKey::Name { String::new() } else { format!(", {grouped}") };
    format!(" ORDER BY {key} {}{ties}", order.direction)
}
