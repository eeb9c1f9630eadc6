//! Pages of groups of jobs.

use std::collections::HashMap;

use broadside::model::{GroupAggregates, JobState};
use broadside::query::{GroupBy, GroupOrderKey, TimeAggregate};
use broadside::{GroupQuery, Job, JobGroup, SmolStr, Timestamp};

use crate::jobs::{page, sort_by};
use crate::tables::Tables;

/// A group with its transition time before rounding: a sum of seconds and the number of summands.
struct Row {
    group: JobGroup,
    transition: (i128, u64),
}

impl Tables {
    pub(crate) fn page_of_groups(&self, query: &GroupQuery) -> Vec<JobGroup> {
        let mut members: HashMap<SmolStr, Vec<&Job>> = HashMap::new();
        for job in self.selected(query.selection()) {
            if let Some(name) = self.group_name(query.group_by(), job) {
                members.entry(name).or_default().push(job);
            }
        }
        let mut rows: Vec<_> = members.into_iter().map(|(name, jobs)| row(query, name, &jobs)).collect();
        if let Some(order) = query.order() {
            let by_state = matches!(query.group_by(), GroupBy::State);
            // The next sort is stable, so ties remain ordered by name.
            let ordinal_of = |row: &Row| if by_state { ordinal(&row.group.name) } else { None };
            rows.sort_by(|a, b| (ordinal_of(a), &a.group.name).cmp(&(ordinal_of(b), &b.group.name)));
            sort_by(&mut rows, order.direction, |a, b| match order.key {
                GroupOrderKey::Count => a.group.count.cmp(&b.group.count),
                GroupOrderKey::Name if by_state => ordinal(&a.group.name).cmp(&ordinal(&b.group.name)),
                GroupOrderKey::Name => a.group.name.cmp(&b.group.name),
                GroupOrderKey::Submitted => a.group.aggregates.submitted.cmp(&b.group.aggregates.submitted),
                GroupOrderKey::LastTransitionTime => {
                    (a.transition.0 * i128::from(b.transition.1)).cmp(&(b.transition.0 * i128::from(a.transition.1)))
                }
            });
        }
        page(rows, query.page()).map(|row| row.group).collect()
    }

    /// The name of the group of a job; `None` if it is in none.
    fn group_name(&self, group_by: &GroupBy, job: &Job) -> Option<SmolStr> {
        match group_by {
            GroupBy::Text(field) => Some(self.text(*field, job).unwrap_or_default().into()),
            GroupBy::State => Some(job.state.name().into()),
            GroupBy::Annotation(key) => job.annotations.get(key).cloned(),
        }
    }
}

fn ordinal(state: &str) -> Option<u8> {
    state.parse::<JobState>().ok().map(JobState::ordinal)
}

fn row(query: &GroupQuery, name: SmolStr, jobs: &[&Job]) -> Row {
    let aggregates = query.aggregates();
    let count_of = |state| jobs.iter().filter(|job| job.state == state).count() as u64;
    let seconds = || jobs.iter().map(|job| i128::from(job.last_transition_time.floor_seconds()));
    let count = jobs.len() as u64;
    let transition = match aggregates.last_transition_time().unwrap_or_default() {
        TimeAggregate::Average => (seconds().sum(), count),
        TimeAggregate::Earliest => (seconds().min().unwrap_or_default(), 1),
        TimeAggregate::Latest => (seconds().max().unwrap_or_default(), 1),
    };
    let aggregates = GroupAggregates {
        state: aggregates.states().map(|states| states.iter().map(|state| (state, count_of(state))).collect()),
        submitted: jobs.iter().map(|job| job.submitted).min().filter(|_| aggregates.submitted()),
        last_transition_time: aggregates
            .last_transition_time()
            .map(|_| Timestamp::from_average_seconds(transition.0, transition.1)),
    };
    Row { group: JobGroup { name, count, aggregates }, transition }
}
