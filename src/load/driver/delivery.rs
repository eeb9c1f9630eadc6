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
    pub(super) attempt: Attempt,
    pub(super) backoff: Duration,
}

#[derive(Debug)]
pub(super) enum Attempt {
    First,
    /// A repetition of the validated batch, whose first attempt began at a time.
    Retry(Arc<IngestionBatch>, Instant),
}

impl Delivery {
    pub(super) fn first(planned: PlannedBatch) -> Self {
        Self { planned, attempt: Attempt::First, backoff: INITIAL_BACKOFF }
    }

    /// The delivery after the next backoff, which is twice as long.
    pub(super) fn backed_off(self) -> Self {
        Self { backoff: (self.backoff * 2).min(MAX_BACKOFF), ..self }
    }
}

/// Sends a batch, and again if it is selected for redelivery.
pub(super) async fn deliver(database: Arc<dyn Database>, factory: Arc<JobFactory>, delivery: Delivery) -> Completion {
    let Delivery { planned, attempt, backoff } = delivery;
    let (batch, first) = match attempt {
        Attempt::Retry(batch, first) => (batch, Some(first)),
        Attempt::First => match planned.validated(&factory) {
            Ok(batch) => (Arc::new(batch), None),
            Err(error) => {
                let (delivery, began) = (Delivery { planned, attempt: Attempt::First, backoff }, Instant::now());
                return Completion::Failed { delivery, began, error };
            }
        },
    };
    let began = Instant::now();
    let first = first.unwrap_or(began);
    let stored = database.execute_ingestion_query_batch(&batch).await;
    let times = CallTimes { first, began, ended: Instant::now() };
    let again = |planned| Delivery { planned, attempt: Attempt::Retry(batch.clone(), first), backoff };
    if let Err(error) = stored {
        return Completion::Failed { delivery: again(planned), began, error };
    }
    let mut redelivered = false;
    if planned.redelivered {
        // A failure has no effect, because the batch is already stored.
        redelivered = database.execute_ingestion_query_batch(&batch).await.is_ok();
    }
    Completion::Stored { delivery: again(planned), times, free: Instant::now(), redelivered }
}
