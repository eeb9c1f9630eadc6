//! Cooperative scheduling.

/// The units that a task can consume between two yields, which is tokio's budget of a task.
const TASK_BUDGET: usize = 128;

/// Yields to the executor when tokio's budget of the task is exhausted.
///
/// Called once per chunk of work, so that a long query neither delays other tasks nor outlives a dropped call.
pub(in crate::memory) async fn consume_budget() {
    tokio::task::consume_budget().await;
}

/// Consumes a unit for each part of `work`, for work that takes longer than a chunk: a unit is about 20 µs.
pub(in crate::memory) async fn consume_budget_for(work: usize, part: usize) {
    for _ in 0..work.div_ceil(part).clamp(1, TASK_BUDGET) {
        consume_budget().await;
    }
}
