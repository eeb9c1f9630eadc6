//! Ingestion: applies batches to the tables.
//!
//! | module | contents |
//! |---|---|
//! | `active`, `latest_runs`, `orphans` | the active job sets, references to runs, and runs without a job |
//! | `store` | the state of the writer |
//! | `jobs`, `priorities`, `runs`, `latest_run` | inserts and updates |
//! | `batch`, `historical`, `import` | batches of queries, bulk ingestion, and imports of rows |

mod active;
mod batch;
mod historical;
mod import;
mod jobs;
mod latest_run;
mod latest_runs;
mod orphans;
mod priorities;
mod runs;
mod store;
#[cfg(test)]
mod tests;

pub(super) use self::store::Store;
