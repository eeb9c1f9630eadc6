//! Pages of groups.

use smol_str::ToSmolStr;
use tokio_postgres::Row;

use super::selection::{LatestRun, text_column};
use crate::model::{GroupAggregates, JobGroup, JobState, StateCounts};
use crate::odd_values::OddValues;
use crate::postgres::config::Queries;
use crate::postgres::error::Attempt;
use crate::postgres::layout::Layout;
use crate::postgres::row::Reader;
use crate::postgres::statement::Statement;
use crate::query::{
    AnnotationTest, GroupBy, GroupOrder, GroupOrderKey, GroupQuery, Predicate, TextField, TimeAggregate,
};
use crate::time::Timestamp;

/// A page of groups; [`group`] reads its rows.
pub(in crate::postgres) fn groups(query: &GroupQuery, layout: Layout, queries: Queries) -> Statement {
    let mut statement = Statement::new(queries);
    let aggregates = query.aggregates();
    statement.push("SELECT ").push_name(query.group_by()).push(" AS name, count(*)");
    for state in aggregates.states().into_iter().flat_map(|states| states.iter()) {
        statement.push(", count(*) FILTER (WHERE j.state = ").bind(i16::from(state.ordinal())).push(")");
    }
    if aggregates.submitted() {
        statement.push(", min(j.submitted)");
    }
    if let Some(aggregate) = aggregates.last_transition_time() {
        statement.push(", ").push_rounded(aggregate);
    }
    let is_in_a_group = match query.group_by() {
        GroupBy::Annotation(key) => Some(Predicate::Annotation(key.clone(), AnnotationTest::Exists)),
        GroupBy::State | GroupBy::Text(_) => None,
    };
    statement.push_selection(query.selection(), is_in_a_group.as_ref(), layout, latest_run(query));
    statement.push("\nGROUP BY 1");
    if let Some(GroupOrder { key, direction }) = query.order() {
        statement.push("\nORDER BY ");
        match key {
            GroupOrderKey::Count => statement.push("count(*)"),
            GroupOrderKey::Name => statement.push("1"),
            GroupOrderKey::Submitted => statement.push("min(j.submitted)"),
            // Averages are compared before rounding.
            GroupOrderKey::LastTransitionTime => {
                statement.push(aggregated(aggregates.last_transition_time().unwrap_or_default()))
            }
        };
        statement.push_direction(direction);
        if key != GroupOrderKey::Name {
            // Ties are ordered by name.
            statement.push(", 1");
        }
    }
    statement.push_page(query.page());
    statement
}

fn latest_run(query: &GroupQuery) -> LatestRun {
    // No job without a latest run passes a filter on it.
    match (query.selection().uses_latest_run(), query.group_by().uses_latest_run()) {
        (true, _) => LatestRun::Required,
        (false, true) => LatestRun::Optional,
        (false, false) => LatestRun::Unused,
    }
}

impl Statement {
    fn push_name(&mut self, group_by: &GroupBy) -> &mut Self {
        match group_by {
            GroupBy::State => self.push("j.state"),
            GroupBy::Text(field @ (TextField::JobId | TextField::Queue | TextField::JobSet | TextField::Owner)) => {
                self.push(&text_column(*field)).push_by_bytes()
            }
            GroupBy::Text(field) => self.push("coalesce(").push(&text_column(*field)).push(", '')").push_by_bytes(),
            // No stored key contains a NUL, and the protocol cannot send one.
            GroupBy::Annotation(key) if key.contains('\0') => self.push("NULL::text"),
            GroupBy::Annotation(key) => self.push("(j.annotations ->> ").bind(key.clone()).push(")").push_by_bytes(),
        }
    }

    /// Appends the collation of an order by bytes. Values of JSON and the columns of Lookout's own tables have the
    /// database's collation.
    fn push_by_bytes(&mut self) -> &mut Self {
        if self.queries == Queries::Lookout { self } else { self.push(" COLLATE \"C\"") }
    }

    fn push_rounded(&mut self, aggregate: TimeAggregate) -> &mut Self {
        match aggregate {
            TimeAggregate::Average => self.push("round(").push(aggregated(aggregate)).push(")::bigint"),
            TimeAggregate::Earliest | TimeAggregate::Latest => self.push(aggregated(aggregate)),
        }
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
