//! The table of a comparison on standard output.

use broadside::compare::{Measurement, OperationResult, Results};
use broadside::measure::{Percentiles, Ratio};
use comfy_table::Table;

use crate::cli::format;
use crate::cli::table::{or_missing, table};

/// The meaning of the ratios and of the rows of groups, below the table and in the report.
pub const NOTE: &str = "\
÷ is the ratio of the medians and its 95 % interval, which requires five turns of each backend.
The memory engine keeps the totals of groups: repeated groups cost what was written since.
In the rows \"after a write\", a small batch of updates precedes each call and is not timed.";

/// A row for each operation, a column for each backend.
pub fn table_of(results: &Results) -> Table {
    let operations = results.operations.iter().flat_map(rows);
    table(1, header(results), operations.chain([sizes(results)]))
}

/// The rows of an operation: its times, and its rates if it has any.
pub fn rows(operation: &OperationResult) -> impl Iterator<Item = Vec<String>> {
    let has_rates = operation.measurements.iter().flatten().any(|measured| measured.rows_per_second.is_some());
    [Some(times(operation)), has_rates.then(|| rates(operation))].into_iter().flatten()
}

/// The first backend has one column, each other one a second column with the ratio to the first.
pub fn header(results: &Results) -> Vec<String> {
    let title = format!("{} jobs, seed {}", results.settings.workload.jobs, results.settings.workload.seed);
    let mut cells = vec![title, "rows".to_owned()];
    for (at, backend) in results.backends.iter().enumerate() {
        cells.push(format!("{}\nn: p50 · p95 · p99", backend.name));
        if at > 0 {
            cells.push(format!("÷ {}", results.backends[0].name));
        }
    }
    cells
}

fn times(operation: &OperationResult) -> Vec<String> {
    let rows = operation.measurements.iter().flatten().filter_map(|measured| measured.rows).max();
    let mut cells = vec![operation.name.clone(), rows.map_or_else(String::new, |rows| rows.to_string())];
    for (at, measured) in operation.measurements.iter().enumerate() {
        cells.push(or_missing(measured.as_ref(), percentiles));
        if at > 0 {
            cells.push(or_missing(operation.ratio(at), ratio));
        }
    }
    cells
}

/// The ratio and its interval: `1.23× 1.10–1.38`.
fn ratio(ratio: Ratio) -> String {
    let value = format::ratio(ratio.value);
    ratio
        .interval
        .map_or(value.clone(), |[low, high]| format!("{value} {}–{}", format::digits(low), format::digits(high)))
}

fn percentiles(measured: &Measurement) -> String {
    let Percentiles { p50_nanos, p95_nanos, p99_nanos, .. } = measured.times;
    let times = [Some(p50_nanos), p95_nanos, p99_nanos].map(|nanos| or_missing(nanos, format::time));
    format!("{}: {}", format::whole(measured.runs), times.join(" · "))
}

fn rates(operation: &OperationResult) -> Vec<String> {
    let rates = operation.measurements.iter().map(|measured| measured.as_ref()?.rows_per_second);
    row_with_ratios("  queries per second", rates, format::rate)
}

fn sizes(results: &Results) -> Vec<String> {
    let sizes = results.backends.iter().map(|backend| backend.bytes_per_job);
    row_with_ratios("bytes per job", sizes, |bytes| format!("{bytes:.0}"))
}

/// A row with one number for each backend and the ratios to the first.
fn row_with_ratios(
    name: &str,
    numbers: impl Iterator<Item = Option<f64>>,
    format_number: impl Fn(f64) -> String,
) -> Vec<String> {
    let mut cells = vec![name.to_owned(), String::new()];
    let mut first = None;
    for (at, number) in numbers.enumerate() {
        cells.push(or_missing(number, &format_number));
        if at == 0 {
            first = number;
        } else {
            let ratio = number.zip(first).filter(|&(_, first)| first > 0.0).map(|(number, first)| number / first);
            cells.push(or_missing(ratio, format::ratio));
        }
    }
    cells
}
