//! The bisection of rates.

use super::record::{RateSearchRecord, RateTrial, TrialOutcome};

/// The factor between trials until both a sustained and an unsustained rate are known.
const STEP: f64 = 2.0;
/// The maximum number of such trials, and of rates to confirm.
const MAX_STEPS: usize = 20;
/// The lowest rate of a trial, unless the search starts below it.
const MIN_RATE: f64 = 1.0;
/// The bisection ends when the ratio of the unsustained to the sustained rate is at most this. A rate that is not
/// confirmed is lowered by this factor.
const PRECISION: f64 = 1.05;
/// The maximum number of trials of a rate that are inconclusive.
const MAX_ATTEMPTS: usize = 3;

/// The next trial of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NextTrial {
    /// The rate, in submissions per second.
    pub(super) rate: f64,
    /// Whether the trial is a longer run that confirms the result.
    pub(super) confirms: bool,
}

/// A bisection for the highest rate without violations.
///
/// The rate is doubled while there are no violations, or halved while there are, down to 1 per second. Then the
/// interval between the highest rate without and the lowest rate with violations is bisected until their ratio is at
/// most 1.05. A longer trial confirms the result; while it has violations, the rate is lowered by 5 %.
///
/// An inconclusive trial is repeated. A rate whose trials are all inconclusive bounds the search like one with
/// violations, but is no limit of the store.
#[derive(Debug, Default)]
pub(super) struct RateSearch {
    /// The highest rate that has passed.
    low: Option<f64>,
    /// The lowest rate that has not passed, and the reason if it was inconclusive.
    high: Option<(f64, Option<String>)>,
    /// The number of inconclusive trials of the current rate.
    attempts: usize,
    /// The number of rates that were tried without confirmation.
    steps: usize,
    /// The number of rates that were not confirmed.
    unconfirmed: usize,
    record: RateSearchRecord,
}

impl RateSearch {
    /// Records a trial. Returns the next one; `None` at the end of the search.
    pub(super) fn record(&mut self, trial: RateTrial) -> Option<NextTrial> {
        let (rate, confirms, outcome) = (trial.rate, trial.confirms, trial.outcome);
        let reason = trial.reasons.join("; ");
        self.record.trials.push(trial);
        self.attempts += 1;
        if outcome == TrialOutcome::Inconclusive && self.attempts < MAX_ATTEMPTS {
            return Some(NextTrial { rate, confirms });
        }
        self.attempts = 0;
        let next = if confirms {
            self.after_confirmation(rate, outcome, reason)
        } else {
            self.steps += 1;
            match outcome {
                TrialOutcome::Passed => self.low = Some(rate),
                TrialOutcome::Violated => self.high = Some((rate, None)),
                TrialOutcome::Inconclusive => self.high = Some((rate, Some(reason))),
            }
            self.after_step()
        };
        if next.is_none()
            && let Some((rate, Some(reason))) = &self.high
        {
            self.record.inconclusive = Some(format!("the driver could not measure rates from {rate:.1} on: {reason}"));
        }
        next
    }

    /// Ends the search before the next trial, for a reason. If the store has not sustained the last rate, that is the
    /// result.
    pub(super) fn end(&mut self, reason: String) {
        match (&self.high, self.record.trials.last_mut()) {
            (Some((_, None)), Some(last)) => last.reasons.push(format!("no lower rate was tried: {reason}")),
            _ => self.record.inconclusive = Some(reason),
        }
    }

    fn after_step(&self) -> Option<NextTrial> {
        let step = |rate| Some(NextTrial { rate, confirms: false });
        match (self.low, self.high.as_ref().map(|&(rate, _)| rate)) {
            // The geometric mean, because the precision is a ratio.
            (Some(low), Some(high)) if high > low * PRECISION => step((low * high).sqrt()),
            (Some(low), None) if self.steps < MAX_STEPS => step(low * STEP),
            (Some(rate), _) => Some(NextTrial { rate, confirms: true }),
            (None, Some(high)) if self.steps < MAX_STEPS && high / STEP >= MIN_RATE => step(high / STEP),
            (None, _) => None,
        }
    }

