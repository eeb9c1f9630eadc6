//! What columns and indexes cost.

use serde::Serialize;

use super::storage::{Dictionary, Tables, bitmap_bytes};

/// The memory of a store, part by part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStats {
    /// How many jobs there are.
    pub jobs: u64,
    /// How many runs there are.
    pub runs: u64,
    /// The parts, in the order of the tables.
    pub parts: Vec<MemoryUse>,
}

/// The memory of one column, dictionary or index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryUse {
    /// What it belongs to: a table, `dictionary` or `index`.
    pub of: &'static str,
    /// Its name.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
}

impl MemoryStats {
    /// Bytes of all parts.
    pub fn total_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Bytes a job; none without jobs.
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
        add("job", name, bytes);
    }
    let (annotations, zones) = tables.jobs.extra_bytes();
    add("job", "annotations", annotations);
    for (name, bytes) in tables.runs.column_bytes() {
        add("job_run", name, bytes);
    }
    add("job_spec", "all", tables.specs.heap_bytes());
    add("job_error", "all", tables.errors.heap_bytes());
    for (name, dictionary) in dictionaries(tables) {
        add("dictionary", name, dictionary.heap_bytes());
        add("index", name, dictionary.posting_bytes());
    }
    add("dictionary", "annotations", tables.annotations.heap_bytes());
    add("index", "annotations", tables.annotations.posting_bytes());
    add("index", "state", tables.states.heap_bytes());
    add("index", "priority", tables.priorities.heap_bytes());
    add("index", "active job sets", bitmap_bytes(&tables.active_job_sets));
    add("index", "latest cluster", tables.latest_clusters.heap_bytes());
    add("index", "latest node", tables.latest_nodes.heap_bytes());
    add("index", "latest pool", tables.latest_pools.heap_bytes());
    add("index", "job id", tables.job_index.heap_bytes());
    add("index", "run id", tables.run_index.heap_bytes());
    add("index", "zone maps", zones + tables.zones.heap_bytes());
    add("index", "writer's own", writer_bytes);
    MemoryStats { jobs: tables.jobs.len() as u64, runs: tables.runs.len() as u64, parts }
}

fn dictionaries(tables: &Tables) -> [(&'static str, &Dictionary); 11] {
    [
        ("queue", &tables.queues),
        ("job_set", &tables.job_sets),
        ("owner", &tables.owners),
        ("namespace", &tables.namespaces),
        ("priority_class", &tables.priority_classes),
        ("cluster", &tables.clusters),
        ("node", &tables.nodes),
        ("pool", &tables.pools),
        ("cancel_reason", &tables.cancel_reasons),
        ("cancel_user", &tables.cancel_users),
        ("dangling run", &tables.dangling_runs),
    ]
}
