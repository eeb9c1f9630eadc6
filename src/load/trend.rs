//! The delay of arrivals over the test, and the line through it.

use super::record::{DelayRecord, QueryType};

/// The number of parts of the test.
pub(super) const PARTS: usize = 20;
/// The number of parts with arrivals from which on a line is fitted.
const MIN_POINTS: usize = 15;
/// The ratio of a slope to its standard error from which on it is significant: 99.95 % of the slopes of noise are below,
/// by Student's distribution with 13 or more degrees of freedom.
const SIGNIFICANT: f64 = 4.2;

impl DelayRecord {
    pub(super) fn new(query_type: Option<QueryType>) -> Self {
        Self { query_type, arrivals: vec![0; PARTS], nanos: vec![0; PARTS] }
    }

    /// Adds the delay of an arrival, which was due in a part of the test.
    pub(super) fn record(&mut self, part: usize, nanos: u64) {
        self.arrivals[part] += 1;
        self.nanos[part] = self.nanos[part].saturating_add(nanos);
    }

    /// Adds the measurements of another part of the load.
    pub(super) fn merge(&mut self, other: &Self) {
        let add = |sums: &mut [u64], others: &[u64]| {
            sums.iter_mut().zip(others).for_each(|(sum, other)| *sum = sum.saturating_add(*other));
        };
        add(&mut self.arrivals, &other.arrivals);
        add(&mut self.nanos, &other.nanos);
    }

    /// The mean delay in seconds of each part that has arrivals, by the index of the part.
    fn points(&self) -> Vec<(f64, f64)> {
        let parts = self.arrivals.iter().zip(&self.nanos).enumerate();
        let mean = |(part, (&arrivals, &nanos)): (usize, (&u64, &u64))| {
            (arrivals > 0).then(|| (part as f64, nanos as f64 / arrivals as f64 / 1e9))
        };
        parts.filter_map(mean).collect()
    }

    /// The mean delay in seconds at the start of the test: of the first quarter of the parts that have arrivals.
    pub(super) fn at_start(&self) -> Option<f64> {
        let points = self.points();
        let first = &points[..points.len().div_ceil(4)];
        (!first.is_empty()).then(|| first.iter().map(|(_, delay)| delay).sum::<f64>() / first.len() as f64)
    }

    /// The growth of the delay per second in a test of this duration in seconds, if it lasts until the end: if the slope
    /// over the test is significant, the smaller of this slope and that over the second half.
    pub(super) fn growth(&self, seconds: f64) -> Option<f64> {
        let points = self.points();
        if points.len() < MIN_POINTS {
            return None;
        }
        let slope = slope(&points).filter(Slope::is_significant)?;
        let second_half = self::slope(&points[points.len() / 2..])?;
        // A jump fits a steeper line, but a delay grows for long only as fast as the time.
        Some((slope.value.min(second_half.value) * PARTS as f64 / seconds).min(1.0))
    }
}

/// The slope of a straight line.
struct Slope {
    value: f64,
    standard_error: f64,
}

impl Slope {
    fn is_significant(&self) -> bool {
        self.value > self.standard_error * SIGNIFICANT
    }
}

/// The slope by least squares; `None` with fewer than three points.
fn slope(points: &[(f64, f64)]) -> Option<Slope> {
    if points.len() < 3 {
        return None;
    }
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let centred = || points.iter().map(|(x, y)| (x - mean_x, y - mean_y));
    let squares: f64 = centred().map(|(x, _)| x * x).sum();
    let value = centred().map(|(x, y)| x * y).sum::<f64>() / squares;
    let residual: f64 = centred().map(|(x, y)| (y - value * x).powi(2)).sum();
    Some(Slope { value, standard_error: (residual / (count - 2.0) / squares).sqrt() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The delays of a test, in milliseconds by part.
    fn delays(millis: impl Fn(usize) -> f64) -> DelayRecord {
        let mut delays = DelayRecord::new(None);
        for part in 0..PARTS {
            delays.record(part, (millis(part) * 1e6) as u64);
        }
        delays
    }

    #[test]
    fn a_slope_is_that_of_the_line_and_significant_beyond_the_noise() {
        let line: Vec<_> = (0..10).map(f64::from).map(|x| (x, 3.0 + 0.25 * x)).collect();
        let exact = slope(&line).unwrap();
        assert!((exact.value - 0.25).abs() < 1e-12 && exact.standard_error < 1e-9 && exact.is_significant());
        // Known values: the slope of 1, 3, 2, 5, 4 is 0.8 with the standard error 0.3464.
        let known = slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 2.0), (3.0, 5.0), (4.0, 4.0)]).unwrap();
        assert!((known.value - 0.8).abs() < 1e-12, "{}", known.value);
        assert!((known.standard_error - 0.346_410_161_5).abs() < 1e-9, "{}", known.standard_error);
        assert!(!known.is_significant());
        assert!(slope(&line[..2]).is_none());
    }

    #[test]
    fn the_growth_is_that_of_a_delay_which_grows_until_the_end() {
        // 10 s have 20 parts of 0.5 s: 10 ms a part are 20 ms a second.
        let grows = delays(|part| 50.0 + 10.0 * part as f64);
        assert!((grows.growth(10.0).unwrap() - 0.02).abs() < 1e-9);
        assert!((grows.at_start().unwrap() - 0.07).abs() < 1e-9);
        // The saw-tooth of batches, a delay that has settled, and a stall are no growth.
        assert_eq!(delays(|part| 50.0 + 20.0 * (part % 2) as f64).growth(10.0), None);
        assert_eq!(delays(|part| 50.0 + 10.0 * part.min(10) as f64).growth(10.0), Some(0.0));
        assert_eq!(delays(|part| if part == 19 { 900.0 } else { 50.0 }).growth(10.0), None);
    }

    #[test]
    fn parts_without_arrivals_have_no_delay() {
        let mut delays = DelayRecord::new(None);
        assert_eq!((delays.at_start(), delays.growth(1.0)), (None, None));
        for part in 3..17 {
            delays.record(part, 1_000_000 * part as u64);
        }
        // The parts 3 to 6 have 3 to 6 ms.
        assert!((delays.at_start().unwrap() - 0.0045).abs() < 1e-9);
        assert_eq!(delays.growth(20.0), None);
        let mut more = DelayRecord::new(None);
        more.record(17, 17_000_000);
        delays.merge(&more);
        assert!((delays.growth(20.0).unwrap() - 0.001).abs() < 1e-9);
    }
}
