//! Load tests: a store under sustained ingestion, with queries beside it.

pub mod record;

pub use record::RunRecord;
