//! The kinds of queries, and their names.

use std::fmt;

use crate::query::{Comparison, Direction, GroupField, JobOrderKey};
use crate::scenario::Match;
use crate::workload::ANNOTATION_KEYS;

/// The group keys: every field, an annotation of low cardinality and one of high.
const GROUPINGS: [Grouping; 10] = [
    Grouping::Field(GroupField::Queue),
    Grouping::Field(GroupField::JobSet),
    Grouping::Field(GroupField::Owner),
    Grouping::Field(GroupField::Namespace),
    Grouping::Field(GroupField::State),
    Grouping::Field(GroupField::Cluster),
    Grouping::Field(GroupField::Node),
    Grouping::Field(GroupField::Pool),
    Grouping::Annotation(ANNOTATION_KEYS[1]),
    Grouping::Annotation(ANNOTATION_KEYS[3]),
];
/// The aggregates besides the count.
const EVERY_AGGREGATE: &[Aggregate] = &[Aggregate::States, Aggregate::Submitted, Aggregate::LastTransitionTime];
/// Every combination of them.
const AGGREGATES: [&[Aggregate]; 8] = [
    &[],
    &[Aggregate::States],
    &[Aggregate::Submitted],
    &[Aggregate::LastTransitionTime],
    &[Aggregate::States, Aggregate::Submitted],
    &[Aggregate::States, Aggregate::LastTransitionTime],
    &[Aggregate::Submitted, Aggregate::LastTransitionTime],
    EVERY_AGGREGATE,
];

/// Every kind of record.
const RECORDS: [Record; 4] = [Record::Spec, Record::Error, Record::RunError, Record::RunDebugMessage];

/// A kind of query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueryKind {
    /// A page of jobs.
    Page(PageKind),
    /// The groups of all jobs with the highest counts.
    Groups {
        /// The group key.
        by: Grouping,
        /// The aggregates besides the count.
        aggregates: &'static [Aggregate],
    },
    /// A single record.
    Record(Record),
}

/// A kind of page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PageKind {
    /// The first page of all jobs in an order.
    Ordered {
        /// The sort key.
        key: JobOrderKey,
        /// The sort direction.
        direction: Direction,
    },
    /// The newest jobs with the values of the first annotations of a job, by their number.
    Annotations(usize),
    /// The newest running jobs of a queue.
    QueueRunning,
    /// The jobs of a job set that wait to run.
    JobSetWaiting,
    /// The newest jobs of a queue, with a comparison on the priority.
    Priority(Comparison),
    /// The jobs that were submitted in a window of time and failed, latest failure first.
    FailedWindow,
    /// The newest jobs on a node.
    Node,
    /// The jobs of active job sets, last transition first.
    ActiveJobSets,
    /// The newest jobs whose job set contains a string.
    Contains,
    /// The newest jobs whose job set starts with a string.
    StartsWith,
    /// A page at an offset of half of all jobs.
    DeepOffset,
}

/// A group key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grouping {
    /// A field of the job or of its latest run.
    Field(GroupField),
    /// An annotation.
    Annotation(&'static str),
}

/// An aggregate of groups besides the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// The jobs in each state.
    States,
    /// The earliest submission.
    Submitted,
    /// The average of the last transition times.
    LastTransitionTime,
}

/// A record that is read by an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Record {
    /// A job's spec.
    Spec,
    /// A job's error.
    Error,
    /// A run's error.
    RunError,
    /// A run's debug message.
    RunDebugMessage,
}

impl QueryKind {
    /// All kinds, with groups for each combination of aggregates.
    pub fn all() -> Vec<Self> {
        let groups = GROUPINGS
            .into_iter()
            .flat_map(|by| AGGREGATES.into_iter().map(move |aggregates| Self::Groups { by, aggregates }));
        PageKind::all().map(Self::Page).chain(groups).chain(RECORDS.map(Self::Record)).collect()
    }

    /// All kinds, with groups only without aggregates and with all of them.
    pub fn essential() -> Vec<Self> {
        let few_or_all = |kind: &Self| match kind {
            Self::Groups { aggregates, .. } => aggregates.is_empty() || aggregates.len() == EVERY_AGGREGATE.len(),
            _ => true,
        };
        Self::all().into_iter().filter(few_or_all).collect()
    }
}

impl PageKind {
    fn all() -> impl Iterator<Item = Self> {
        let ordered = JobOrderKey::ALL
            .into_iter()
            .flat_map(|key| Direction::ALL.map(|direction| Self::Ordered { key, direction }));
        ordered
            .chain((1..=ANNOTATION_KEYS.len()).map(Self::Annotations))
            .chain([Self::QueueRunning, Self::JobSetWaiting])
            .chain(Comparison::ALL.map(Self::Priority))
            .chain([Self::FailedWindow, Self::Node, Self::ActiveJobSets])
            .chain([Self::Contains, Self::StartsWith, Self::DeepOffset])
    }
}

/// The kind's name in tables and reports.
impl fmt::Display for QueryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Page(kind) => write!(f, "page {kind}"),
            Self::Groups { by, aggregates: [] } => write!(f, "groups by {by}"),
            Self::Groups { by, aggregates } if aggregates.len() == EVERY_AGGREGATE.len() => {
                write!(f, "groups by {by}: every aggregate")
            }
            Self::Groups { by, aggregates } => {
                let names: Vec<_> = aggregates.iter().map(|aggregate| aggregate.name()).collect();
                write!(f, "groups by {by}: {}", names.join(", "))
            }
            Self::Record(record) => record.fmt(f),
        }
    }
}

impl fmt::Display for PageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ordered { key, direction } => write!(f, "by {key} {direction}"),
            Self::Annotations(1) => f.write_str("of 1 annotation"),
            Self::Annotations(count) => write!(f, "of {count} annotations"),
            Self::QueueRunning => f.write_str("of queue, RUNNING"),
            Self::JobSetWaiting => f.write_str("of job set, waiting"),
            Self::Priority(comparison) => write!(f, "of queue, priority {}", Match::from(*comparison)),
            Self::FailedWindow => f.write_str("of FAILED, submitted in 6 h"),
            Self::Node => f.write_str("of cluster, node"),
            Self::ActiveJobSets => f.write_str("of active job sets"),
            Self::Contains => f.write_str("of job set contains"),
            Self::StartsWith => f.write_str("of job set startsWith"),
            Self::DeepOffset => f.write_str("after half of all"),
        }
    }
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(field) => field.fmt(f),
            Self::Annotation(key) => write!(f, "annotation {key}"),
        }
    }
}

impl Aggregate {
    const fn name(self) -> &'static str {
        match self {
            Self::States => "state",
            Self::Submitted => "submitted",
            Self::LastTransitionTime => "lastTransitionTime",
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spec => "job spec",
            Self::Error => "job error",
            Self::RunError => "run error",
            Self::RunDebugMessage => "run debug message",
        })
    }
}
