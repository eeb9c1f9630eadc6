//! The bisection of rates.

use super::record::{RateSearchRecord, RateTrial};

/// The factor between trials until both a sustained and an unsustained rate are known.
const STEP: f64 = 2.0;
/// The maximum number of such trials.
const MAX_STEPS: usize = 20;
/// The lowest rate of a trial, unless the search starts below it.
const MIN_RATE: f64 = 1.0;
/// The search ends when the ratio of the unsustained to the sustained rate is at most this.
const PRECISION: f64 = 1.05;

/// A bisection for the highest rate without violations.
///
/// The rate is doubled while there are no violations, or halved while there are, down to 1 per second. Then the
/// interval between the highest rate without and the lowest rate with violations is bisected until their ratio is at
/// most 1.05.
///
/// ```
/// use broadside::load::RateSearch;
///
/// let mut search = RateSearch::new(100.0);
/// while let Some(rate) = search.next_rate() {
///     search.record(rate, if rate > 700.0 { vec!["page.p99 < 50ms: 80ms".to_owned()] } else { vec![] });
/// }
/// let highest = search.into_record().highest.unwrap();
/// assert!(highest <= 700.0 && highest * 1.05 >= 700.0);
/// ```
#[derive(Debug, Clone)]
pub struct RateSearch {
    first: f64,
    unsustained: Option<f64>,
    record: RateSearchRecord,
}

impl RateSearch {
    /// Creates a search that starts at a rate.
    pub const fn new(first: f64) -> Self {
        Self { first, unsustained: None, record: RateSearchRecord { highest: None, trials: Vec::new() } }
    }

    /// The rate of the next trial; `None` at the end of the search.
    pub fn next_rate(&self) -> Option<f64> {
        match (self.record.highest, self.unsustained) {
            (None, None) => Some(self.first),
            // The geometric mean, because the precision is a ratio.
            (Some(low), Some(high)) => (high > low * PRECISION).then(|| (low * high).sqrt()),
            _ if self.record.trials.len() >= MAX_STEPS => None,
            (Some(low), None) => Some(low * STEP),
            (None, Some(high)) => Some(high / STEP).filter(|&rate| rate >= MIN_RATE),
        }
    }

    /// Records the violations of the trial at a rate.
    pub fn record(&mut self, rate: f64, broke: Vec<String>) {
        *(if broke.is_empty() { &mut self.record.highest } else { &mut self.unsustained }) = Some(rate);
        self.record.trials.push(RateTrial { rate, broke });
    }

    /// Returns the trials and the highest rate.
    pub fn into_record(self) -> RateSearchRecord {
        self.record
    }
}

impl RateSearchRecord {
    /// The trial with violations at the lowest rate.
    pub fn first_violation(&self) -> Option<&RateTrial> {
        let broken = self.trials.iter().filter(|trial| !trial.broke.is_empty());
        broken.min_by(|a, b| a.rate.total_cmp(&b.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(first: f64, limit: f64) -> RateSearchRecord {
        let mut search = RateSearch::new(first);
        while let Some(rate) = search.next_rate() {
            let broke = |limit: f64, what: &str| (rate > limit).then(|| what.to_owned());
            search.record(rate, [broke(limit, "page"), broke(limit * 1.5, "ingest")].into_iter().flatten().collect());
        }
        search.into_record()
    }

    #[test]
    fn the_search_starts_below_or_above_the_highest_rate() {
        for first in [1.0, 650.0, 700.0, 1e6] {
            let found = search(first, 700.0);
            let highest = found.highest.unwrap();
            assert!((700.0 / PRECISION..=700.0).contains(&highest), "from {first}: {highest}");
            assert!(found.trials.len() < 30);
            // The violation that occurs only at higher rates is not reported.
            assert_eq!(found.first_violation().unwrap().broke, ["page"], "from {first}");
        }
    }

    #[test]
    fn the_search_ends_if_no_rate_is_sustained() {
        let found = search(100.0, 0.0);
        assert_eq!(found.highest, None);
        assert_eq!(found.trials.last().unwrap().rate, 100.0 / 64.0);
        let endless = search(100.0, f64::INFINITY);
        assert_eq!(endless.trials.len(), MAX_STEPS);
    }
}
