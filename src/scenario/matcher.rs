//! The match operators of filters.

use std::fmt;
use std::str::FromStr;

use crate::query::Comparison;

/// The match operator of a [`Filter`](super::Filter).
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
    /// Greater, or later.
    GreaterThan,
    /// Less, or earlier.
    LessThan,
    /// Greater or equal, or not earlier.
    GreaterThanOrEqualTo,
    /// Less or equal, or not later.
    LessThanOrEqualTo,
    /// Existence of an annotation; the value is ignored.
    Exists,
}

impl Match {
    /// All match operators.
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

    /// The name of the operator in JSON.
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

    /// The comparison operator, if it is one.
    pub const fn comparison(self) -> Option<Comparison> {
        match self {
            Self::Exact => Some(Comparison::Equal),
            Self::GreaterThan => Some(Comparison::Greater),
            Self::LessThan => Some(Comparison::Less),
            Self::GreaterThanOrEqualTo => Some(Comparison::GreaterOrEqual),
            Self::LessThanOrEqualTo => Some(Comparison::LessOrEqual),
            Self::AnyOf | Self::StartsWith | Self::Contains | Self::Exists => None,
        }
    }
}

impl From<Comparison> for Match {
    fn from(comparison: Comparison) -> Self {
        match comparison {
            Comparison::Equal => Self::Exact,
            Comparison::Greater => Self::GreaterThan,
            Comparison::Less => Self::LessThan,
            Comparison::GreaterOrEqual => Self::GreaterThanOrEqualTo,
            Comparison::LessOrEqual => Self::LessThanOrEqualTo,
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The error of parsing the name of an unknown match operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown match")]
pub struct UnknownMatch;

impl FromStr for Match {
    type Err = UnknownMatch;

    fn from_str(name: &str) -> Result<Self, UnknownMatch> {
        Self::ALL.into_iter().find(|matcher| matcher.name() == name).ok_or(UnknownMatch)
    }
}
