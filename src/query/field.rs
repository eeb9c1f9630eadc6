//! The table of fields: the matches, the sort key and the grouping that each field supports.

use std::fmt;
use std::str::FromStr;

/// The comparison of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Match {
    /// Equality.
    Exact,
    /// Membership in a list.
    AnyOf,
    /// A prefix.
    StartsWith,
    /// A substring.
    Contains,
    /// Strictly greater, or later.
    GreaterThan,
    /// Strictly less, or earlier.
    LessThan,
    /// Greater or equal, or not earlier.
    GreaterThanOrEqualTo,
    /// Less or equal, or not later.
    LessThanOrEqualTo,
    /// Presence of an annotation; the value is ignored.
    Exists,
}

impl Match {
    /// Every match.
    pub const ALL: [Self; 9] = [
        Self::Exact,
        Self::AnyOf,
        Self::StartsWith,
        Self::Contains,
        Self::GreaterThan,
        Self::LessThan,
        Self::GreaterThanOrEqualTo,
        Self::LessThanOrEqualTo,
        Self::Exists,
    ];

    /// The name of the match in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::AnyOf => "anyOf",
            Self::StartsWith => "startsWith",
            Self::Contains => "contains",
            Self::GreaterThan => "greaterThan",
            Self::LessThan => "lessThan",
            Self::GreaterThanOrEqualTo => "greaterThanOrEqualTo",
            Self::LessThanOrEqualTo => "lessThanOrEqualTo",
            Self::Exists => "exists",
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownMatch;

impl FromStr for Match {
    type Err = UnknownMatch;

    fn from_str(name: &str) -> Result<Self, UnknownMatch> {
        Self::ALL.into_iter().find(|matcher| matcher.name() == name).ok_or(UnknownMatch)
    }
}

/// A field that holds text: seven of the job, three of its latest run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextField {
    /// The job's id.
    JobId,
    /// The queue.
    Queue,
    /// The job set.
    JobSet,
    /// The owner.
    Owner,
    /// The namespace, which may be null.
    Namespace,
    /// The priority class, which may be null.
    PriorityClass,
    /// The latest run's cluster; null without one.
    Cluster,
    /// The latest run's node, which may be null.
    Node,
    /// The latest run's pool, which may be null.
    Pool,
}

impl TextField {
    /// Whether the field is one of the job's latest run.
    pub const fn is_of_latest_run(self) -> bool {
        matches!(self, Self::Cluster | Self::Node | Self::Pool)
    }
}

/// A field that holds an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IntegerField {
    /// Requested cores.
    Cpu,
    /// Requested memory, in bytes.
    Memory,
    /// Requested ephemeral storage, in bytes.
    EphemeralStorage,
    /// Requested GPUs.
    Gpu,
    /// The priority.
    Priority,
}

/// A field that holds an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeField {
    /// When the job was submitted.
    Submitted,
    /// When the job came into its state.
    LastTransitionTime,
}

/// A field of the job or its latest run, by type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// A text.
    Text(TextField),
    /// The state.
    State,
    /// An integer.
    Integer(IntegerField),
    /// An instant.
    Time(TimeField),
}

/// A sort key of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobOrderKey {
    /// Byte-wise.
    JobId,
    /// Byte-wise.
    Queue,
    /// Byte-wise.
    JobSet,
    /// By ordinal.
    State,
    /// To the microsecond.
    Submitted,
    /// By the whole second, rounded toward the past.
    LastTransitionTime,
}

/// A row of the table.
pub(super) struct FieldRule {
    /// The field's name in JSON.
    pub name: &'static str,
    /// The field.
    pub field: Field,
    /// The sort key of the field, if jobs can be ordered by it.
    pub order: Option<JobOrderKey>,
    /// Whether jobs can be grouped by it.
    pub groups: bool,
}

const TEXT_MATCHES: &[Match] = &[Match::Exact, Match::AnyOf, Match::StartsWith, Match::Contains];
const STATE_MATCHES: &[Match] = &[Match::Exact, Match::AnyOf];
const TIME_MATCHES: &[Match] =
    &[Match::Exact, Match::GreaterThan, Match::LessThan, Match::GreaterThanOrEqualTo, Match::LessThanOrEqualTo];
const INTEGER_MATCHES: &[Match] = &[
    Match::Exact,
    Match::AnyOf,
    Match::GreaterThan,
    Match::LessThan,
    Match::GreaterThanOrEqualTo,
    Match::LessThanOrEqualTo,
];
/// The matches of any annotation.
pub(super) const ANNOTATION_MATCHES: &[Match] =
    &[Match::Exact, Match::AnyOf, Match::StartsWith, Match::Contains, Match::Exists];

impl Field {
    /// The matches that the field supports.
    pub(super) const fn matches(self) -> &'static [Match] {
        match self {
            Self::Text(_) => TEXT_MATCHES,
            Self::State => STATE_MATCHES,
            Self::Integer(_) => INTEGER_MATCHES,
            Self::Time(_) => TIME_MATCHES,
        }
    }
}

const fn rule(name: &'static str, field: Field, order: Option<JobOrderKey>, groups: bool) -> FieldRule {
    FieldRule { name, field, order, groups }
}

const FIELDS: &[FieldRule] = &[
    rule("jobId", Field::Text(TextField::JobId), Some(JobOrderKey::JobId), false),
    rule("queue", Field::Text(TextField::Queue), Some(JobOrderKey::Queue), true),
    rule("jobSet", Field::Text(TextField::JobSet), Some(JobOrderKey::JobSet), true),
    rule("owner", Field::Text(TextField::Owner), None, true),
    rule("namespace", Field::Text(TextField::Namespace), None, true),
    rule("priorityClass", Field::Text(TextField::PriorityClass), None, false),
    rule("cluster", Field::Text(TextField::Cluster), None, true),
    rule("node", Field::Text(TextField::Node), None, true),
    rule("pool", Field::Text(TextField::Pool), None, true),
    rule("state", Field::State, Some(JobOrderKey::State), true),
    rule("cpu", Field::Integer(IntegerField::Cpu), None, false),
    rule("memory", Field::Integer(IntegerField::Memory), None, false),
    rule("ephemeralStorage", Field::Integer(IntegerField::EphemeralStorage), None, false),
    rule("gpu", Field::Integer(IntegerField::Gpu), None, false),
    rule("priority", Field::Integer(IntegerField::Priority), None, false),
    rule("submitted", Field::Time(TimeField::Submitted), Some(JobOrderKey::Submitted), false),
    rule(
        "lastTransitionTime",
        Field::Time(TimeField::LastTransitionTime),
        Some(JobOrderKey::LastTransitionTime),
        false,
    ),
];

/// The row of a field by its name in JSON.
pub(super) fn find(name: &str) -> Option<&'static FieldRule> {
    FIELDS.iter().find(|rule| rule.name == name)
}
