//! The table that the command prints.

use std::fmt;
use std::time::Duration;

use broadside::BackendKind;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};

/// How many things were checked, and how many were as they should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub checked: usize,
    pub passed: usize,
}

impl Tally {
    /// Counts a check and hands back whether it passed.
    pub fn count(&mut self, passed: bool) -> bool {
        self.checked += 1;
        self.passed += usize::from(passed);
        passed
    }
}

/// How long each run of a call took.
#[derive(Debug, Clone, Default)]
pub struct Timings(Vec<Duration>);

impl Timings {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }

    /// The times within which 50, 95 and 99 of 100 runs ended; none without runs.
    fn percentiles(&self) -> Option<[Duration; 3]> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        // The least time that is not less than so many of the times: the nearest rank.
        let nearest = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some([nearest(50)?, nearest(95)?, nearest(99)?])
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    pub tally: Tally,
    /// The most rows that a run gave, or the queries of a batch.
    pub rows: Option<usize>,
    pub timings: Timings,
}

/// What was checked and timed.
#[derive(Debug)]
pub struct Summary {
    title: String,
    rows: Vec<Row>,
}

impl Summary {
    pub fn new(backend: BackendKind, jobs: u64) -> Self {
        Self { title: format!("{backend}, {jobs} jobs"), rows: Vec::new() }
    }

    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Whether everything was as it should be.
    pub fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.tally.passed == row.tally.checked)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        let headings = ["checked", "passed", "rows", "p50", "p95", "p99"].map(|heading| right(heading.to_owned()));
        table.set_header([Cell::new(&self.title)].into_iter().chain(headings));
        for row in &self.rows {
            let [p50, p95, p99] = match row.timings.percentiles() {
                Some(times) => times.map(shown),
                None => Default::default(),
            };
            let rows = row.rows.map_or_else(String::new, |rows| rows.to_string());
            let cells = [row.tally.checked.to_string(), row.tally.passed.to_string(), rows, p50, p95, p99];
            table.add_row([Cell::new(&row.name)].into_iter().chain(cells.map(right)));
        }
        table.fmt(f)
    }
}

/// A time to three digits.
fn shown(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    let (value, unit) = match micros {
        below if below < 999.5 => (micros, "µs"),
        below if below < 999_500.0 => (micros / 1e3, "ms"),
        _ => (micros / 1e6, "s"),
    };
    let digits = match value {
        below if below < 9.995 => 2,
        below if below < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_the_fitting_unit() {
        let micros = |micros| shown(Duration::from_nanos(micros));
        assert_eq!(micros(1_234), "1.23 µs");
        assert_eq!(micros(999_499), "999 µs");
        assert_eq!(micros(999_500), "1.00 ms");
        assert_eq!(micros(12_345_678), "12.3 ms");
        assert_eq!(micros(123_456_789_000), "123 s");
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let timings = Timings((1..=100).rev().map(Duration::from_micros).collect());
        assert_eq!(timings.percentiles(), Some([50, 95, 99].map(Duration::from_micros)));
        assert_eq!(Timings(vec![Duration::from_micros(7)]).percentiles(), Some([Duration::from_micros(7); 3]));
        assert_eq!(Timings::default().percentiles(), None);
    }

    #[test]
    fn one_failed_check_fails_the_whole() {
        let mut summary = Summary::new(BackendKind::Memory, 10);
        assert!(summary.passed());
        let mut tally = Tally::default();
        tally.count(true);
        tally.count(false);
        summary.add(Row { name: "row".to_owned(), tally, rows: Some(3), timings: Timings::default() });
        assert!(!summary.passed());
        assert!(summary.to_string().contains("memory, 10 jobs"));
    }
}
