//! The delivery of batches, and its repetition.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Completion;
use crate::database::Database;
use crate::ingest::IngestionBatch;
use crate::load::generator::PlannedBatch;
use crate::load::lifecycle::JobFactory;

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
    /// A repetition of the validated batch.
    Retry(Arc<IngestionBatch>),
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
    let batch = match attempt {
        Attempt::Retry(batch) => batch,
        Attempt::First => match planned.validated(&factory) {
            Ok(batch) => Arc::new(batch),
            Err(error) => {
                return Completion::Failed { delivery: Delivery { planned, attempt: Attempt::First, backoff }, error };
            }
        },
    };
    let began = Instant::now();
    let stored = database.execute_ingestion_query_batch(&batch).await;
    let ended = Instant::now();
    let again = |planned| Delivery { planned, attempt: Attempt::Retry(batch.clone()), backoff };
    if let Err(error) = stored {
        return Completion::Failed { delivery: again(planned), error };
    }
    let mut redelivered = false;
    if planned.redelivered {
        // A failure has no effect, because the batch is already stored.
        redelivered = database.execute_ingestion_query_batch(&batch).await.is_ok();
    }
    Completion::Stored { delivery: again(planned), began, ended, free: Instant::now(), redelivered }
}
