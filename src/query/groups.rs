//! The query of [`get_job_groups`](crate::Database::get_job_groups).

use super::field::{GroupField, TextField};
use super::page::{Direction, Page};
use super::predicate::{Predicate, Selection};
use crate::model::StateSet;

/// A query for groups of jobs: a selection, a group key, aggregates, a sort order, offset and limit.
///
/// Every query that can be built is valid.
///
/// ```
/// use broadside::query::{Direction, GroupField, GroupOrderKey, GroupQuery, TextField, TimeAggregate};
///
/// // The ten job sets of a queue with the most recent transition, with their jobs by state.
/// let query = GroupQuery::by(GroupField::JobSet)
///     .filter(TextField::Queue.equals("risk"))
///     .count_states()
///     .last_transition_time(TimeAggregate::Latest)
///     .order_by(GroupOrderKey::LastTransitionTime, Direction::Descending)
///     .limit(10);
/// assert_eq!(query.aggregates().last_transition_time(), Some(TimeAggregate::Latest));
///
/// let by_team = GroupQuery::by_annotation("team");
/// # let _ = by_team;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct GroupQuery {
    selection: Selection,
    group_by: GroupBy,
    count_states: bool,
    submitted: bool,
    last_transition_time: Option<TimeAggregate>,
    order: Option<GroupOrder>,
    page: Page,
}

impl GroupQuery {
    /// Creates a query for the groups of all jobs by a field, in any order.
    pub fn by(field: GroupField) -> Self {
        Self::by_key(match field {
            GroupField::Queue => GroupBy::Text(TextField::Queue),
            GroupField::JobSet => GroupBy::Text(TextField::JobSet),
            GroupField::Owner => GroupBy::Text(TextField::Owner),
            GroupField::Namespace => GroupBy::Text(TextField::Namespace),
            GroupField::State => GroupBy::State,
            GroupField::Cluster => GroupBy::Text(TextField::Cluster),
            GroupField::Node => GroupBy::Text(TextField::Node),
            GroupField::Pool => GroupBy::Text(TextField::Pool),
        })
    }

    /// Creates a query for the groups of all jobs by the value of an annotation, in any order. Jobs without the
    /// annotation are in no group.
    pub fn by_annotation(key: impl Into<String>) -> Self {
        Self::by_key(GroupBy::Annotation(key.into()))
    }

    fn by_key(group_by: GroupBy) -> Self {
        Self {
            selection: Selection::default(),
            group_by,
            count_states: false,
            submitted: false,
            last_transition_time: None,
            order: None,
            page: Page::default(),
        }
    }

    /// Adds a predicate. Predicates are combined by AND.
    pub fn filter(mut self, predicate: Predicate) -> Self {
        self.selection.add(predicate);
        self
    }

    /// Adds predicates. Predicates are combined by AND.
    pub fn filters(self, predicates: impl IntoIterator<Item = Predicate>) -> Self {
        predicates.into_iter().fold(self, Self::filter)
    }

    /// Selects only jobs whose (queue, job set) contains an active job.
    pub fn in_active_job_sets(mut self) -> Self {
        self.selection.require_active_job_sets();
        self
    }

    /// Adds the number of jobs in each state that the predicates admit, including zeros.
    pub fn count_states(mut self) -> Self {
        self.count_states = true;
        self
    }

    /// Adds the earliest submission time.
    pub fn submitted(mut self) -> Self {
        self.submitted = true;
        self
    }

    /// Adds an aggregate of the transition times.
    pub fn last_transition_time(mut self, aggregate: TimeAggregate) -> Self {
        self.last_transition_time = Some(aggregate);
        self
    }

    /// Sets the sort order of the groups. Ties are ordered by name.
    ///
    /// An order by an aggregate adds the aggregate. For transition times this is the average, unless
    /// [`last_transition_time`](Self::last_transition_time) sets another one.
    pub fn order_by(mut self, key: GroupOrderKey, direction: Direction) -> Self {
        match key {
            GroupOrderKey::Submitted => self.submitted = true,
            GroupOrderKey::LastTransitionTime => {
                self.last_transition_time.get_or_insert_default();
            }
            GroupOrderKey::Count | GroupOrderKey::Name => {}
        }
        self.order = Some(GroupOrder { key, direction });
        self
    }

    /// Sets the offset: the number of groups to skip.
    pub fn offset(mut self, groups: u64) -> Self {
        self.page.set_offset(groups);
        self
    }

    /// Sets the limit: the maximum number of groups to return. 0 means no limit, as in Lookout.
    pub fn limit(mut self, groups: u64) -> Self {
        self.page.set_limit(groups);
        self
    }

    /// The selection of jobs.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// The group key.
    pub fn group_by(&self) -> &GroupBy {
        &self.group_by
    }

    /// The aggregates of each group besides its count.
    pub fn aggregates(&self) -> Aggregates {
        Aggregates {
            states: self.count_states.then(|| self.selection.states()),
            submitted: self.submitted,
            last_transition_time: self.last_transition_time,
        }
    }

    /// The sort order of the groups; `None` for any order.
    pub fn order(&self) -> Option<GroupOrder> {
        self.order
    }

    /// The offset and limit.
    pub fn page(&self) -> Page {
        self.page
    }
}

/// The group key. The text field is one of those of [`GroupField`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupBy {
    /// A text field: queue, job set, owner, namespace, or the cluster, node or pool of the latest run. The group of
    /// nulls is named "".
    Text(TextField),
    /// The state; the name of a group is that of its state.
    State,
    /// An annotation, by its key; jobs without it are in no group.
    Annotation(String),
}

impl GroupBy {
    /// Whether the groups are by a field of the latest run.
    pub fn uses_latest_run(&self) -> bool {
        matches!(self, Self::Text(field) if field.is_of_latest_run())
    }
}

/// The aggregates of a group besides its count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Aggregates {
    states: Option<StateSet>,
    submitted: bool,
    last_transition_time: Option<TimeAggregate>,
}

impl Aggregates {
    /// The states to count, including zeros; `None` if not requested.
    pub fn states(self) -> Option<StateSet> {
        self.states
    }

    /// Whether the earliest submission time is requested.
    pub fn submitted(self) -> bool {
        self.submitted
    }

    /// The aggregate function of the transition times; `None` if not requested.
    pub fn last_transition_time(self) -> Option<TimeAggregate> {
        self.last_transition_time
    }
}

/// An aggregate function of transition times, which are rounded down to whole seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum TimeAggregate {
    /// The average, rounded half away from zero to a whole second.
    #[default]
    Average,
    /// The minimum.
    Earliest,
    /// The maximum.
    Latest,
}

/// A sort key of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupOrderKey {
    /// The count of jobs.
    Count,
    /// The name of the group, by bytes; states by ordinal.
    Name,
    /// The aggregate of the submission times.
    Submitted,
    /// The aggregate of the transition times; the average before rounding.
    LastTransitionTime,
}

/// The sort order of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupOrder {
    /// The sort key.
    pub key: GroupOrderKey,
    /// The sort direction.
    pub direction: Direction,
}
