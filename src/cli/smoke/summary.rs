//! The table of a smoke test on standard output.

use std::fmt;

use broadside::BackendKind;
use broadside::measure::LatencyHistogram;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};

use crate::cli::format;

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
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        let headings = ["checked", "passed", "rows", "p50", "p95", "p99"].map(|heading| right(heading.to_owned()));
        table.set_header([Cell::new(&self.title)].into_iter().chain(headings));
        for row in &self.rows {
            let time = |nanos: Option<u64>| nanos.map_or_else(|| "–".to_owned(), format::time);
            let [p50, p95, p99] = match row.latencies.percentiles() {
                Some(times) => [Some(times.p50_nanos), times.p95_nanos, times.p99_nanos].map(time),
                None => Default::default(),
            };
            let rows = row.rows.map_or_else(String::new, |rows| rows.to_string());
            let cells = [row.tally.checked.to_string(), row.tally.passed.to_string(), rows, p50, p95, p99];
            table.add_row([Cell::new(&row.name)].into_iter().chain(cells.map(right)));
        }
        table.fmt(f)
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
