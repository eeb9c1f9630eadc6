//! The delivery of batches, and its repetition.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Completion;
use crate::database::Database;
use crate::ingest::IngestionBatch;
use crate::load::generator::PlannedBatch;
use crate::load::lifecycle::JobFactory;
use crate::load::recorder::CallTimes;

/// The backoff before a failed batch is sent again, doubled after each attempt up to the maximum.
const INITIAL_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// A batch in flight.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) planned: PlannedBatch,
    /// The validated batch and the start of the first attempt, of a repetition.
    attempted: Option<(Arc<IngestionBatch>, Instant)>,
    pub(super) backoff: Duration,
}

impl Delivery {
    pub(super) fn first(planned: PlannedBatch) -> Self {
        Self { planned, attempted: None, backoff: INITIAL_BACKOFF }
    }

    /// The delivery after the next backoff, which is twice as long.
    pub(super) fn backed_off(self) -> Self {
        Self { backoff: (self.backoff * 2).min(MAX_BACKOFF), ..self }
    }
}

/// Sends a batch, and again if it is selected for redelivery.
pub(super) async fn deliver(database: Arc<dyn Database>, factory: Arc<JobFactory>, delivery: Delivery) -> Completion {
    let (batch, first) = match &delivery.attempted {
        Some((batch, first)) => (batch.clone(), Some(*first)),
        None => match delivery.planned.validated(&factory) {
            Ok(batch) => (Arc::new(batch), None),
            Err(error) => return Completion::Failed { delivery, began: Instant::now(), error },
        },
    };
    let began = Instant::now();
    let first = first.unwrap_or(began);
    let stored = database.execute_ingestion_query_batch(&batch).await;
    let times = CallTimes { first, began, ended: Instant::now() };
    if let Err(error) = stored {
        let delivery = Delivery { attempted: Some((batch, first)), ..delivery };
        return Completion::Failed { delivery, began, error };
    }
    // A failure has no effect, because the batch is already stored.
    let redelivered = delivery.planned.redelivered && database.execute_ingestion_query_batch(&batch).await.is_ok();
    Completion::Stored { planned: delivery.planned, times, free: Instant::now(), redelivered }
}
