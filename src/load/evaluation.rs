//! The evaluation of objectives for a run, and the check that a configuration makes enough calls for them.

use super::config::LoadConfig;
use super::objective::{Bound, Kind, Objective, Statistic};
use super::reads::expected_reads;
use super::record::{ObjectiveRecord, RunRecord};
use super::upstream::GoDuration;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::measure::{LatencyHistogram, required_samples};

/// The measurements of the calls of an objective.
#[derive(Default)]
struct Calls {
    latency: LatencyHistogram,
    failed: u64,
}

impl Objective {
    /// Evaluates the objective for a run. It is missed if there are too few samples for the statistic.
    pub fn evaluate(&self, run: &RunRecord) -> ObjectiveRecord {
        let calls = self.calls(run);
        let (measured, held) = match self.bound {
            Bound::Latency(statistic, limit) => {
                let nanos = statistic.of(&calls.latency);
                (
                    nanos.map(|nanos| GoDuration::from_nanos(nanos).to_string()),
                    nanos.is_some_and(|nanos| u128::from(nanos) < limit.as_nanos()),
                )
            }
            Bound::Errors(limit) => {
                let all = calls.latency.count() + calls.failed;
                let fraction = (all > 0).then(|| (calls.failed + calls.latency.unfinished()) as f64 / all as f64);
                // Without errors, "< 0%" is met.
                let held = fraction.is_some_and(|fraction| fraction < limit || fraction == 0.0);
                (fraction.map(|fraction| format!("{:.3}%", fraction * 100.0)), held)
            }
        };
        ObjectiveRecord { objective: self.text.clone(), measured, held }
    }

    /// Checks that the test makes enough reads for an objective on reads.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` with the required and the expected number of reads.
    pub(super) fn check_reads(&self, config: &LoadConfig) -> Result<()> {
        match self.kind {
            Kind::Ingest => Ok(()),
            Kind::Read(query_type) => {
                self.check_calls("reads", expected_reads(config, query_type, self.filter.as_deref()))
            }
        }
    }

    /// Checks that a number of batches is enough for an objective on ingestion.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` with the required and the expected number of batches.
    pub(super) fn check_batches(&self, expected: f64) -> Result<()> {
        match self.kind {
            Kind::Ingest => self.check_calls("batches", expected),
            Kind::Read(_) => Ok(()),
        }
    }

    fn check_calls(&self, calls: &str, expected: f64) -> Result<()> {
        let required = match self.bound {
            Bound::Latency(Statistic::Quantile(quantile), _) => required_samples(quantile),
            Bound::Latency(..) | Bound::Errors(_) => 1,
        };
        if expected >= required as f64 {
            return Ok(());
        }
        let message = format!(
            "the objective {self} requires at least {required} {calls} in the test, but the configuration makes \
             {expected:.1}"
        );
        Err(Error::new(ErrorKind::InvalidArgument, Operation::LoadTest, message))
    }

    fn calls(&self, run: &RunRecord) -> Calls {
        let mut calls = Calls::default();
        match self.kind {
            Kind::Ingest => {
                calls.latency.merge(&run.ingester.latency);
                calls.failed = run.ingester.batches_failed;
            }
            Kind::Read(kind) => {
                let fits = |combo: &str| self.filter.as_deref().is_none_or(|filter| filter == combo);
                for query in run.queries.iter().filter(|query| query.query_type == kind && fits(&query.filter_combo)) {
                    calls.latency.merge(&query.latency);
                    calls.failed += query.failed;
                }
            }
        }
        calls
    }
}

impl Statistic {
    fn of(self, latency: &LatencyHistogram) -> Option<u64> {
        match self {
            Self::Quantile(quantile) => latency.quantile(quantile),
            Self::Mean => latency.mean_nanos().map(|mean| mean as u64),
            Self::Max => latency.max_nanos(),
        }
    }
}
