//! Reads: the queries for jobs and groups of jobs, and the fields, predicates and orders that they are built from.
//!
//! The types can express only what every store supports, so a query needs no validation. Requests in JSON, with the
//! names of fields and match operators as strings, are in [`scenario`](crate::scenario).

mod call;
mod field;
mod filter;
mod groups;
mod jobs;
mod page;
mod predicate;
mod sql;

pub use call::{ReadCall, ReadResult};
pub use field::{Annotation, GroupField, IntegerField, JobOrderKey, StateField, TextField, TimeField};
pub use groups::{Aggregates, GroupBy, GroupOrder, GroupOrderKey, GroupQuery, TimeAggregate};
pub use jobs::{JobOrder, JobQuery};
pub use page::{Direction, Page};
pub use predicate::{AnnotationTest, Comparison, IntegerTest, Predicate, Selection, TextTest};
