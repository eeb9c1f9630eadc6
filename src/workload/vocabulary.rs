//! The names and sizes of the workload's jobs.

use crate::model::JobState;

const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;

/// The queues, the busiest first.
pub(super) const QUEUES: [&str; 20] = [
    "risk",
    "pricing",
    "training",
    "backtest",
    "simulation",
    "calibration",
    "inference",
    "forecasting",
    "reporting",
    "ingestion",
    "optimiser",
    "regression",
    "scenarios",
    "stress",
    "compliance",
    "archive",
    "signals",
    "notebooks",
    "release",
    "sandbox",
];
/// The purposes of job sets.
pub(super) const PURPOSES: [&str; 5] = ["nightly", "backfill", "sweep", "adhoc", "validate"];
/// The number of users.
pub(super) const OWNERS: u64 = 150;
/// The number of users of one queue.
pub(super) const OWNERS_PER_QUEUE: u64 = 12;
/// The namespaces besides the default one.
pub(super) const NAMESPACES: [&str; 8] =
    ["batch", "research", "research-gpu", "production", "staging", "data", "platform", "shared"];
/// The priority classes with their weights; `None` for no class.
pub(super) const PRIORITY_CLASSES: [(Option<&str>, u64); 4] =
    [(Some("armada-default"), 700), (Some("armada-preemptible"), 200), (Some("armada-high-priority"), 80), (None, 20)];
/// Requested millicores.
pub(super) const CPUS: [(i64, u64); 7] =
    [(500, 100), (1000, 300), (2000, 200), (4000, 200), (8000, 120), (16_000, 60), (32_000, 20)];
/// The memory per core, in bytes.
pub(super) const MEMORY_PER_CPU: [i64; 3] = [2 * GIB, 4 * GIB, 8 * GIB];
/// Requested ephemeral storage, in bytes.
pub(super) const EPHEMERAL_STORAGES: [i64; 4] = [512 * MIB, 2 * GIB, 10 * GIB, 100 * GIB];
/// Requested GPUs.
pub(super) const GPUS: [(i64, u64); 4] = [(0, 900), (1, 70), (4, 20), (8, 10)];
/// The pool of jobs that need GPUs.
pub(super) const GPU_POOL: usize = 3;
/// The pools.
pub(super) const POOLS: [&str; GPU_POOL + 1] = ["general", "high-memory", "spot", "gpu"];
/// Clusters per pool.
pub(super) const CLUSTERS_PER_POOL: u64 = 10;
/// Nodes per cluster.
pub(super) const NODES_PER_CLUSTER: u64 = 25;

/// The keys of the annotations of every job, by ascending cardinality; the values of the last
/// one are distinct.
pub const ANNOTATION_KEYS: [&str; 5] =
    ["example.com/stage", "example.com/team", "example.com/project", "example.com/model", "example.com/trace"];
/// The values of the first annotation.
pub(super) const STAGES: [(&str, u64); 4] = [("production", 550), ("staging", 200), ("development", 200), ("test", 50)];
/// The cardinality of the second annotation.
pub(super) const TEAMS: u64 = 24;
/// The cardinality of the third annotation.
pub(super) const PROJECTS: u64 = 150;
/// The cardinality of the fourth annotation.
pub(super) const MODELS: u64 = 2000;

/// The states of active jobs, with their weights.
pub(super) const ACTIVE_STATES: [(JobState, u64); 4] =
    [(JobState::Queued, 500), (JobState::Leased, 40), (JobState::Pending, 110), (JobState::Running, 350)];
/// The states of terminal jobs, with their weights.
pub(super) const TERMINAL_STATES: [(JobState, u64); 5] = [
    (JobState::Succeeded, 800),
    (JobState::Failed, 100),
    (JobState::Cancelled, 60),
    (JobState::Preempted, 30),
    (JobState::Rejected, 10),
];
/// Cancel reasons; `None` for no reason.
pub(super) const CANCEL_REASONS: [(Option<&str>, u64); 4] = [
    (Some("cancelled by user"), 600),
    (Some("superseded by a newer job set"), 200),
    (Some("job set deadline exceeded"), 150),
    (None, 50),
];
/// Errors of failed runs, each with its exit code.
pub(super) const FAILURES: [(&str, i32); 5] = [
    ("container main exited with code 1", 1),
    ("OOMKilled: container main exceeded its memory limit", 137),
    ("container main exited with code 2: invalid argument", 2),
    ("pod exceeded its active deadline", 143),
    ("container main: segmentation fault", 139),
];
