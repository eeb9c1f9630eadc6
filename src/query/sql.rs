//! The columns of fields, which are the same in all backends that send SQL, except where Lookout's schema differs.

use super::field::{IntegerField, TextField, TimeField};

impl TextField {
    /// The column of the field in `job`, or in `job_run` for a field of the latest run.
    pub const fn column(self) -> &'static str {
        match self {
            Self::JobId => "job_id",
            Self::Queue => "queue",
            Self::JobSet => "job_set",
            Self::Owner => "owner",
            Self::Namespace => "namespace",
            Self::PriorityClass => "priority_class",
            Self::Cluster => "cluster",
            Self::Node => "node",
            Self::Pool => "pool",
        }
    }
}

impl IntegerField {
    /// The column of the field in `job`.
    pub const fn column(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::EphemeralStorage => "ephemeral_storage",
            Self::Gpu => "gpu",
            Self::Priority => "priority",
        }
    }
}

impl TimeField {
    /// The column of the field in `job`.
    pub const fn column(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::LastTransitionTime => "last_transition_time",
        }
    }
}
