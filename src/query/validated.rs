//! Validated reads, the input of backends. The fields are private and only validation sets them, so a
//! backend never meets a match that a field does not have.

use std::fmt;

use super::field::{IntegerField, JobOrderKey, TextField, TimeField};
use crate::model::StateSet;
use crate::time::Timestamp;

/// A validated request for jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobQuery {
    pub(super) selection: Selection,
    pub(super) order: Option<JobOrder>,
    pub(super) page: Page,
}

impl JobQuery {
    /// The selection of jobs.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// The sort order; `None` for any order.
    pub fn order(&self) -> Option<JobOrder> {
        self.order
    }

    /// Offset and limit.
    pub fn page(&self) -> Page {
        self.page
    }

    /// The query restricted to some jobs, without offset and limit.
    pub(crate) fn among(&self, job_ids: Vec<String>) -> Self {
        let mut query = Self { page: Page::WHOLE, ..self.clone() };
        query.selection.predicates.push(Predicate::Text(TextField::JobId, TextTest::AnyOf(job_ids)));
        query
    }
}

/// A validated request for groups of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupQuery {
    pub(super) selection: Selection,
    pub(super) group_by: GroupBy,
    pub(super) aggregates: Aggregates,
    pub(super) order: Option<GroupOrder>,
    pub(super) page: Page,
}

impl GroupQuery {
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
        self.aggregates
    }

    /// The sort order of the groups; `None` for any order.
    pub fn order(&self) -> Option<GroupOrder> {
        self.order
    }

    /// Offset and limit.
    pub fn page(&self) -> Page {
        self.page
    }

    /// The query without offset and limit.
    pub(crate) fn of_all_pages(&self) -> Self {
        Self { page: Page::WHOLE, ..self.clone() }
    }
}

/// A selection of jobs: the conjunction of its predicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    pub(super) predicates: Vec<Predicate>,
    pub(super) active_job_sets: bool,
}

impl Selection {
    /// The predicates, all of which must hold. Validation intersects the predicates on the
    /// state, so there is at most one of them.
    pub fn predicates(&self) -> &[Predicate] {
        &self.predicates
    }

    /// Whether the job's (queue, job set) must hold an active job.
    pub fn active_job_sets(&self) -> bool {
        self.active_job_sets
    }

    /// The states that the predicates admit; all nine without a predicate on the state.
    pub fn states(&self) -> StateSet {
        self.predicates
            .iter()
            .find_map(|predicate| match predicate {
                Predicate::State(states) => Some(*states),
                _ => None,
            })
            .unwrap_or(StateSet::ALL)
    }

    /// Whether a predicate looks at the job's latest run.
    pub fn uses_latest_run(&self) -> bool {
        self.predicates
            .iter()
            .any(|predicate| matches!(predicate, Predicate::Text(field, _) if field.is_of_latest_run()))
    }
}

/// A predicate on a job. A null and an absent annotation never match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Predicate {
    /// On a text field.
    Text(TextField, TextTest),
    /// The state is in the set, which may be empty.
    State(StateSet),
    /// On an integer field.
    Integer(IntegerField, IntegerTest),
    /// On an instant, to the microsecond.
    Time(TimeField, Comparison, Timestamp),
    /// On the annotation of a key.
    Annotation(String, AnnotationTest),
}

/// A predicate on a text; comparison is byte-wise and no character is special.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextTest {
    /// Equality.
    Exact(String),
    /// Membership in a list; an empty list matches nothing.
    AnyOf(Vec<String>),
    /// A prefix.
    StartsWith(String),
    /// A substring.
    Contains(String),
}

/// A predicate on an annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnnotationTest {
    /// The annotation exists.
    Exists,
    /// The annotation exists and its value matches.
    Value(TextTest),
}

/// A predicate on an integer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntegerTest {
    /// A comparison with one value.
    Compare(Comparison, i64),
    /// Membership in a list; an empty list matches nothing.
    AnyOf(Vec<i64>),
}

impl IntegerTest {
    /// Whether an integer matches.
    pub fn holds(&self, column: i64) -> bool {
        match self {
            Self::Compare(comparison, value) => comparison.holds(&column, value),
            Self::AnyOf(values) => values.contains(&column),
        }
    }
}

/// A comparison operator, with the column on the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// column = value
    Equal,
    /// column > value
    Greater,
    /// column < value
    Less,
    /// column ≥ value
    GreaterOrEqual,
    /// column ≤ value
    LessOrEqual,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::GreaterOrEqual => ">=",
            Self::LessOrEqual => "<=",
        })
    }
}

impl Comparison {
    /// Evaluates the comparison.
    pub fn holds<T: Ord>(self, column: &T, value: &T) -> bool {
        match self {
            Self::Equal => column == value,
            Self::Greater => column > value,
            Self::Less => column < value,
            Self::GreaterOrEqual => column >= value,
            Self::LessOrEqual => column <= value,
        }
    }
}

/// Sort direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Smallest first.
    Ascending,
    /// Greatest first.
    Descending,
}

/// The sort order of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JobOrder {
    /// The sort key.
    pub key: JobOrderKey,
    /// The sort direction.
    pub direction: Direction,
}

/// Offset and limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Page {
    pub(super) skip: u64,
    pub(super) take: Option<u64>,
}

impl Page {
    const WHOLE: Self = Self { skip: 0, take: None };

    /// The offset: the number of rows to skip, at most `i64::MAX`.
    pub fn skip(self) -> u64 {
        self.skip
    }

    /// The limit: the greatest number of rows to return, 1 to `i64::MAX`; `None` for no limit.
    pub fn take(self) -> Option<u64> {
        self.take
    }
}

/// The key of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupBy {
    /// A text: queue, job set, owner, namespace, or the latest run's cluster, node or pool.
    /// A null is the group "".
    Text(TextField),
    /// The state, named by its name.
    State,
    /// The annotation of a key; jobs without it are in no group.
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
    pub(super) states: Option<StateSet>,
    pub(super) submitted: bool,
    pub(super) last_transition_time: Option<TimeAggregate>,
}

impl Aggregates {
    /// The states to count, zeros included; `None` if not requested.
    pub fn states(self) -> Option<StateSet> {
        self.states
    }

    /// Whether the earliest submission is requested.
    pub fn submitted(self) -> bool {
        self.submitted
    }

    /// The aggregate of the transition times in whole seconds; `None` if not requested.
    pub fn last_transition_time(self) -> Option<TimeAggregate> {
        self.last_transition_time
    }
}

/// The aggregate function of transition times, each floored to its whole second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum TimeAggregate {
    /// The average, rounded to a whole second, half away from zero.
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
    /// The group's name, byte-wise; a state by its ordinal.
    Name,
    /// The earliest submission, a requested aggregate.
    Submitted,
    /// The transition time, a requested aggregate; an average before rounding.
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
