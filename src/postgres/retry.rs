//! Retries: which failures are retried, how often, and with which backoff.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::sleep;
use tracing::info;

use super::error::{Attempt, Failure, Remedy};

/// The maximum number of retries of a call after conflicts and lost connections.
const MAX_REPEATS: usize = 10;
/// The maximum number of cancel requests for the statement of a dropped call; the connection is then closed.
const MAX_CANCELS: usize = 60;
const MIN_DELAY: Duration = Duration::from_millis(10);
/// The maximum of every delay.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(1);

fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default().with_min_delay(MIN_DELAY).with_max_delay(MAX_DELAY).with_jitter()
}

/// The delays between the retries of a call.
pub(super) fn repeats() -> impl Iterator<Item = Duration> {
    backoff().with_max_times(MAX_REPEATS).build()
}

/// The delays between cancel requests.
pub(super) fn cancels() -> impl Iterator<Item = Duration> {
    backoff().with_max_times(MAX_CANCELS).build()
}

/// The delays between attempts to connect, without a limit on their number.
pub(super) fn reconnects() -> impl Iterator<Item = Duration> {
    backoff().without_max_times().build()
}

/// Waits before a retry. Returns the failure if the call must not be retried.
pub(super) async fn pause(failure: Failure, repeats: &mut impl Iterator<Item = Duration>) -> Attempt<()> {
    match (failure.remedy(), repeats.next()) {
        (Remedy::Repeat | Remedy::Reconnect, Some(delay)) => {
            info!(target: "broadside::postgres", %failure, ?delay, "repeats the call");
            sleep(delay).await;
            Ok(())
        }
        _ => Err(failure),
    }
}