    fn after_confirmation(&mut self, rate: f64, outcome: TrialOutcome, reason: String) -> Option<NextTrial> {
        match outcome {
            TrialOutcome::Passed => self.record.highest = Some(rate),
            TrialOutcome::Inconclusive => self.high = Some((rate, Some(reason))),
            TrialOutcome::Violated => {
                self.high = Some((rate, None));
                self.unconfirmed += 1;
                let lower = Some(rate / PRECISION).filter(|_| self.unconfirmed < MAX_STEPS);
                return lower.map(|rate| NextTrial { rate, confirms: true });
            }
        }
        None
    }

    /// The trials so far.
    pub(super) fn trials(&self) -> RateSearchRecord {
        self.record.clone()
    }

    /// Returns the trials and the highest rate.
    pub(super) fn into_record(self) -> RateSearchRecord {
        self.record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: (TrialOutcome, &str) = (TrialOutcome::Passed, "");
    const SLOW: (TrialOutcome, &str) = (TrialOutcome::Violated, "slow");
    const LAG: (TrialOutcome, &str) = (TrialOutcome::Inconclusive, "lag");

    fn search(first: f64, of: impl Fn(NextTrial) -> (TrialOutcome, &'static str)) -> RateSearchRecord {
        let mut search = RateSearch::default();
        let mut next = Some(NextTrial { rate: first, confirms: false });
        while let Some(trial) = next {
            let (outcome, reason) = of(trial);
            let reasons = Vec::from_iter((!reason.is_empty()).then(|| reason.to_owned()));
            let NextTrial { rate, confirms } = trial;
            let (test_nanos, achieved, ingest_p99_nanos) = (1, rate, None);
            next =
                search.record(RateTrial { rate, confirms, outcome, reasons, test_nanos, achieved, ingest_p99_nanos });
        }
        search.into_record()
    }

    /// The rates of the trials that confirm.
    fn confirmed(record: &RateSearchRecord) -> Vec<f64> {
        record.trials.iter().filter(|trial| trial.confirms).map(|trial| trial.rate).collect()
    }

    /// The lowest rate of the trials with an outcome.
    fn lowest(record: &RateSearchRecord, outcome: TrialOutcome) -> f64 {
        let rates = record.trials.iter().filter(|trial| trial.outcome == outcome).map(|trial| trial.rate);
        rates.fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn the_search_starts_below_or_above_the_highest_rate() {
        for first in [1.0, 650.0, 700.0, 1e6] {
            let found = search(first, |next| if next.rate > 700.0 { SLOW } else { PASSED });
            let highest = found.highest.unwrap();
            assert!((700.0 / PRECISION..=700.0).contains(&highest), "from {first}: {highest}");
            assert!(found.trials.len() < 30);
            assert_eq!(confirmed(&found), [highest]);
            assert_eq!(found.inconclusive, None);
            let violated = lowest(&found, TrialOutcome::Violated);
            assert!(violated > 700.0 && violated <= highest * PRECISION);
        }
    }

    #[test]
    fn the_search_ends_if_no_rate_is_sustained_or_all_are() {
        let found = search(100.0, |_| SLOW);
        let rates: Vec<_> = found.trials.iter().map(|trial| trial.rate).collect();
        assert_eq!(rates, [100.0, 50.0, 25.0, 12.5, 6.25, 3.125, 1.5625]);
        assert_eq!((found.highest, found.inconclusive), (None, None));
        let endless = search(1.0, |_| PASSED);
        assert_eq!((endless.trials.len(), endless.highest), (MAX_STEPS + 1, Some(2_f64.powi(19))));
    }

    #[test]
    fn a_rate_that_is_not_confirmed_is_lowered_until_one_is() {
        // Short trials pass up to 700, long ones up to 600.
        let found =
            search(100.0, |next| if next.rate > if next.confirms { 600.0 } else { 700.0 } { SLOW } else { PASSED });
        let confirmed = confirmed(&found);
        assert!((3..=4).contains(&confirmed.len()), "{confirmed:?}");
        for pair in confirmed.windows(2) {
            assert!((pair[0] / pair[1] - PRECISION).abs() < 1e-9, "{confirmed:?}");
        }
        assert_eq!(found.highest, confirmed.last().copied());
        assert!((600.0 / PRECISION..=600.0).contains(&found.highest.unwrap()));
        let never = search(100.0, |next| if next.confirms { SLOW } else { PASSED });
        assert_eq!((never.highest, never.inconclusive), (None, None));
        assert_eq!(never.trials.len(), MAX_STEPS * 2);
    }

    #[test]
    fn a_search_that_cannot_try_a_lower_rate_has_found_that_the_store_does_not_sustain_the_last_one() {
        let trial = |outcome| RateTrial {
            rate: 15.0,
            confirms: false,
            outcome,
            reasons: Vec::new(),
            test_nanos: 1,
            achieved: 5.0,
            ingest_p99_nanos: None,
        };
        let mut search = RateSearch::default();
        search.record(trial(TrialOutcome::Violated));
        search.end("too few samples".to_owned());
        let found = search.into_record();
        assert_eq!((found.highest, found.inconclusive), (None, None));
        assert_eq!(found.trials[0].reasons, ["no lower rate was tried: too few samples"]);
        let mut search = RateSearch::default();
        search.record(trial(TrialOutcome::Inconclusive));
        search.end("too few samples".to_owned());
        assert_eq!(search.into_record().inconclusive.as_deref(), Some("too few samples"));
    }

    #[test]
    fn an_inconclusive_trial_is_repeated() {
        let attempts = std::cell::Cell::new(0);
        // The third attempt of each rate has a result.
        let found = search(100.0, |next| {
            attempts.set(attempts.get() + 1);
            match attempts.get() % 3 {
                0 if next.rate > 150.0 => SLOW,
                0 => PASSED,
                _ => LAG,
            }
        });
        assert!((150.0 / PRECISION..=150.0).contains(&found.highest.unwrap()));
        assert_eq!(found.inconclusive, None);
        let rates: Vec<_> = found.trials.iter().map(|trial| trial.rate).collect();
        assert_eq!(rates[..6], [100.0, 100.0, 100.0, 200.0, 200.0, 200.0]);
        assert!(rates.chunks(3).all(|same| same == [same[0]; 3]), "{rates:?}");
    }

    #[test]
    fn rates_that_the_driver_cannot_measure_bound_the_search_and_are_no_limit_of_the_store() {
        let found = search(100.0, |next| if next.rate > 700.0 { LAG } else { PASSED });
        assert!((700.0 / PRECISION..=700.0).contains(&found.highest.unwrap()));
        let lowest = lowest(&found, TrialOutcome::Inconclusive);
        let reason = format!("the driver could not measure rates from {lowest:.1} on: lag");
        assert_eq!(found.inconclusive, Some(reason));
        // A limit of the store below those rates is a result.
        let found = search(100.0, |next| match next.rate {
            700.0.. => LAG,
            300.0.. => SLOW,
            _ => PASSED,
        });
        assert!((300.0 / PRECISION..=300.0).contains(&found.highest.unwrap()));
        assert_eq!(found.inconclusive, None);
    }

    #[test]
    fn a_search_without_a_valid_trial_or_confirmation_is_inconclusive() {
        let found = search(2.0, |_| LAG);
        assert_eq!((found.highest, found.trials.len()), (None, 2 * MAX_ATTEMPTS));
        assert_eq!(found.inconclusive.unwrap(), "the driver could not measure rates from 1.0 on: lag");
        let found = search(100.0, |next| match next {
            NextTrial { confirms: true, .. } => LAG,
            NextTrial { rate, .. } if rate > 100.0 => SLOW,
            _ => PASSED,
        });
        assert_eq!((found.highest, confirmed(&found)), (None, vec![100.0; MAX_ATTEMPTS]));
        assert_eq!(found.inconclusive.unwrap(), "the driver could not measure rates from 100.0 on: lag");
    }
}
