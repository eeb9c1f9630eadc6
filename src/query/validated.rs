//! Reads as backends take them. The fields are private and only validation sets them, so a
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
    /// Which jobs.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Their order; none for any.
    pub fn order(&self) -> Option<JobOrder> {
        self.order
    }

    /// Which part of them.
    pub fn page(&self) -> Page {
        self.page
    }

    /// Those of some jobs that the query selects, on one page.
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
    /// Which jobs.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// What makes a group.
    pub fn group_by(&self) -> &GroupBy {
        &self.group_by
    }

    /// What to give of each group besides its count.
    pub fn aggregates(&self) -> Aggregates {
        self.aggregates
    }

    /// The order of the groups; none for any.
    pub fn order(&self) -> Option<GroupOrder> {
        self.order
    }

    /// Which part of them.
    pub fn page(&self) -> Page {
        self.page
    }

    /// All groups of the query, on one page.
    pub(crate) fn of_all_pages(&self) -> Self {
        Self { page: Page::WHOLE, ..self.clone() }
    }
}

/// Which jobs: those for which every predicate holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    pub(super) predicates: Vec<Predicate>,
    pub(super) active_job_sets: bool,
}

impl Selection {
    /// The conditions, all of which must hold. Conditions on the state have been
    /// made one, so there is at most one of them.
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

/// A condition on a job. A null, and an annotation that is not there, never matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Predicate {
    /// On a text.
    Text(TextField, TextTest),
    /// The state is in the set, which may be empty.
    State(StateSet),
    /// On an integer.
    Integer(IntegerField, IntegerTest),
    /// On an instant, to the microsecond.
    Time(TimeField, Comparison, Timestamp),
    /// On the annotation of a key.
    Annotation(String, AnnotationTest),
}

/// A condition on a text; comparison is byte-wise and no character is special.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextTest {
    /// The same text.
    Exact(String),
    /// One of these texts; of none, none matches.
    AnyOf(Vec<String>),
    /// A text that begins so.
    StartsWith(String),
    /// A text that holds this.
    Contains(String),
}

/// A condition on an annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnnotationTest {
    /// It is there.
    Exists,
    /// It is there, and its value passes.
    Value(TextTest),
}

/// A condition on an integer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntegerTest {
    /// Compared with one value.
    Compare(Comparison, i64),
    /// One of these; of none, none matches.
    AnyOf(Vec<i64>),
}

impl IntegerTest {
    /// Whether an integer passes.
    pub fn holds(&self, column: i64) -> bool {
        match self {
            Self::Compare(comparison, value) => comparison.holds(&column, value),
            Self::AnyOf(values) => values.contains(&column),
        }
    }
}

/// How the column stands to the value.
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
    /// Whether `column` stands so to `value`.
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

/// Which way an order runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The least first.
    Ascending,
    /// The greatest first.
    Descending,
}

/// The order of a page of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JobOrder {
    /// By what.
    pub key: JobOrderKey,
    /// Which way.
    pub direction: Direction,
}

/// A part of an ordered list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Page {
    pub(super) skip: u64,
    pub(super) take: Option<u64>,
}

impl Page {
    const WHOLE: Self = Self { skip: 0, take: None };

    /// How many rows to leave out at the start; at most `i64::MAX`.
    pub fn skip(self) -> u64 {
        self.skip
    }

    /// How many rows to give at most, 1 to `i64::MAX`; none for all.
    pub fn take(self) -> Option<u64> {
        self.take
    }
}

/// What makes a group.
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

/// What to give of each group besides its count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Aggregates {
    pub(super) states: Option<StateSet>,
    pub(super) submitted: bool,
    pub(super) last_transition_time: Option<TimeAggregate>,
}

impl Aggregates {
    /// The states to count, each with its zero; none if not asked for.
    pub fn states(self) -> Option<StateSet> {
        self.states
    }

    /// Whether to give the earliest submission.
    pub fn submitted(self) -> bool {
        self.submitted
    }

    /// How to aggregate the transition times, as whole seconds; none if not asked for.
    pub fn last_transition_time(self) -> Option<TimeAggregate> {
        self.last_transition_time
    }
}

/// How transition times, each cut to its whole second, become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum TimeAggregate {
    /// Their average, rounded to a whole second, half away from zero.
    #[default]
    Average,
    /// The least.
    Earliest,
    /// The greatest.
    Latest,
}

/// What groups are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupOrderKey {
    /// How many jobs.
    Count,
    /// The group's name, byte-wise; a state by its ordinal.
    Name,
    /// The earliest submission, which was asked for.
    Submitted,
    /// The transition time, which was asked for; an average before it is rounded.
    LastTransitionTime,
}

/// The order of a page of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupOrder {
    /// By what.
    pub key: GroupOrderKey,
    /// Which way.
    pub direction: Direction,
}
