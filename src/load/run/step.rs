//! The steps of a run before and after its load, each of which ends if the run is stopped or the store is silent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Run;
use crate::database::Database;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::load::monitor;
use crate::load::record::{FailureRecord, Phase};

/// The maximum duration of a step after the load of a run that was stopped, whose store may not respond.
pub(super) const STEP_WHEN_STOPPED: Duration = Duration::from_secs(10);
/// The maximum duration of a step after a load that ended because the store accepted no batches.
pub(super) const STEP_WHEN_ABORTED: Duration = Duration::from_secs(2);
/// The interval between the calls that show whether the store responds.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

impl Run<'_> {
    /// Executes a step before the load; `None` if the run was stopped.
    ///
    /// # Errors
    ///
    /// Those of the step, and `Timeout` if the store is silent.
    pub(super) async fn attempt<T>(&self, step: impl Future<Output = Result<T>>) -> Result<Option<T>> {
        tokio::select! {
            biased;
            () = stopped(self.stop.clone()) => Ok(None),
            done = step => done.map(Some),
            silent = self.silent() => Err(Error::new(ErrorKind::Timeout, Operation::LoadTest, silent)),
        }
    }

    /// Executes a step after the load. An error becomes a part of the record. A step on a store that was silent in an
    /// earlier one is left out.
    pub(super) async fn step<T>(&mut self, phase: Phase, step: impl Future<Output = Result<T>>) -> Option<T> {
        if self.is_silent {
            return None;
        }
        let limit = if self.is_aborted { STEP_WHEN_ABORTED } else { self.options.drain };
        let stop = self.stop.clone();
        let stopped = async move {
            stopped(stop).await;
            sleep(STEP_WHEN_STOPPED).await;
        };
        let error = tokio::select! {
            biased;
            done = timeout(limit, step) => match done {
                Ok(Ok(value)) => return Some(value),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("not completed within {limit:?}"),
            },
            silent = self.silent() => {
                self.is_silent = true;
                silent
            }
            () = stopped => {
                self.is_silent = true;
                format!("not completed within {STEP_WHEN_STOPPED:?} after the run was stopped")
            }
        };
        self.failures.push(FailureRecord { phase, error });
        None
    }

    /// Waits until the store has not responded for [`LoadConfig::abort_after`](crate::load::LoadConfig::abort_after).
    pub(super) async fn silent(&self) -> String {
        let limit = self.config.abort_after;
        if limit.is_zero() {
            return std::future::pending().await;
        }
        let mut responded = Instant::now();
        // The step may use all connections of the run's own handle.
        let mut handle: Option<Arc<dyn Database>> = None;
        while responded.elapsed() < limit {
            sleep(PROBE_INTERVAL).await;
            let probe = async {
                let open = match handle.take() {
                    Some(open) => open,
                    None => self.database.another_handle().await?,
                };
                handle.insert(open).activity().await
            };
            match timeout(limit.saturating_sub(responded.elapsed()), probe).await {
                Ok(result) if !result.as_ref().is_err_and(monitor::is_unreachable) => responded = Instant::now(),
                _ => {}
            }
        }
        format!("the store did not respond for {limit:?}")
    }
}

/// Waits until the run is stopped.
async fn stopped(mut stop: watch::Receiver<bool>) {
    // Fails if the caller has dropped the sender: then nobody can stop the run.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
