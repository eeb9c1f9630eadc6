//! Pages of groups.

use smol_str::ToSmolStr;
use tokio_postgres::Row;

use super::selection::{LatestRun, from_where, text_column};
use crate::model::{GroupAggregates, JobGroup, JobState, StateCounts};
use crate::odd_values::OddValues;
use crate::postgres::config::Queries;
use crate::postgres::error::Attempt;
use crate::postgres::layout::Relations;
use crate::postgres::row::Reader;
use crate::postgres::statement::{Statement, Values};
use crate::query::{
    Aggregates, AnnotationTest, GroupBy, GroupOrder, GroupOrderKey, GroupQuery, Predicate, TextField, TimeAggregate,
};
use crate::time::Timestamp;

/// A page of groups; [`group`] reads its rows.
pub(in crate::postgres) fn groups(query: &GroupQuery, relations: &Relations, queries: Queries) -> Statement {
    let mut values = Values::default();
    let aggregates = query.aggregates();
    let name = name(query.group_by(), queries, &mut values);
    let mut columns = vec![format!("{name} AS name"), "count(*)".to_owned()];
    for state in aggregates.states().into_iter().flat_map(|states| states.iter()) {
        columns.push(format!("count(*) FILTER (WHERE j.state = {})", values.bind(i16::from(state.ordinal()))));
    }
    if aggregates.submitted() {
        columns.push("min(j.submitted)".to_owned());
    }
    if let Some(aggregate) = aggregates.last_transition_time() {
        columns.push(match aggregate {
            TimeAggregate::Average => format!("round({})::bigint", aggregated(aggregate)),
            TimeAggregate::Earliest | TimeAggregate::Latest => aggregated(aggregate).to_owned(),
        });
    }
    let is_in_a_group = match query.group_by() {
        GroupBy::Annotation(key) => Some(Predicate::Annotation(key.clone(), AnnotationTest::Exists)),
        GroupBy::State | GroupBy::Text(_) => None,
    };
    let latest_run = latest_run(query);
    let source = from_where(query.selection(), is_in_a_group.as_ref(), relations, queries, latest_run, &mut values);
    let order = query.order().map(|order| group_order(order, aggregates)).unwrap_or_default();
    let page = values.page(query.page());
    Statement { sql: format!("SELECT {}{source}\nGROUP BY 1{order}{page}", columns.join(", ")), values }
}

fn group_order(GroupOrder { key, direction }: GroupOrder, aggregates: Aggregates) -> String {
    let order = match key {
        GroupOrderKey::Count => "count(*)",
        GroupOrderKey::Name => "1",
        GroupOrderKey::Submitted => "min(j.submitted)",
        // Averages are compared before rounding.
        GroupOrderKey::LastTransitionTime => aggregated(aggregates.last_transition_time().unwrap_or_default()),
    };
    // Ties are ordered by name.
    let ties = if key == GroupOrderKey::Name { "" } else { ", 1" };
    format!("\nORDER BY {order} {direction}{ties}")
}

fn latest_run(query: &GroupQuery) -> LatestRun {
    // No job without a latest run passes a filter on it.
    match (query.selection().uses_latest_run(), query.group_by().uses_latest_run()) {
        (true, _) => LatestRun::Required,
        (false, true) => LatestRun::Optional,
        (false, false) => LatestRun::Unused,
    }
}

/// The expression of the group's name. Values of JSON and the columns of Lookout's own tables have the database's
/// collation.
fn name(group_by: &GroupBy, queries: Queries, values: &mut Values) -> String {
    let by_bytes = if queries == Queries::Lookout { "" } else { " COLLATE \"C\"" };
    match group_by {
        GroupBy::State => "j.state".to_owned(),
        GroupBy::Text(field @ (TextField::JobId | TextField::Queue | TextField::JobSet | TextField::Owner)) => {
            format!("{}{by_bytes}", text_column(*field))
        }
        GroupBy::Text(field) => format!("coalesce({}, ''){by_bytes}", text_column(*field)),
        // No stored key contains a NUL, and the protocol cannot send one.
        GroupBy::Annotation(key) if key.contains('\0') => "NULL::text".to_owned(),
        GroupBy::Annotation(key) => format!("(j.annotations ->> {}){by_bytes}", values.bind(key.clone())),
    }
}

fn aggregated(aggregate: TimeAggregate) -> &'static str {
    match aggregate {
        TimeAggregate::Average => "avg(j.last_transition_time_seconds)",
        TimeAggregate::Earliest => "min(j.last_transition_time_seconds)",
        TimeAggregate::Latest => "max(j.last_transition_time_seconds)",
    }
}

/// The group of a row of [`groups`].
pub(in crate::postgres) fn group(query: &GroupQuery, row: &Row, odd: &OddValues) -> Attempt<JobGroup> {
    let mut reader = Reader::new(row);
    let name = match query.group_by() {
        GroupBy::State => JobState::from_stored(reader.next()?).to_smolstr(),
        GroupBy::Text(_) | GroupBy::Annotation(_) => reader.next_text()?,
    };
    let count = reader.next_count()?;
    let mut aggregates = GroupAggregates::default();
    if let Some(states) = query.aggregates().states() {
        let counts: Result<StateCounts, _> =
            states.iter().map(|state| reader.next_count().map(|count| (state, count))).collect();
        aggregates.state = Some(counts?);
    }
    if query.aggregates().submitted() {
        aggregates.submitted = Some(reader.next_time()?);
    }
    if query.aggregates().last_transition_time().is_some() {
        aggregates.last_transition_time = Some(Timestamp::from_seconds(reader.next()?));
    }
    odd.settle_group(&name, &mut aggregates);
    Ok(JobGroup { name, count, aggregates })
}
