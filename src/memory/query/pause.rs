//! Giving way to other tasks.

/// Yields to other tasks when this one has used up its share of the executor, as tokio counts it.
///
/// Called once a chunk: a query over many of them then neither delays others for long nor outlives
/// the call that was dropped.
pub(in crate::memory) async fn pause() {
    tokio::task::consume_budget().await;
}
