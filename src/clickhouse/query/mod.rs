//! Pages of jobs and groups as SQL. Values are always parameters, never part of the text.
//!
//! Reads of [`Layout::Replacing`] use `FINAL`, which keeps the highest version of each row. ClickHouse applies `WHERE`
//! afterwards, but prunes granules before it by the primary key and by skip indexes, and then adds all granules that
//! may contain another version of a row (`use_skip_indexes_if_final_exact_mode`).
//!
//! `PREWHERE`, which is applied before `FINAL`, is not used. The versions of a job may differ in every column but the
//! id, also in the annotations: a late insert of a job is older than the insert that was acknowledged.

mod groups;
mod jobs;
mod selection;

use super::config::ClickHouseConfig;
use super::layout::Layout;
use super::statement::Values;
use crate::query::Page;

pub(super) use self::groups::groups;
pub(super) use self::jobs::{jobs, runs};

/// Builds the reads of a store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reads {
    /// The modifier of a table's name that selects the newest version of each row.
    merged: &'static str,
    /// The modifier of `IN` and `JOIN` with which a subquery is executed once, over all shards, and not by each shard
    /// over its own rows: the latest run and the job set of a job may be on other shards.
    global: &'static str,
}

impl Reads {
    pub(super) fn of(config: &ClickHouseConfig) -> Self {
        let merged = match config.layout {
            Layout::Replacing => " FINAL",
            // Every read applies the patches, and rows have one version.
            Layout::Patch => "",
        };
        Self { merged, global: if config.cluster.is_some() { "GLOBAL " } else { "" } }
    }
}

/// The LIMIT and OFFSET clauses.
fn page(page: Page, values: &mut Values) -> String {
    let limit = page.limit().map(|limit| format!(" LIMIT {}", values.count(limit))).unwrap_or_default();
    let offset = match page.offset() {
        0 => String::new(),
        offset => format!(" OFFSET {}", values.count(offset)),
    };
    limit + &offset
}
