//! The table of a comparison on standard output.

use std::fmt;

use broadside::compare::{Measurement, OperationResult, Results};
use broadside::measure::{Percentiles, Ratio};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};

use crate::cli::format;

/// The meaning of the ratios and of the rows of groups, below the table and in the report.
pub const NOTE: &str = "\
÷ is the ratio of the medians and its 95 % interval, which requires five turns of each backend.
The memory engine keeps the totals of groups: repeated groups cost what was written since.
In the rows \"after a write\", a small batch of updates precedes each call and is not timed.";

/// A row for each operation, a column for each backend.
pub struct ResultsTable<'a>(pub &'a Results);

impl fmt::Display for ResultsTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(results) = self;
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        table.set_header(header(results));
        for operation in &results.operations {
            table.add_row(times(operation));
            if operation.measurements.iter().flatten().any(|measured| measured.rows_per_second.is_some()) {
                table.add_row(rates(operation));
            }
        }
        table.add_row(sizes(results));
        table.fmt(f)
    }
}

fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// The first backend has one column, each other one a second column with the ratio to the first.
fn header(results: &Results) -> Vec<Cell> {
    let title = format!("{} jobs, seed {}", results.settings.workload.jobs, results.settings.workload.seed);
    let mut cells = vec![Cell::new(title), right("rows")];
    for (at, backend) in results.backends.iter().enumerate() {
        cells.push(right(format!("{}\nn: p50 · p95 · p99", backend.name)));
        if at > 0 {
            cells.push(right(format!("÷ {}", results.backends[0].name)));
        }
    }
    cells
}

fn times(operation: &OperationResult) -> Vec<Cell> {
    let rows = operation.measurements.iter().flatten().filter_map(|measured| measured.rows).max();
    let mut cells = vec![Cell::new(&operation.name), right(rows.map_or_else(String::new, |rows| rows.to_string()))];
    for (at, measured) in operation.measurements.iter().enumerate() {
        cells.push(right(measured.as_ref().map_or_else(missing, percentiles)));
        if at > 0 {
            cells.push(right(operation.ratio(at).map_or_else(missing, ratio)));
        }
    }
    cells
}

/// The ratio and its interval: `1.23× 1.10–1.38`.
pub fn ratio(ratio: Ratio) -> String {
    let value = format::ratio(ratio.value);
    ratio
        .interval
        .map_or(value.clone(), |[low, high]| format!("{value} {}–{}", format::digits(low), format::digits(high)))
}

fn percentiles(measured: &Measurement) -> String {
    let Percentiles { p50_nanos, p95_nanos, p99_nanos, .. } = measured.times;
    let times = [Some(p50_nanos), p95_nanos, p99_nanos].map(|nanos| nanos.map_or_else(missing, format::time));
    format!("{}: {}", format::whole(measured.runs), times.join(" · "))
}

fn rates(operation: &OperationResult) -> Vec<Cell> {
    let rates = operation.measurements.iter().map(|measured| measured.as_ref()?.rows_per_second);
    row_with_ratios("  queries per second", rates, format::rate)
}

fn sizes(results: &Results) -> Vec<Cell> {
    let sizes = results.backends.iter().map(|backend| backend.bytes_per_job);
    row_with_ratios("bytes per job", sizes, |bytes| format!("{bytes:.0}"))
}

/// A row with one number for each backend and the ratios to the first.
fn row_with_ratios(
    name: &str,
    numbers: impl Iterator<Item = Option<f64>>,
    format_number: impl Fn(f64) -> String,
) -> Vec<Cell> {
    let mut cells = vec![Cell::new(name), right("")];
    let mut first = None;
    for (at, number) in numbers.enumerate() {
        cells.push(right(number.map_or_else(missing, &format_number)));
        if at == 0 {
            first = number;
        } else {
            let ratio = number.zip(first).filter(|&(_, first)| first > 0.0).map(|(number, first)| number / first);
            cells.push(right(ratio.map_or_else(missing, format::ratio)));
        }
    }
    cells
}

fn missing() -> String {
    "–".to_owned()
}
