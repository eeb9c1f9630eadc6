//! Retries: how often a failed request is retried, and with which backoff.

use std::time::Duration;

use backon::ExponentialBuilder;

/// The maximum number of repetitions of a request.
pub(super) const MAX_REPEATS: usize = 4;
const MIN_DELAY: Duration = Duration::from_millis(50);
const MAX_DELAY: Duration = Duration::from_millis(800);

/// The delays between the attempts of a request, without a limit of their number.
pub(super) fn repeats() -> ExponentialBuilder {
    ExponentialBuilder::default().with_min_delay(MIN_DELAY).with_max_delay(MAX_DELAY).without_max_times().with_jitter()
}
