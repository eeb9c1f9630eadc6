//! Load tests: a store under sustained ingestion, with queries beside it.

mod baseline;
pub mod record;
pub mod upstream;

pub use baseline::{Incomparable, Worse, worse};
pub use record::RunRecord;
