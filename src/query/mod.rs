//! Reads: unvalidated requests, the table of fields, and the validated queries.

mod call;
mod field;
mod request;
mod validate;
mod validated;

pub use call::ReadCall;
pub use field::{Field, IntegerField, JobOrderKey, Match, TextField, TimeField, UnknownMatch};
pub use request::{Filter, GetJobGroupsRequest, GetJobsRequest, GroupedField, Order};
pub use validated::{
    Aggregates, AnnotationTest, Comparison, Direction, GroupBy, GroupOrder, GroupOrderKey, GroupQuery, IntegerTest,
    JobOrder, JobQuery, Page, Predicate, Selection, TextTest, TimeAggregate,
};
