//! Memory usage of columns and indexes.

use serde::Serialize;

use super::storage::Tables;

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
    /// The kind of part: a table, `dictionary` or `index`.
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

pub(super) fn measure(tables: &Tables, writer_bytes: usize) -> MemoryStats {
    let mut parts = Vec::new();
    let mut add = |of: &'static str, name: &str, bytes: usize| {
        parts.push(MemoryUse { of, name: name.to_owned(), bytes: bytes as u64 });
    };
    for (name, bytes) in tables.jobs.column_bytes() {
        add("job", &name, bytes);
    }
    let (annotations, zones) = tables.jobs.extra_bytes();
    add("job", "annotations", annotations);
    for (name, bytes) in tables.runs.column_bytes() {
        add("job_run", &name, bytes);
    }
    let records = &tables.records;
    add("job_run", "errors and debug messages", records.run_messages.heap_bytes());
    add("job_run", "dangling ids", records.dangling_runs.block_bytes() + records.missing_jobs.block_bytes());
    add("job_spec", "all", records.specs.heap_bytes());
    add("job_error", "all", records.errors.heap_bytes());
    let dictionaries = tables.dictionaries.by_column();
    for (name, dictionary) in dictionaries {
        add("dictionary", name, dictionary.heap_bytes());
        add("index", name, dictionary.posting_bytes());
    }
    add("dictionary", "annotations", tables.dictionaries.annotations.heap_bytes());
    add("index", "annotations", tables.dictionaries.annotations.posting_bytes());
    let ngrams = dictionaries.iter().map(|(_, dictionary)| dictionary.ngram_bytes()).sum::<usize>();
    add("index", "trigrams", ngrams + tables.dictionaries.annotations.ngram_bytes());
    let indexes = &tables.indexes;
    add("index", "state", indexes.states.heap_bytes());
    add("index", "priority", indexes.priorities.heap_bytes());
    add("index", "active job sets", indexes.active_job_sets.heap_bytes());
    add("index", "latest cluster", indexes.latest_clusters.heap_bytes());
    add("index", "latest node", indexes.latest_nodes.heap_bytes());
    add("index", "latest pool", indexes.latest_pools.heap_bytes());
    add("index", "job id", indexes.job_ids.heap_bytes());
    add("index", "run id", indexes.run_ids.heap_bytes());
    add("index", "zone maps", zones + indexes.zones.heap_bytes());
    add("index", "recent transitions", indexes.recent_transitions.heap_bytes());
    add("index", "partial aggregates", indexes.partials.heap_bytes());
    add("index", "writer's own", writer_bytes);
    MemoryStats { jobs: tables.jobs.len() as u64, runs: tables.runs.len() as u64, parts }
}
