//! Memory usage of columns and indexes.

use serde::Serialize;

use super::query::consume_budget;
use super::storage::{Dictionary, Tables, TextCache};

/// The memory usage of a store by part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MemoryStats {
    /// The number of jobs.
    pub jobs: u64,
    /// The number of runs.
    pub runs: u64,
    /// The parts, in the order of the tables.
    pub parts: Vec<MemoryUse>,
}

/// The memory usage of one column, dictionary or index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryUse {
    /// The kind of part: a table, `dictionary`, `index`, `cache` or `allocator`. Caches are evicted in their order.
    pub of: &'static str,
    /// The name of the part.
    pub name: String,
    /// The size, in bytes.
    pub bytes: u64,
}

impl MemoryStats {
    /// The size of all parts, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// The size per job, in bytes; `None` if there are no jobs.
    pub fn bytes_per_job(&self) -> Option<u64> {
        self.total_bytes().checked_div(self.jobs)
    }
}

/// The share of the memory that the allocator needs for the rounding of sizes: 3 to 12 % on top of them.
const ALLOCATOR_SHARE: u64 = 10;

/// Adds up the sizes of parts, each of which takes microseconds to compute.
async fn sum(parts: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    for part in parts {
        consume_budget().await;
        bytes += part;
    }
    bytes
}

/// Measures a snapshot, given the size of the data that only ingestion uses. Gives way to other tasks.
pub(super) async fn measure(tables: &Tables, writer_bytes: usize) -> MemoryStats {
    let mut parts = Vec::new();
    let mut add = |of: &'static str, name: &str, bytes: usize| {
        parts.push(MemoryUse { of, name: name.to_owned(), bytes: bytes as u64 });
    };
    for (name, sizes) in tables.jobs.column_sizes() {
        add("job", &name, sum(sizes).await);
    }
    add("job", "annotations", sum(tables.jobs.annotation_sizes()).await);
    add("job", "sparse columns", sum(tables.jobs.sparse_sizes()).await);
    for (name, sizes) in tables.runs.column_sizes() {
        add("job_run", &name, sum(sizes).await);
    }
    add("job_run", "sparse columns", sum(tables.runs.sparse_sizes()).await);
    let records = &tables.records;
    add("job_run", "errors and debug messages", sum(records.run_messages.sizes()).await);
    let (runs, jobs) = (records.dangling_runs.block_sizes(|_| 0), records.missing_jobs.block_sizes(|_| 0));
    add("job_run", "dangling ids", sum(runs.chain(jobs)).await);
    add("job_spec", "all", sum(records.specs.sizes()).await);
    add("job_error", "all", sum(records.errors.sizes()).await);
    for (name, dictionary) in tables.dictionaries.by_column() {
        add("dictionary", name, sum(dictionary.sizes()).await);
        add("index", name, sum(dictionary.posting_sizes()).await);
    }
    let annotations = &tables.dictionaries.annotations;
    let texts = sum(annotations.dictionaries().flat_map(Dictionary::sizes)).await;
    add("dictionary", "annotations", annotations.key_set_bytes() + texts);
    add("index", "annotations", sum(annotations.dictionaries().flat_map(Dictionary::posting_sizes)).await);
    let indexes = &tables.indexes;
    add("index", "state", sum(indexes.states.sizes()).await);
    add("index", "priority", indexes.priorities.heap_bytes());
    add("index", "active job sets", indexes.active_job_sets.heap_bytes());
    add("index", "latest cluster", sum(indexes.latest_clusters.sizes()).await);
    add("index", "latest node", sum(indexes.latest_nodes.sizes()).await);
    add("index", "latest pool", sum(indexes.latest_pools.sizes()).await);
    add("index", "job id", indexes.job_ids.heap_bytes());
    add("index", "run id", indexes.run_ids.heap_bytes());
    add("index", "zone maps", sum(tables.jobs.zone_sizes()).await + indexes.zones.heap_bytes());
    add("index", "recent transitions", indexes.recent_transitions.heap_bytes());
    add("index", "writer's own", writer_bytes);
    for cache in TextCache::ALL {
        add("cache", cache.name(), tables.cache_bytes(cache));
    }
    add("cache", "aggregates of groups", indexes.partials.heap_bytes());
    let used: u64 = parts.iter().map(|part| part.bytes).sum();
    parts.push(MemoryUse { of: "allocator", name: "rounding".to_owned(), bytes: used / ALLOCATOR_SHARE });
    MemoryStats { jobs: tables.jobs.len() as u64, runs: tables.runs.len() as u64, parts }
}
