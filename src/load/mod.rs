//! Load tests: a store under sustained ingestion, with queries beside it.

pub mod record;
pub mod upstream;

pub use record::RunRecord;
