//! The search for the highest rate that a store sustains.

use super::record::{RateSearchRecord, RateTrial};

/// The factor between trials until one has held and one has broken.
const STEP: f64 = 2.0;
/// The most such trials.
const MOST_STEPS: usize = 20;
/// The search ends when the rate that broke is at most this many times the one that held.
const PRECISION: f64 = 1.05;

/// A search by bisection for the highest rate at which nothing breaks.
///
/// From the first rate on, the rate is doubled while nothing breaks, or halved while something does; then the interval
/// between a rate that held and one that broke is halved until the highest is known within 5 %.
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
    broken: Option<f64>,
    record: RateSearchRecord,
}

impl RateSearch {
    /// A search that begins with a rate.
    pub const fn new(first: f64) -> Self {
        Self { first, broken: None, record: RateSearchRecord { highest: None, trials: Vec::new() } }
    }

    /// The next rate to try; none when the search is over.
    pub fn next_rate(&self) -> Option<f64> {
        match (self.record.highest, self.broken) {
            (None, None) => Some(self.first),
            // The mean of the logarithms, for the precision is a ratio.
            (Some(low), Some(high)) => (high > low * PRECISION).then(|| (low * high).sqrt()),
            _ if self.record.trials.len() >= MOST_STEPS => None,
            (Some(low), None) => Some(low * STEP),
            (None, Some(high)) => Some(high / STEP),
        }
    }

    /// Records what broke at a rate.
    pub fn record(&mut self, rate: f64, broke: Vec<String>) {
        *(if broke.is_empty() { &mut self.record.highest } else { &mut self.broken }) = Some(rate);
        self.record.trials.push(RateTrial { rate, broke });
    }

    /// The trials so far.
    pub fn into_record(self) -> RateSearchRecord {
        self.record
    }
}

impl RateSearchRecord {
    /// What broke first: at the lowest rate at which something did.
    pub fn broke_first(&self) -> Option<&RateTrial> {
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
    fn the_highest_rate_is_found_from_below_and_from_above() {
        for first in [1.0, 650.0, 700.0, 1e6] {
            let found = search(first, 700.0);
            let highest = found.highest.unwrap();
            assert!((700.0 / PRECISION..=700.0).contains(&highest), "from {first}: {highest}");
            assert!(found.trials.len() < 30);
            // What breaks only at higher rates is not named.
            assert_eq!(found.broke_first().unwrap().broke, ["page"], "from {first}");
        }
    }

    #[test]
    fn a_store_that_sustains_nothing_ends_the_search() {
        let found = search(100.0, 0.0);
        assert_eq!((found.highest, found.trials.len()), (None, MOST_STEPS));
    }
}
