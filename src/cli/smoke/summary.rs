//! The table of a smoke test on standard output.

use std::fmt;

use broadside::BackendKind;
use broadside::measure::LatencyHistogram;

use crate::cli::format;
use crate::cli::table::{or_missing, table};

/// The number of checks and of passed checks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub checked: usize,
    pub passed: usize,
}

impl Tally {
    /// Counts a check. Returns whether it passed.
    pub fn count(&mut self, passed: bool) -> bool {
        self.checked += 1;
        self.passed += usize::from(passed);
        passed
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    pub tally: Tally,
    /// The maximum number of result rows, or of queries in a batch.
    pub rows: Option<usize>,
    pub latencies: LatencyHistogram,
}

/// The table.
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

    /// Returns true if all checks passed.
    pub fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.tally.passed == row.tally.checked)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = [&self.title, "checked", "passed", "rows", "p50", "p95", "p99"].map(str::to_owned);
        table(1, header.into(), self.rows.iter().map(Row::cells)).fmt(f)
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let Self { name, tally, rows, latencies } = self;
        let times = latencies.percentiles().map_or_else(Default::default, |times| {
            [Some(times.p50_nanos), times.p95_nanos, times.p99_nanos].map(|nanos| or_missing(nanos, format::time))
        });
        let rows = rows.map_or_else(String::new, |rows| rows.to_string());
        let counts = [tally.checked.to_string(), tally.passed.to_string(), rows];
        [name.clone()].into_iter().chain(counts).chain(times).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_check_fails_the_summary() {
        let mut summary = Summary::new(BackendKind::Memory, 10);
        assert!(summary.passed());
        let mut tally = Tally::default();
        tally.count(true);
        tally.count(false);
        summary.add(Row { name: "row".to_owned(), tally, rows: Some(3), latencies: LatencyHistogram::default() });
        assert!(!summary.passed());
        assert!(summary.to_string().contains("memory, 10 jobs"));
    }
}
