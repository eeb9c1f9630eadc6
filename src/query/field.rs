//! The fields of jobs that a read can filter, order and group by.

use std::fmt;

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
    /// Strings are compared by bytes, no character is a wildcard, and a null matches no predicate.
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
    #[non_exhaustive]
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
    /// let at_least_eight_cores = IntegerField::Cpu.at_least(8000);
    /// let priorities = IntegerField::Priority.any_of([1, 10, 100]);
    /// # let _ = (at_least_eight_cores, priorities);
    /// ```
    #[non_exhaustive]
    IntegerField {
        /// Requested CPU, in millicores.
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
    /// A time field; predicates compare microseconds.
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
        /// The time of submission.
        Submitted = "submitted",
        /// The time of the last state transition.
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

/// An annotation, by its key. A job without it matches no predicate on it.
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
        /// By bytes.
        JobId = "jobId",
        /// By bytes.
        Queue = "queue",
        /// By bytes.
        JobSet = "jobSet",
        /// By [ordinal](crate::JobState::ordinal).
        State = "state",
        /// By microseconds.
        Submitted = "submitted",
        /// By whole seconds, rounded down.
        LastTransitionTime = "lastTransitionTime",
    }
}

fields! {
    /// A field that jobs can be grouped by.
    #[non_exhaustive]
    GroupField {
        /// The queue.
        Queue = "queue",
        /// The job set, independent of the queue.
        JobSet = "jobSet",
        /// The owner.
        Owner = "owner",
        /// The namespace.
        Namespace = "namespace",
        /// The state; the name of a group is that of its state.
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
    /// Whether it is a field of the latest run.
    pub const fn is_of_latest_run(self) -> bool {
        matches!(self, Self::Cluster | Self::Node | Self::Pool)
    }
}
