//! The queries of Lookout's users, with values of the workload's own jobs, so that their results
//! are not empty.

mod build;
mod kind;

pub use kind::{Aggregate, Grouping, PageKind, QueryKind, Record};
