//! The fields of jobs that a read can filter, order and group by, and the predicates of each.

use std::fmt;

use super::predicate::{AnnotationTest, Comparison, IntegerTest, Predicate, TextTest};
use crate::model::{JobState, StateSet};
use crate::time::Timestamp;

/// Declares an enum of fields, each with its name in Lookout's REST API and in scenarios.
macro_rules! fields {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $type {
            /// Every field of this type.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name in Lookout's REST API and in scenarios.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

fields! {
    /// A text field: six of the job, three of its latest run.
    ///
    /// Comparison is byte-wise, no character is a wildcard, and a null matches no predicate.
    ///
    /// ```
    /// use broadside::query::TextField;
    ///
    /// let predicates = [
    ///     TextField::Queue.equals("risk"),
    ///     TextField::Owner.any_of(["ann", "bob"]),
    ///     TextField::JobSet.starts_with("nightly-"),
    ///     TextField::Node.contains("gpu"),
    /// ];
    /// assert_eq!(predicates.len(), 4);
    /// ```
    TextField {
        /// The job's id.
        JobId = "jobId",
        /// The queue.
        Queue = "queue",
        /// The job set.
        JobSet = "jobSet",
        /// The owner.
        Owner = "owner",
        /// The namespace, which may be null.
        Namespace = "namespace",
        /// The priority class, which may be null.
        PriorityClass = "priorityClass",
        /// The latest run's cluster; null without a run.
        Cluster = "cluster",
        /// The latest run's node, which may be null.
        Node = "node",
        /// The latest run's pool, which may be null.
        Pool = "pool",
    }
}

fields! {
    /// An integer field.
    ///
    /// ```
    /// use broadside::query::IntegerField;
    ///
    /// let at_least_eight_cores = IntegerField::Cpu.at_least(8);
    /// let priorities = IntegerField::Priority.any_of([1, 10, 100]);
    /// # let _ = (at_least_eight_cores, priorities);
    /// ```
    IntegerField {
        /// Requested cores.
        Cpu = "cpu",
        /// Requested memory, in bytes.
        Memory = "memory",
        /// Requested ephemeral storage, in bytes.
        EphemeralStorage = "ephemeralStorage",
        /// Requested GPUs.
        Gpu = "gpu",
        /// The priority.
        Priority = "priority",
    }
}

fields! {
    /// A field that holds an instant; predicates compare it to the microsecond.
    ///
    /// ```
    /// use broadside::Timestamp;
    /// use broadside::query::TimeField;
    ///
    /// let day = Timestamp::from_seconds(1_767_225_600);
    /// let submitted_on_that_day =
    ///     [TimeField::Submitted.at_least(day), TimeField::Submitted.less_than(day.plus_seconds(86_400))];
    /// # let _ = submitted_on_that_day;
    /// ```
    TimeField {
        /// The submission.
        Submitted = "submitted",
        /// The last state transition.
        LastTransitionTime = "lastTransitionTime",
    }
}

/// The state of a job.
///
/// ```
/// use broadside::JobState;
/// use broadside::query::StateField;
///
/// let waiting = StateField.any_of([JobState::Queued, JobState::Leased, JobState::Pending]);
/// # let _ = waiting;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateField;

/// The annotation of a key. A job without it matches no predicate on it.
///
/// ```
/// use broadside::query::Annotation;
///
/// let predicates = [Annotation("team").starts_with("f"), Annotation("reviewed").exists()];
/// # let _ = predicates;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Annotation<K>(pub K);

fields! {
    /// A sort key of jobs.
    JobOrderKey {
        /// Byte-wise.
        JobId = "jobId",
        /// Byte-wise.
        Queue = "queue",
        /// Byte-wise.
        JobSet = "jobSet",
        /// By [ordinal](JobState::ordinal).
        State = "state",
        /// To the microsecond.
        Submitted = "submitted",
        /// By the whole second, rounded toward the past.
        LastTransitionTime = "lastTransitionTime",
    }
}

fields! {
    /// A field that jobs can be grouped by.
    GroupField {
        /// The queue.
        Queue = "queue",
        /// The job set, whatever its queue.
        JobSet = "jobSet",
        /// The owner.
        Owner = "owner",
        /// The namespace.
        Namespace = "namespace",
        /// The state; the group has its name.
        State = "state",
        /// The latest run's cluster.
        Cluster = "cluster",
        /// The latest run's node.
        Node = "node",
        /// The latest run's pool.
        Pool = "pool",
    }
}

impl TextField {
    /// Whether the field is one of the job's latest run.
    pub const fn is_of_latest_run(self) -> bool {
        matches!(self, Self::Cluster | Self::Node | Self::Pool)
    }

    /// The text is `value`.
    pub fn equals(self, value: impl Into<String>) -> Predicate {
        Predicate::Text(self, TextTest::Exact(value.into()))
    }

    /// The text is one of `values`; without values no job matches.
    pub fn any_of<V: Into<String>>(self, values: impl IntoIterator<Item = V>) -> Predicate {
        Predicate::Text(self, TextTest::AnyOf(values.into_iter().map(Into::into).collect()))
    }

    /// The text begins with `prefix`.
    pub fn starts_with(self, prefix: impl Into<String>) -> Predicate {
        Predicate::Text(self, TextTest::StartsWith(prefix.into()))
    }

    /// The text contains `part`.
    pub fn contains(self, part: impl Into<String>) -> Predicate {
        Predicate::Text(self, TextTest::Contains(part.into()))
    }
}

impl StateField {
    /// The state is `state`.
    pub fn equals(self, state: JobState) -> Predicate {
        Predicate::State(StateSet::EMPTY.with(state))
    }

    /// The state is one of `states`; without states no job matches.
    pub fn any_of(self, states: impl IntoIterator<Item = JobState>) -> Predicate {
        Predicate::State(states.into_iter().collect())
    }
}

impl IntegerField {
    /// The integer is `value`.
    pub fn equals(self, value: i64) -> Predicate {
        self.compare(Comparison::Equal, value)
    }

    /// The integer is one of `values`; without values no job matches.
    pub fn any_of(self, values: impl IntoIterator<Item = i64>) -> Predicate {
        Predicate::Integer(self, IntegerTest::AnyOf(values.into_iter().collect()))
    }

    /// The integer is greater than `value`.
    pub fn greater_than(self, value: i64) -> Predicate {
        self.compare(Comparison::Greater, value)
    }

    /// The integer is less than `value`.
    pub fn less_than(self, value: i64) -> Predicate {
        self.compare(Comparison::Less, value)
    }

    /// The integer is greater than or equal to `value`.
    pub fn at_least(self, value: i64) -> Predicate {
        self.compare(Comparison::GreaterOrEqual, value)
    }

    /// The integer is less than or equal to `value`.
    pub fn at_most(self, value: i64) -> Predicate {
        self.compare(Comparison::LessOrEqual, value)
    }

    /// A comparison with `value`.
    pub fn compare(self, comparison: Comparison, value: i64) -> Predicate {
        Predicate::Integer(self, IntegerTest::Compare(comparison, value))
    }
}

impl TimeField {
    /// The instant is `time`.
    pub fn equals(self, time: Timestamp) -> Predicate {
        self.compare(Comparison::Equal, time)
    }

    /// The instant is later than `time`.
    pub fn greater_than(self, time: Timestamp) -> Predicate {
        self.compare(Comparison::Greater, time)
    }

    /// The instant is earlier than `time`.
    pub fn less_than(self, time: Timestamp) -> Predicate {
        self.compare(Comparison::Less, time)
    }

    /// The instant is `time` or later.
    pub fn at_least(self, time: Timestamp) -> Predicate {
        self.compare(Comparison::GreaterOrEqual, time)
    }

    /// The instant is `time` or earlier.
    pub fn at_most(self, time: Timestamp) -> Predicate {
        self.compare(Comparison::LessOrEqual, time)
    }

    /// A comparison with `time`.
    pub fn compare(self, comparison: Comparison, time: Timestamp) -> Predicate {
        Predicate::Time(self, comparison, time)
    }
}

impl<K: Into<String>> Annotation<K> {
    /// The job has the annotation.
    pub fn exists(self) -> Predicate {
        Predicate::Annotation(self.0.into(), AnnotationTest::Exists)
    }

    /// The value is `value`.
    pub fn equals(self, value: impl Into<String>) -> Predicate {
        self.value(TextTest::Exact(value.into()))
    }

    /// The value is one of `values`; without values no job matches.
    pub fn any_of<V: Into<String>>(self, values: impl IntoIterator<Item = V>) -> Predicate {
        self.value(TextTest::AnyOf(values.into_iter().map(Into::into).collect()))
    }

    /// The value begins with `prefix`.
    pub fn starts_with(self, prefix: impl Into<String>) -> Predicate {
        self.value(TextTest::StartsWith(prefix.into()))
    }

    /// The value contains `part`.
    pub fn contains(self, part: impl Into<String>) -> Predicate {
        self.value(TextTest::Contains(part.into()))
    }

    fn value(self, test: TextTest) -> Predicate {
        Predicate::Annotation(self.0.into(), AnnotationTest::Value(test))
    }
}
