//! Cooperative scheduling.

/// Units that a task can consume between two yields: tokio's budget of a task.
const TASK_BUDGET: usize = 128;

/// Yields to the executor when the task's budget is spent, as tokio counts it.
///
/// Called once per chunk of work, so that a long query neither delays other tasks nor outlives a dropped call.
pub(in crate::memory) async fn consume_budget() {
    tokio::task::consume_budget().await;
}

/// Consumes a unit for each part of `work`, for work that takes longer than a chunk: a unit is some 20 µs.
pub(in crate::memory) async fn consume_budget_for(work: usize, part: usize) {
    for _ in 0..work.div_ceil(part).clamp(1, TASK_BUDGET) {
        consume_budget().await;
    }
}
